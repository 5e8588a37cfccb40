"""Remarks on properties of a data set that may harm training or distort the metrics."""

from collections.abc import Iterator, Mapping

import numpy as np

from darkroom.collection.entries import BAD
from darkroom.dataset.info import DatasetInfo
from darkroom.decoding.colour import GREY_MODES
from darkroom.errors import listed
from darkroom.inputs import INPUT_WORDS
from darkroom.preparation.curation import Duplicates
from darkroom.preparation.duplicates import MAX_NEIGHBOURS, group_of
from darkroom.preparation.survey import Survey
from darkroom.preparation.targets.interface import prepared_target

IMBALANCE = 5
"""Maximum ratio of the training images of the largest and the smallest class."""
SMALL_CLASS = 20
"""Minimum number of images of a class that is not small."""
FEW_TO_MEASURE = 10
"""Minimum number of images in val or test to judge a class by."""
SMALL_VAL = 50
"""Minimum number of images in val to choose an epoch by."""
OUTLIERS = 0.05
"""Maximum fraction of the images that counts as outliers."""
MAX_NAMES = 10
"""Maximum number of classes in a remark."""
LARGE_GROUP = 0.05
"""Fraction of the images above which a group of duplicates is reported."""

_MISSHAPEN = {
    "stretch": "stretching distorts them",
    "crop": "cropping shows less than half of each",
    "pad": "padding makes more than half of each black",
}


def remarks(survey: Survey, info: DatasetInfo, duplicates: Duplicates) -> Iterator[str]:
    """Yield a remark on everything that a person should know before training."""
    num_bad = sum(survey.num_files.get(outcome, 0) for outcome in BAD)
    if num_bad:
        yield f"Files that could not be read as images: {num_bad:,}."
    yield from on_classes(info)
    yield from on_splits(info)
    yield from _on_duplicates(survey, duplicates)
    yield from _on_shapes(survey, info)


def on_classes(info: DatasetInfo) -> Iterator[str]:
    """Yield remarks on the sizes of the classes."""
    counts, several = info.counts["train"], INPUT_WORDS[info.input].several
    smallest, largest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[largest] > IMBALANCE * counts[smallest]:
        yield (
            f"The classes are unbalanced: {listed([largest])} has {counts[largest]:,} training"
            f" {several}, "
            f"{listed([smallest])} has {counts[smallest]:,}. Set {prepared_target(info.target).balance},"
            " and look at macro F1: accuracy hides the errors of rare classes."
        )
    totals = {
        name: sum(of_split[name] for of_split in info.counts.values()) for name in info.class_names
    }
    small = [name for name, count in totals.items() if count < SMALL_CLASS]
    if small:
        yield f"Classes with fewer than {SMALL_CLASS} {several}: {_counted(small, totals)}."
    without = sum(by_number[0] for by_number in info.labels_per_image.values() if by_number)
    if without:
        yield (
            f"{several.capitalize()} without a label: {without:,}. From these the model learns that"
            " none of the classes is present; check that no labels were forgotten."
        )


def on_splits(info: DatasetInfo) -> Iterator[str]:
    """Yield remarks on splits with few images of a class, or without any."""
    words = INPUT_WORDS[info.input]
    for split, of_split in info.counts.items():
        missing = [name for name, count in of_split.items() if count == 0]
        if missing:
            yield f"Classes without {words.a} in {split}: {listed(missing, MAX_NAMES)}."
        few = [name for name, count in of_split.items() if 0 < count < FEW_TO_MEASURE]
        if few and split != "train":
            yield (
                f"Classes with fewer than {FEW_TO_MEASURE} {words.several} in {split}: "
                f"{_counted(few, of_split)}. A single {words.one} changes their scores by over a tenth."
            )
    num_val = info.num_images("val")
    if num_val < SMALL_VAL:
        yield (
            f"{words.several.capitalize()} in val: {num_val:,}. The choice of the epoch depends on few "
            f"{words.several}; add some, or raise prepare.val_fraction if val is cut from train."
        )


def _counted(names: list[str], counts: Mapping[str, int]) -> str:
    """Return the first names, each with its count."""
    more = len(names) - MAX_NAMES
    shown = ", ".join(f"{listed([name])} ({counts[name]:,})" for name in names[:MAX_NAMES])
    return shown + (f" and {more:,} more" if more > 0 else "")


def _on_shapes(survey: Survey, info: DatasetInfo) -> Iterator[str]:
    num_images = len(survey.widths)
    height, width = info.input_size
    num_other = int(((survey.heights != height) | (survey.widths != width)).sum())
    if 0 < num_other <= OUTLIERS * num_images:
        yield (
            f"Images that do not have the {width} x {height} pixels of the others: {num_other:,} "
            f"of {num_images:,}. They are resized."
        )
    num_coloured = sum(count for _, mode, count in survey.formats if mode not in GREY_MODES)
    if info.channels == 3 and 0 < num_coloured <= OUTLIERS * num_images:
        yield (
            f"Images in colour: {num_coloured:,} of {num_images:,}. All others are grey; "
            "prepare.channels: 1 makes all of them grey, and training faster."
        )
    long = np.maximum(survey.widths, survey.heights) > 2 * np.minimum(survey.widths, survey.heights)
    if long.any():
        yield (
            f"Images with one side more than twice as long as the other: {long.sum():,}; "
            f"{_MISSHAPEN[info.resize]}."
        )


def _on_duplicates(survey: Survey, duplicates: Duplicates) -> Iterator[str]:
    first, second = duplicates.first, duplicates.second
    contradicting = survey.labels[first] != survey.labels[second]
    for pairs, kind in (
        (contradicting & (duplicates.difference == 0), "the same pixels"),
        (contradicting & (duplicates.difference > 0), "nearly the same pixels"),
    ):
        if pairs.any():
            yield f"Pairs with {kind} and different labels, one of which may be wrong: {pairs.sum():,}."
    groups = group_of(len(survey.splits), np.stack([first, second], axis=1))
    largest = int(np.bincount(groups, minlength=1).max())
    if largest > max(LARGE_GROUP * len(groups), 2):
        yield (
            f"Large group of duplicates: {largest:,} of {len(groups):,} images are connected, and get"
            " the same split. If these are different images, lower prepare.near_duplicates."
        )
    if duplicates.num_crowded:
        yield (
            "Images that resemble many others, of which only the"
            f" {MAX_NEIGHBOURS} closest were compared: {duplicates.num_crowded:,}. Some duplicates among"
            " them may have been missed."
        )
    if duplicates.num_look_alikes:
        yield (
            f"Pairs that look alike and differ in detail: {duplicates.num_look_alikes:,}. They count as "
            "different images; if they are frames of one scene, make the scene a group."
        )
    split, other = survey.splits[first], survey.splits[second]
    apart = (split >= 0) & (other >= 0) & (split != other)
    if apart.any():
        yield (
            f"Pairs of duplicates in different splits: {apart.sum():,}. Images that the model has seen "
            "are tested again, so the metrics are too good."
        )

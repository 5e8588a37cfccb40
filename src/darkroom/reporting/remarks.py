"""What of a data set may spoil a training, or the figures that come out of it, in sentences."""

from collections.abc import Iterator

import numpy as np

from darkroom.data.curation import Duplicates
from darkroom.data.duplicates import MAX_NEIGHBOURS, group_of
from darkroom.data.entries import BAD
from darkroom.data.info import DatasetInfo
from darkroom.errors import listed
from darkroom.reporting.survey import Survey

IMBALANCE = 10
"""The largest class may have this many times the images of the smallest."""
SMALL_CLASS = 20
"""A class with fewer images is called small."""
MAX_NAMES = 10
"""Classes that a sentence names."""
LARGE_GROUP = 0.05
"""A group of duplicates with a larger share of the images is worth a look."""

_MISSHAPEN = {
    "stretch": "stretching distorts them",
    "crop": "cropping shows less than half of each",
    "pad": "padding makes more than half of each black",
}


def remarks(survey: Survey, info: DatasetInfo, duplicates: Duplicates) -> Iterator[str]:
    """Yields a sentence for everything that a person should know before training."""
    num_bad = sum(survey.num_files.get(outcome, 0) for outcome in BAD)
    if num_bad:
        yield f"Files that could not be read as images: {num_bad:,}."
    yield from _on_classes(info)
    yield from _on_duplicates(survey, duplicates)
    long = np.maximum(survey.widths, survey.heights) > 2 * np.minimum(survey.widths, survey.heights)
    if long.any():
        yield (
            f"Images that are more than twice as long one way as the other: {long.sum():,}; "
            f"{_MISSHAPEN[info.resize]}."
        )


def _on_classes(info: DatasetInfo) -> Iterator[str]:
    counts = {
        name: sum(of_split[name] for of_split in info.counts.values()) for name in info.class_names
    }
    smallest, largest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[largest] > IMBALANCE * counts[smallest]:
        yield (
            f"The classes are unbalanced: {largest} has {counts[largest]:,} images, {smallest} has "
            f"{counts[smallest]:,}. Accuracy says little then; look at macro F1."
        )
    small = [f"{name} ({count})" for name, count in counts.items() if count < SMALL_CLASS]
    if small:
        yield f"Classes of fewer than {SMALL_CLASS} images: {listed(small, MAX_NAMES)}."
    without = sum(by_number[0] for by_number in info.labels_per_image.values() if by_number)
    if without:
        yield (
            f"Images without a label: {without:,}. The model learns from them that none of the classes"
            " is there; make sure that none was only forgotten."
        )
    for split, of_split in info.counts.items():
        missing = [name for name, count in of_split.items() if count == 0]
        if missing:
            yield f"Classes without an image in {split}: {listed(missing, MAX_NAMES)}."


def _on_duplicates(survey: Survey, duplicates: Duplicates) -> Iterator[str]:
    first, second = duplicates.first, duplicates.second
    contradicting = survey.labels[first] != survey.labels[second]
    for pairs, kind in (
        (contradicting & (duplicates.difference == 0), "the same pixels"),
        (contradicting & (duplicates.difference > 0), "nearly the same pixels"),
    ):
        if pairs.any():
            yield f"Pairs with {kind} and different labels, so that one may be wrong: {pairs.sum():,}."
    groups = group_of(len(survey.splits), np.stack([first, second], axis=1))
    largest = int(np.bincount(groups, minlength=1).max())
    if largest > max(LARGE_GROUP * len(groups), 2):
        yield (
            f"Duplicates that hang together: {largest:,} of {len(groups):,} images are one group, and go"
            " into one split. If they are rightly different, lower prepare.near_duplicates."
        )
    if duplicates.num_crowded:
        yield (
            f"Images with so many look-alikes that only the {MAX_NEIGHBOURS} nearest were compared: "
            f"{duplicates.num_crowded:,}. Some duplicates among them may have been missed."
        )
    split, other = survey.splits[first], survey.splits[second]
    apart = (split >= 0) & (other >= 0) & (split != other)
    if apart.any():
        yield (
            f"Pairs of duplicates that lie in different splits: {apart.sum():,}. What was trained on is "
            "measured again, and the figures flatter the model."
        )

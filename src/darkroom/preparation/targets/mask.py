"""Preparation of images with masks. For splits and counts, an image has the classes that it shows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.collection.labels import LabelSets
from darkroom.dataset.info import DatasetInfo
from darkroom.preparation.targets import several_labels
from darkroom.preparation.unsplit import Ints, Unsplit

balance = "train.class_weights: balanced"


def lacking(names: str, place: str) -> str:
    return (
        f"no mask in {place} that can be used shows the class {names}; add some, or remove the class"
        " from data.classes_file, or give its row the name of data.void"
    )


def stored(sets: LabelSets, index: int) -> Sequence[int]:
    return several_labels.stored(sets, index)


def keys(sets: LabelSets) -> NDArray[np.int64]:
    return several_labels.keys(sets)


def cut(images: Unsplit, pool: Ints, sizes: Sequence[int], seed: int) -> Ints:
    return several_labels.cut(images, pool, sizes, seed)


def fold(images: Unsplit, fold: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    return several_labels.fold(images, fold, seed)


def counts(info: DatasetInfo) -> dict[str, dict[str, int]]:
    """Return the number of pixels of each split, void excluded."""
    return {"num_pixels": {split: sum(info.pixels[split].values()) for split in SPLITS}}


def counts_by_label(info: DatasetInfo) -> dict[str, dict[str, dict[str, int]]]:
    """Return the number of images that show each class, and of its pixels, by split."""
    return {
        name: {
            class_name: {split: of_split[split][class_name] for split in SPLITS}
            for class_name in info.class_names
        }
        for name, of_split in (
            ("num_images_of_class", info.counts),
            ("num_pixels_of_class", info.pixels),
        )
    }


def average(info: DatasetInfo) -> str:
    return several_labels.average(info)


def labels_per_image(info: DatasetInfo) -> dict[int, list[int]]:
    return several_labels.labels_per_image(info)

"""The counts in metrics.json, and the line that the stage prints."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import get_args

from darkroom.collection.entries import SPLITS, Outcome
from darkroom.dataset.info import DatasetInfo
from darkroom.errors import counted
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision


def count(info: DatasetInfo, candidates: Candidates, decision: Decision) -> dict[str, dict[str, int]]:
    """Return the number of images by split, files by outcome, and pairs of duplicates.

    If images may have several labels, also the number of images with 0, 1, 2, ... labels.
    """
    final = candidates.outcomes.counts.copy()
    for outcome, _ in decision.excluded.values():
        final[outcome] += 1
        final["used"] -= 1
    same = int((decision.duplicates.difference == 0).sum())
    counts = {
        "num_images": {split: info.num_images(split) for split in SPLITS},
        "num_files": {outcome.replace(" ", "_"): final[outcome] for outcome in get_args(Outcome)},
        "num_pairs": {"same_pixels": same, "nearly_same_pixels": len(decision.duplicates) - same},
    }
    if info.multi_label:
        by_number = map(sum, zip_longest(*info.labels_per_image.values(), fillvalue=0))
        counts["num_images_by_labels"] = {str(number): images for number, images in enumerate(by_number)}
    return counts


def count_by_label(info: DatasetInfo) -> dict[str, dict[str, dict[str, int]]]:
    """Return the number of images of each label by split; empty if images have one label each."""
    if not info.multi_label:
        return {}
    return {
        "num_images_of_label": {
            name: {split: info.counts[split][name] for split in SPLITS} for name in info.class_names
        }
    }


def summarise(info: DatasetInfo, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return one line on what was prepared and what was excluded."""
    images, files, pairs = counts["num_images"], counts["num_files"], counts["num_pairs"]
    height, width = info.input_size
    excluded = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in files.items()
        if name != "used" and count
    ]
    num_labels = sum(sum(of_split.values()) for of_split in info.counts.values())
    average = f", {num_labels / sum(images.values()):.2f} per image," if info.multi_label else ""
    alike = [
        f"{counted(count, 'pair')} with {name.replace('_', ' ')}"
        for name, count in pairs.items()
        if count
    ]
    return (
        f"prepare: {sum(images.values()):,} images of {len(info.class_names)} classes{average} as"
        f" {height} x {width} x {info.channels}: "
        + ", ".join(f"{images[split]:,} {split}" for split in SPLITS)
        + (f"; excluded: {', '.join(excluded)}" if excluded else "")
        + (f"; {', '.join(alike)}" if alike else "")
    )

"""The counts in metrics.json, and the line that the stage prints."""

from collections.abc import Mapping
from typing import get_args

from darkroom.collection.entries import SPLITS, Outcome
from darkroom.dataset.info import DatasetInfo
from darkroom.errors import counted
from darkroom.inputs import INPUT_WORDS
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision
from darkroom.preparation.inputs.interface import prepared_input
from darkroom.preparation.targets.interface import prepared_target


def count(info: DatasetInfo, candidates: Candidates, decision: Decision) -> dict[str, dict[str, int]]:
    """Return the number of images by split, files by outcome, and pairs of duplicates.

    Also what ``PreparedTarget.counts`` returns.
    """
    final = candidates.outcomes.counts.copy()
    for outcome, _ in decision.excluded.values():
        final[outcome] += 1
        final["used"] -= 1
    same = int((decision.duplicates.difference == 0).sum())
    return {
        "num_images": {split: info.num_images(split) for split in SPLITS},
        "num_files": {outcome.replace(" ", "_"): final[outcome] for outcome in get_args(Outcome)},
        "num_pairs": {"same_pixels": same, "nearly_same_pixels": len(decision.duplicates) - same},
        **prepared_target(info.target).counts(info),
    }


def summarise(info: DatasetInfo, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return one line on what was prepared and what was excluded."""
    images, files, pairs = counts["num_images"], counts["num_files"], counts["num_pairs"]
    excluded = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in files.items()
        if name != "used" and count
    ]
    words = INPUT_WORDS[info.input]
    average = prepared_target(info.target).average(info)
    alike = [
        f"{counted(count, 'pair')} with {name.replace('_', ' ').replace('pixels', words.content)}"
        for name, count in pairs.items()
        if count
    ]
    return (
        f"prepare: {sum(images.values()):,} {words.several} of {len(info.class_names)}"
        f" classes{average} as {prepared_input(info.input).size(info)}: "
        + ", ".join(f"{images[split]:,} {split}" for split in SPLITS)
        + (f"; excluded: {', '.join(excluded)}" if excluded else "")
        + (f"; {', '.join(alike)}" if alike else "")
    )

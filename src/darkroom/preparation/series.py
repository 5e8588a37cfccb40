"""Remarks on groups, and on files that look like frames of a sequence."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from darkroom.collection.entries import SPLITS
from darkroom.errors import counted
from darkroom.inputs import INPUT_WORDS
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision
from darkroom.preparation.sequences import CHANCE, Series, count_mates, find_series


def series_remarks(candidates: Candidates, decision: Decision) -> Iterator[str]:
    """Yield remarks on test images with an image of their group or sequence in train."""
    splits = decision.splits
    if (candidates.groups >= 0).any():
        yield on_groups(candidates, decision)
    table = candidates.collection.table
    paths = table["path"].take(pa.array(candidates.rows)).combine_chunks()
    by_folders = candidates.collection.is_labelled_by_folders
    has_split_folders = by_folders and bool((candidates.given >= 0).any())
    labels = candidates.labels
    if candidates.masks is not None:
        labels = np.zeros_like(labels)  # nearly each mask shows another set of classes
    series = find_series(paths, labels, splits, candidates.hashes, has_split_folders)
    if series is not None:
        yield _on_series(series, candidates, decision)


def on_groups(candidates: Candidates, decision: Decision) -> str:
    """Return a remark on the groups, and on test images with an image of their group in train."""
    words = INPUT_WORDS[candidates.collection.input]
    used = decision.splits >= 0
    grouped = used & (candidates.groups >= 0)
    num_groups = len(np.unique(candidates.groups[grouped]))
    alone = int((used & ~grouped).sum())
    num_test = int((decision.splits == SPLITS.index("test")).sum())
    mates = count_mates(candidates.groups, decision.splits)
    return (
        f"Groups that are not split: {num_groups:,}, with {counted(int(grouped.sum()), words.one)}"
        + (f"; {words.several} without a group, each on its own: {alone:,}" if alone else "")
        + f". Test {words.several} with {words.a} of their group in train: {mates:,} of {num_test:,}."
    )


def _on_series(series: Series, candidates: Candidates, decision: Decision) -> str:
    one, other = (
        f"{candidates.path(index)} ({SPLITS[decision.splits[index]]})" for index in series.example
    )
    return (
        "Consecutively numbered files look alike, as frames of a video do:"
        f" {series.share_alike:.0%} of {series.num_neighbours:,} neighbours ({CHANCE:.0%} by chance),"
        f" for example {one} and {other}. Test images with an image of their sequence in train:"
        f" {series.num_mates:,} of {series.num_test:,} ({series.num_mates / series.num_test:.1%});"
        " for these the test measures memory. If the files are frames, set data.group_pattern:"
        f" '{series.pattern}' ({series.num_groups:,} groups)."
    )

"""The page that ``prepare`` writes when it stops: every mistake, with pictures of its pairs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.collection.trouble import Trouble
from darkroom.errors import counted
from darkroom.preparation.candidates import Candidates
from darkroom.reporting.page import write_page
from darkroom.reporting.shown import Shown, thumbnail

MAX_PAIRS = 40
"""Maximum number of pairs shown for each kind of mistake."""


def write_trouble_page(troubles: Iterable[Trouble], candidates: Candidates, path: Path) -> None:
    """Write an HTML page with everything that stopped ``prepare``."""
    found = list(troubles)
    write_page(
        Path(__file__).with_name("trouble_page.html.j2"),
        path,
        title="Not prepared",
        subtitle=f"{candidates.collection.files.name}: what stopped prepare, and how to fix it.",
        headline=[
            (trouble.title, counted(len(trouble.pairs), "pair") if len(trouble.pairs) else "stopped")
            for trouble in found
        ],
        remarks=[],
        troubles=[(trouble, list(_pictures(trouble, candidates))) for trouble in found],
        lists=[name for name in ("problems.csv", "duplicates.csv") if (path.parent / name).exists()],
    )


def _pictures(trouble: Trouble, candidates: Candidates) -> Iterator[tuple[Shown, Shown, float]]:
    for pair, difference in zip(trouble.pairs[:MAX_PAIRS], trouble.differences.tolist(), strict=False):
        first, second = (_show(candidates, index) for index in pair.tolist())
        yield first, second, difference


def _show(candidates: Candidates, index: int) -> Shown:
    pixels: NDArray[np.uint8] = candidates.pixels(np.array([index]))[0]
    split = int(candidates.given[index])
    return Shown(
        thumbnail(pixels),
        candidates.path(index),
        candidates.label(index),
        SPLITS[split] if split >= 0 else None,
        outcome="",
    )

"""The corpus of bad and odd files through the whole of ``prepare``: no file without its outcome."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from corpus import Case, make_corpus
from numpy.typing import NDArray
from preparation import Prepared, prepare

from darkroom.collection.entries import BAD, SPLITS, Outcome
from darkroom.collection.folder import as_text
from darkroom.errors import UserError

# pytest sets aside the filters that decode.py installs
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

SIDE = 64


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("corpus") / "files"
    return folder, make_corpus(folder)


@pytest.fixture(scope="module", params=[False, True], ids=["", "tiff"])
def prepared(
    request: pytest.FixtureRequest,
    corpus: tuple[Path, list[Case]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Prepared, dict[str, Case]]:
    """What was left, and the cases by path, with the outcome that they must have here."""
    folder, cases = corpus
    out = tmp_path_factory.mktemp("out")
    options = {"image_size": SIDE, "channels": 3, "on_bad_image": "skip", "tiff": request.param}
    if request.param:
        cases = [replace(case, outcome=case.outcome_with_tiff) for case in cases]
    return prepare(folder, out, **options), {case.path: case for case in cases}


Both = tuple[Prepared, dict[str, Case]]


def test_every_file_has_the_outcome_that_it_must_have(prepared: Both) -> None:
    left, cases = prepared
    assert left.outcomes == {path: case.outcome for path, case in cases.items()}
    assert len(cases) >= 250


def test_the_files_are_those_that_are_on_disk(prepared: Both, corpus: tuple[Path, list[Case]]) -> None:
    left, _ = prepared
    folder, _ = corpus
    on_disk = [
        as_text(os.path.relpath(os.path.join(parent, name), folder))
        for parent, _, names in os.walk(folder)
        for name in names
    ]
    assert sorted(left.rows) == sorted(on_disk)


def test_what_is_not_used_says_why(prepared: Both) -> None:
    left, cases = prepared
    for path, row in left.rows.items():
        assert row["outcome"] not in BAD or row["reason"], path
    assert {row["path"] for row in left.problems} == {
        path for path, case in cases.items() if case.outcome != "used"
    }


def test_numbers_add_up(prepared: Both) -> None:
    left, cases = prepared
    files = left.counts["num_files"]
    expected = [case.outcome for case in cases.values()]
    assert files == {name.replace(" ", "_"): expected.count(name) for name in get_args(Outcome)}
    assert sum(left.counts["num_images"].values()) == files["used"] == len(left.pixels)


def corners(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Returns a piece of each quadrant, away from its edges: ``(4, 8, 8, 3)``."""
    near, far = slice(4, 12), slice(SIDE - 12, SIDE - 4)
    return np.stack([pixels[rows, columns] for rows in (near, far) for columns in (near, far)])


def wrong(case: Case, prepared: bytes) -> int:
    """Returns by how much prepared pixels miss what the file shows, 0 if they are within tolerance."""
    expected, _ = replace(case, width=SIDE, height=SIDE).expected()
    pixels = np.frombuffer(prepared, np.uint8).reshape(SIDE, SIDE, 3)
    difference = np.abs(corners(pixels) - corners(expected)).max()
    return int(difference) if difference > case.tolerance else 0


def shown(prepared: Both) -> Iterator[tuple[Case, bytes]]:
    left, cases = prepared
    for path, pixels in left.pixels.items():
        # a picture of so few pixels has no plain quadrants once it is larger
        if (case := cases[path]).quadrants and (min(case.width, case.height) > 3 or case.width == 1):
            yield case, pixels


def test_every_image_is_the_one_in_its_file(prepared: Both) -> None:
    seen = {case.kind: wrong(case, pixels) for case, pixels in shown(prepared)}
    assert seen == dict.fromkeys(seen, 0)
    assert len(seen) > 110


def test_another_image_in_its_place_would_be_noticed(prepared: Both) -> None:
    pairs = list(shown(prepared))
    for (case, _), (other, pixels) in zip(pairs, [*pairs[1:], pairs[0]], strict=True):
        assert wrong(case, pixels) or case.quadrants == other.quadrants, case.kind


def test_labels_and_sizes_are_those_of_the_files(prepared: Both) -> None:
    left, cases = prepared
    for path, row in left.rows.items():
        if row["outcome"] == "used":
            case = cases[path]
            assert row["label"] == path.split("/")[0]
            assert (row["width"], row["height"], row["animated"]) == (
                case.width,
                case.height,
                case.animated,
            )
    for split in SPLITS:
        shards = left.shards(split)
        names = [left.info.class_names[label] for label in shards.labels]
        assert names == [path.split("/")[0] for path in shards.paths]


def test_without_skip_the_message_counts_every_kind(
    corpus: tuple[Path, list[Case]], tmp_path: Path
) -> None:
    folder, cases = corpus
    with pytest.raises(UserError) as refused:
        prepare(folder, tmp_path, image_size=SIDE, channels=3, on_bad_image="error")
    outcomes = [case.outcome for case in cases]
    lines = str(refused.value).splitlines()
    bad = [outcome for outcome in BAD if outcome in outcomes]
    assert f" {sum(map(outcomes.count, bad))} of {len(cases)} files " in lines[0]
    for line, outcome in zip(lines[1:-1], bad, strict=True):
        assert line.startswith(f"  {outcomes.count(outcome)} {outcome}, the first: ")

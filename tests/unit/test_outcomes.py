"""What became of every file: the message, problems.csv, and a row for each file found."""

import hashlib
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from preparation import make_config, prepare, read_csv

from darkroom.collection import entry_table
from darkroom.collection.collection import find_collection
from darkroom.collection.entries import BAD, SPLITS, Outcome
from darkroom.decoding.decode import PixelLayout
from darkroom.errors import UserError
from darkroom.preparation import outcomes as outcomes_module
from darkroom.preparation.candidates import Candidates, select_candidates
from darkroom.preparation.ingest import ingest
from darkroom.preparation.measures import perceptual_hash

ODD = {
    "cat/empty.png": "empty",
    "cat/void.jpg": "empty",
    "cat/words.jpg": "not an image",
    "dog/cut.png": "truncated",
    "dog/damaged.png": "unreadable",
    "dog/huge.ppm": "too large",
    "dog/nowhere.png": "missing",
    "dog/out.png": "outside",
    "dog/.DS_Store": "hidden",
    "labels.txt": "unlisted",
    "cat/notes.txt": "sidecar",
    "dog/1.XML": "sidecar",
    "dog/none.json": "sidecar",
}
"""What ``make`` plants beside the good images, and what must become of it."""
GOOD = [f"{label}/{index}.png" for label in ("cat", "dog") for index in range(6)]
HARMLESS = ("hidden", "unlisted", "sidecar")
"""Outcomes that stop nothing."""


def make(folder: Path, odd: list[str] | None = None) -> Path:
    """Makes two classes of six good images, and the odd files (all, or those named)."""
    random = np.random.default_rng(0)
    for path in GOOD:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(folder / path)
    good = (folder / GOOD[0]).read_bytes()
    pixels = good.index(b"IDAT") + 10
    (folder.parent / "elsewhere.png").write_bytes(good)
    contents = {
        "cat/empty.png": b"",
        "cat/void.jpg": b"",
        "cat/words.jpg": b"words, no pixels",
        "dog/cut.png": good[: pixels + 5],
        "dog/damaged.png": good[:pixels] + bytes([good[pixels] ^ 255]) + good[pixels + 1 :],
        "dog/huge.ppm": b"P6 50000 50000 255\n" + bytes(99),
        "dog/nowhere.png": "no such file.png",
        "dog/out.png": "../../elsewhere.png",
        "dog/.DS_Store": b"Bud1",
        "labels.txt": b"cat, dog",
        "cat/notes.txt": b"a cat",
        "dog/1.XML": b"<annotation/>",
        "dog/none.json": b"",
    }
    for path in odd if odd is not None else ODD:
        content = contents[path]
        if isinstance(content, str):
            (folder / path).symlink_to(content)
        else:
            (folder / path).write_bytes(content)
    return folder


def prepare_all(folder: Path, out: Path, **options: object) -> dict[str, str]:
    """Prepares all that can be used; returns the outcome of each path."""
    return prepare(folder, out, image_size=4, channels=3, on_bad_image="skip", **options).outcomes


def refusal(folder: Path, out: Path, **options: object) -> str:
    with pytest.raises(UserError) as refused:
        prepare(folder, out, **{"image_size": 4, "channels": 3, "on_bad_image": "error"} | options)
    return str(refused.value)


def files_below(folder: Path) -> list[str]:
    """Lists as the operating system does."""
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    )


# on_bad_image: error


def test_one_message_counts_each_kind_and_names_its_first(tmp_path: Path) -> None:
    folder = make(tmp_path / "images")
    first, *lines, last = refusal(folder, tmp_path / "out").splitlines()
    assert first == (
        f"data.path: 8 of 25 files in {folder} cannot be used; all are listed in "
        f"{tmp_path / 'out/problems.csv'}:"
    )
    reasons = {row["path"]: row["reason"] for row in read_csv(tmp_path / "out/problems.csv")}
    assert lines == [
        f"  {number} {ODD[path]}, the first: {path}: {reasons[path]}"
        for path, number in {
            "cat/empty.png": 2,
            "cat/words.jpg": 1,
            "dog/cut.png": 1,
            "dog/damaged.png": 1,
            "dog/huge.ppm": 1,
            "dog/nowhere.png": 1,
            "dog/out.png": 1,
        }.items()
    ]
    assert all(reasons[path] for path, outcome in ODD.items() if outcome in BAD)
    assert last == "Repair or remove them, or set prepare.on_bad_image: skip to exclude them"


@pytest.mark.parametrize("path", [path for path, outcome in ODD.items() if outcome in BAD])
def test_a_single_bad_file_stops(tmp_path: Path, path: str) -> None:
    message = refusal(make(tmp_path / "images", [path]), tmp_path / "out")
    assert f"1 of 13 files in {tmp_path / 'images'} cannot be used" in message
    assert f"  1 {ODD[path]}, the first: {path}: " in message


@pytest.mark.parametrize("odd", [[], [p for p, outcome in ODD.items() if outcome in HARMLESS]])
def test_hidden_and_unlisted_files_and_sidecars_do_not_stop(tmp_path: Path, odd: list[str]) -> None:
    folder = make(tmp_path / "images", odd)
    prepared = prepare(folder, tmp_path / "out", image_size=4, channels=3, on_bad_image="error")
    assert prepared.outcomes == dict.fromkeys(GOOD, "used") | {path: ODD[path] for path in odd}


def test_an_image_under_the_name_of_a_sidecar_is_used_and_a_listed_one_must_be_an_image(
    tmp_path: Path,
) -> None:
    folder = make(tmp_path / "images", [])
    (folder / "cat/0.png").rename(folder / "cat/0.txt")
    (folder / "dog/0.txt").write_text("a dog")
    prepared = prepare(folder, tmp_path / "out", image_size=4, channels=3, on_bad_image="error")
    assert prepared.outcomes["cat/0.txt"] == "used"
    assert prepared.outcomes["dog/0.txt"] == "sidecar"
    assert prepared.counts["num_files"]["sidecar"] == 1
    rows = [f"{path.relative_to(folder)},{path.parent.name}\n" for path in sorted(folder.glob("*/*"))]
    (folder / "labels.csv").write_text("path,label\n" + "".join(rows))
    listed = refusal(folder, tmp_path / "listed", manifest="labels.csv")
    assert "1 not an image, the first: dog/0.txt: " in listed


# problems.csv and the manifest


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_problems_lists_each_file_that_is_not_used_once(tmp_path: Path, policy: str) -> None:
    folder = make(tmp_path / "images")
    if policy == "error":
        refusal(folder, tmp_path / "out")
    else:
        prepare_all(folder, tmp_path / "out")
    problems = read_csv(tmp_path / "out/problems.csv")
    assert [(row["path"], row["outcome"]) for row in problems] == sorted(ODD.items())
    labels = {row["path"]: row["label"] for row in problems}
    is_classed = {path: path.count("/") == 1 and "/." not in path for path in ODD}
    assert labels == {path: path[:3] if is_classed[path] else "" for path in ODD}


def test_every_file_has_exactly_one_outcome(tmp_path: Path) -> None:
    folder = make(tmp_path / "images")
    prepared = prepare(folder, tmp_path / "out", image_size=4, channels=3, on_bad_image="skip")
    assert sorted(prepared.rows) == files_below(folder)
    assert prepared.outcomes == dict.fromkeys(GOOD, "used") | ODD
    assert list(prepared.rows) == sorted(prepared.rows)
    expected = Counter(prepared.outcomes.values())
    assert prepared.counts["num_files"] == {
        outcome.replace(" ", "_"): expected[outcome] for outcome in get_args(Outcome)
    }
    assert sum(prepared.counts["num_files"].values()) == len(files_below(folder))


def test_every_member_of_a_tar_has_exactly_one_outcome(tmp_path: Path) -> None:
    folder = make(tmp_path / "images")
    (tmp_path / "names").write_text("\n".join(files_below(folder)))
    subprocess.run(["tar", "-cf", "images.tar", "-C", folder, "-T", "names"], cwd=tmp_path, check=True)
    done = subprocess.run(
        ["tar", "-tf", "images.tar"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    outcomes = prepare_all(tmp_path / "images.tar", tmp_path / "out")
    assert sorted(outcomes) == sorted(done.stdout.split("\n")[:-1])
    assert outcomes == dict.fromkeys(GOOD, "used") | ODD


def test_a_name_with_anything_in_it_stays_one_row(tmp_path: Path) -> None:
    folder = make(tmp_path / "images", [])
    odd = ['a"b,c;d.jpg', "two\nlines.jpg", " spaces ", "\u05ea.jpg", "'=1+1"]
    for name in odd:
        (folder / "cat" / name).write_bytes(b"")
    outcomes = prepare_all(folder, tmp_path / "out")
    problems = read_csv(tmp_path / "out/problems.csv")
    names = sorted(f"cat/{name}" for name in odd)
    assert [row["path"] for row in problems] == names
    assert {path for path, outcome in outcomes.items() if outcome == "empty"} == set(names)


def test_where_every_file_is_used_there_are_no_problems(tmp_path: Path) -> None:
    prepare_all(make(tmp_path / "images", []), tmp_path / "out")
    assert (tmp_path / "out/problems.csv").read_text() == '"path","label","outcome","reason"\n'


def test_nothing_is_put_in_the_place_of_a_bad_image(tmp_path: Path) -> None:
    with_bad = make(tmp_path / "bad")
    without = make(tmp_path / "good", [])
    options = {"image_size": 4, "channels": 3, "on_bad_image": "skip"}
    prepared = prepare(with_bad, tmp_path / "one", **options)
    assert prepared.pixels == prepare(without, tmp_path / "two", **options).pixels
    for path, pixels in prepared.pixels.items():
        assert pixels == np.asarray(Image.open(with_bad / path)).tobytes()


def test_what_reading_brings_counts_more_than_what_the_listing_said(tmp_path: Path) -> None:
    folder = make(tmp_path / "images", ["cat/empty.png"])
    paths = [*GOOD, GOOD[0], "cat/empty.png", "cat/empty.png"]
    lines = [f"{path},{path[:3]}" for path in paths]
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]))
    options = {"image_size": 4, "channels": 3, "on_bad_image": "skip"}
    rows = prepare(folder, tmp_path / "out", manifest="list.csv", **options).rows
    reasons = {path: row["reason"] for path, row in rows.items()}
    assert reasons == dict.fromkeys(GOOD, "") | {
        GOOD[0]: "listed 2 times",
        "cat/empty.png": "empty file",
        "list.csv": "the manifest",
    }


# Collections with too little that is good


def test_a_class_of_bad_files_alone_is_refused_by_name(tmp_path: Path) -> None:
    folder = make(tmp_path / "images", [])
    (folder / "owl").mkdir()
    (folder / "owl/1.png").write_bytes(b"")
    (folder / "owl/2.png").write_bytes(b"words")
    message = refusal(folder, tmp_path / "out", on_bad_image="skip")
    assert message == (
        f"data.path: no file of the class owl in {folder} is a readable image; add some, or remove the "
        "class"
    )


def test_a_class_with_some_good_files_is_not_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "images", [path for path in ODD if path.startswith("dog")])
    assert Counter(prepare_all(folder, tmp_path / "out").values())["used"] == len(GOOD)


@pytest.mark.parametrize("image_size", [4, "auto"])
def test_where_nothing_is_readable_all_is_refused(tmp_path: Path, image_size: int | str) -> None:
    folder = make(tmp_path / "images", [])
    for path in GOOD:
        (folder / path).write_bytes(b"words")
    message = refusal(folder, tmp_path / "out", image_size=image_size, on_bad_image="skip")
    assert message.startswith("data.path: none of the files ")
    assert message.endswith("is a readable image")


# What is known of the images


def read(folder: Path, scratch: Path, **options: Any) -> Candidates:
    config = make_config(folder, **options)
    scratch.mkdir()
    found = find_collection(config.data, scratch)
    layout = PixelLayout(4, 4, 3, "stretch")
    images = ingest(found, layout, "decoded", False, scratch, 1, lambda _: None)
    return select_candidates(found, images)


def test_candidates_are_the_readable_images(tmp_path: Path) -> None:
    folder = make(tmp_path / "images")
    candidates = read(folder, tmp_path / "scratch")
    num_images = len(GOOD)
    paths = sorted(files_below(folder))
    pixels = [np.asarray(Image.open(folder / path)) for path in GOOD]
    digests = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
    assert len(candidates) == num_images
    assert candidates.class_names == ["cat", "dog"]
    assert candidates.rows.tolist() == [paths.index(path) for path in GOOD]
    assert candidates.labels.tolist() == [0] * 6 + [1] * 6
    assert candidates.digests.tobytes() == b"".join(digest[:8] for digest in digests)
    assert np.array_equal(candidates.hashes, perceptual_hash(np.stack(pixels)))
    assert [candidates.path(index) for index in range(num_images)] == GOOD
    assert candidates.given.tolist() == candidates.groups.tolist() == [-1] * num_images
    assert candidates.weights.tolist() == [1.0] * num_images
    some = np.array([0, 5, 6, 11])
    assert list(candidates.paths(some)) == [GOOD[index] for index in some]
    assert np.array_equal(candidates.pixels(some), [pixels[index] for index in some])
    assert candidates.pixel_digests(some) == b"".join(digests[index] for index in some)
    content = candidates.content(np.zeros(num_images, bool))
    assert content.stored(int(candidates.reads[7])).to_pybytes() == pixels[7].tobytes()


def test_candidates_have_what_the_manifest_says(tmp_path: Path) -> None:
    folder = make(tmp_path / "images")
    said = [("b", "train", "z", 2), ("a", "", "", ""), ("a", "test", "y", 0.25), ("b", "val", "z", "")]
    listed = ("cat/0.png", "cat/empty.png", "dog/3.png", "dog/5.png")
    lines = [",".join(map(str, (path, *row))) for path, row in zip(listed, said, strict=True)]
    (folder / "list.csv").write_text("path,label,split,group,weight\n" + "\n".join(lines))
    columns = {f"{name}_column": name for name in ("split", "group", "weight")}
    candidates = read(folder, tmp_path / "scratch", manifest="list.csv", **columns)
    assert [candidates.path(index) for index in range(3)] == ["cat/0.png", "dog/3.png", "dog/5.png"]
    assert candidates.class_names == ["a", "b"]
    assert candidates.labels.tolist() == [1, 0, 1]
    assert [SPLITS[split] for split in candidates.given] == ["train", "test", "val"]
    assert candidates.group_names == ["y", "z"]
    assert candidates.groups.tolist() == [1, 0, 1]
    assert candidates.weights.tolist() == [2, 0.25, 1]


def test_how_many_rows_are_held_at_once_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "images")
    options = {"image_size": 4, "channels": 3, "on_bad_image": "skip"}
    at_once = prepare(folder, tmp_path / "one", **options)
    monkeypatch.setattr(entry_table, "BATCH", 4)
    monkeypatch.setattr(outcomes_module, "BATCH", 3)
    in_pieces = prepare(folder, tmp_path / "two", **options)
    assert in_pieces.rows == at_once.rows
    assert in_pieces.problems == at_once.problems
    assert in_pieces.info == at_once.info
    assert in_pieces.pixels == at_once.pixels


# several labels in a manifest


def make_listed(folder: Path) -> Path:
    """Lists the good images, ``cat/0.png`` under two labels."""
    make(folder, odd=[])
    lines = ["path,label", *(f"{path},{path.split('/')[0]}" for path in GOOD), "cat/0.png,dog"]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_a_path_with_several_labels_stops_prepare(tmp_path: Path) -> None:
    folder = make_listed(tmp_path / "images")
    for on_bad_image in ("error", "skip"):
        message = refusal(folder, tmp_path / "out", manifest="labels.csv", on_bad_image=on_bad_image)
        assert "1 of 13 files" in message
        assert "1 conflicting label, the first: cat/0.png: its label is cat (line 2), dog" in message
        assert message.endswith("or set prepare.on_conflict: drop to exclude them")


def test_a_path_with_several_labels_can_be_left_out(tmp_path: Path) -> None:
    folder = make_listed(tmp_path / "images")
    outcomes = prepare_all(folder, tmp_path / "out", manifest="labels.csv", on_conflict="drop")
    assert outcomes.pop("cat/0.png") == "conflicting label"
    assert outcomes.pop("labels.csv") == "unlisted"
    assert set(outcomes.values()) == {"used"}
    assert len(outcomes) == len(GOOD) - 1


def test_bad_files_and_conflicts_name_both_remedies(tmp_path: Path) -> None:
    folder = make_listed(tmp_path / "images")
    (folder / "dog/5.png").write_bytes(b"")
    message = refusal(folder, tmp_path / "out", manifest="labels.csv")
    assert "prepare.on_bad_image: skip and prepare.on_conflict: drop" in message

"""A prepare that stops: everything is told in one run, with a page of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from planted import photographs
from preparation import prepare, read_csv
from test_curation import candidates, duplicates
from test_preparation_report import Node, parse

from darkroom.collection.labels import make_label_sets
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.errors import UserError
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.curation import curate
from darkroom.preparation.trouble_page import MAX_PAIRS, write_trouble_page

PHOTOGRAPHS = photographs(30, 32, seed=6)


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for path, pixels in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / path)
    return folder


def troubled(folder: Path) -> Path:
    """Given splits with a torn file, a conflict, a leak, a class of bad files, and one of two images."""
    images = {
        f"{split}/{label}/{i}.png": PHOTOGRAPHS[8 * (label == "dog") + i + 4 * (split == "test")]
        for split in ("train", "test")
        for label in ("cat", "dog")
        for i in range(4)
    }
    images |= {
        "train/dog/conflict.png": PHOTOGRAPHS[0],
        "train/cat/leak.png": PHOTOGRAPHS[5],
        "train/ant/1.png": PHOTOGRAPHS[20],
    }
    save(folder, images)
    (folder / "train/cat/torn.png").write_bytes((folder / "train/cat/0.png").read_bytes()[:900])
    (folder / "train/owl").mkdir()
    (folder / "train/owl/1.png").write_bytes(b"words")
    return folder


def refusal(folder: Path, out: Path, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        prepare(folder, out, **{"image_size": 32, "channels": 3} | options)
    return str(refused.value)


def test_one_run_tells_of_files_classes_conflicts_leaks_and_splits(tmp_path: Path) -> None:
    folder = troubled(tmp_path / "images")
    first, files, class_of_bad, conflict, leak, splits = refusal(folder, tmp_path / "out").split("\n\n")
    assert first == "5 kinds of mistakes stop prepare:"
    assert files.startswith(f"data.path: 2 of 21 files in {folder} cannot be used")
    assert "prepare.on_bad_image: skip" in files
    assert class_of_bad.startswith(
        f"data.path: no file of the class owl in {folder} is a readable image"
    )
    assert "  train/cat/0.png (cat, train) and train/dog/conflict.png (dog, train)\n" in conflict
    assert "prepare.on_conflict: drop" in conflict
    assert "  test/cat/1.png (cat, test) and train/cat/leak.png (cat, train)\n" in leak
    assert "prepare.duplicates: drop" in leak
    assert splits.startswith("too few images beside those given as test for train and val: ant has 1;")
    assert {row["path"] for row in read_csv(tmp_path / "out/problems.csv")} == {
        "train/cat/torn.png",
        "train/owl/1.png",
    }
    assert len(read_csv(tmp_path / "out/duplicates.csv")) == 2
    assert not (tmp_path / "out/prepared").exists()


@pytest.mark.parametrize(
    ("options", "decided"),
    [
        ({"on_bad_image": "skip"}, "2 of 22 files"),
        ({"on_conflict": "drop"}, "different labels"),
        ({"duplicates": "drop"}, "different given splits"),
        ({"duplicates": "keep"}, "different given splits"),
    ],
)
def test_what_is_decided_is_no_longer_told(tmp_path: Path, options: Any, decided: str) -> None:
    folder = troubled(tmp_path / "images")
    save(folder, {"train/dog/conflict2.png": PHOTOGRAPHS[0]})
    kinds = {
        "2 of 22 files",
        "class owl",
        "different labels",
        "different given splits",
        "too few images",
    }
    message = refusal(folder, tmp_path / "out", **options)
    assert message.startswith("4 kinds of mistakes stop prepare:\n\n")
    assert {kind for kind in kinds if kind in message} == kinds - {decided}


def look_alikes(folder: Path, kind: str) -> dict[str, Any]:
    """Adds a class ``Cat`` to the troubled collection; returns the options that label it.

    Args:
        kind: how files get their labels.
    """
    troubled(folder)
    save(folder, {f"train/Cat/{i}.png": PHOTOGRAPHS[21 + i] for i in range(4)})
    if kind == "folders":
        return {}
    if kind == "merged":
        return {"merge_labels": {"owl": "dog", "dog": "dog"}}
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    lines = [f"{path},{path.parts[1]},{path.parts[0]}" for path in paths]
    options = {"manifest": "list.csv", "split_column": "split"}
    if kind == "label sets":
        lines = [line.replace("cat,", "cat|furry,", 1) if ",cat," in line else line for line in lines]
        options["label_separator"] = "|"
    (folder / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    return options


@pytest.mark.parametrize("kind", ["folders", "merged", "manifest", "label sets"])
def test_look_alike_classes_are_told_with_everything_else(tmp_path: Path, kind: str) -> None:
    options = look_alikes(tmp_path / "images", kind)
    message = refusal(tmp_path / "images", tmp_path / "out", **options)
    first, alike, files, *_ = message.split("\n\n")
    assert first.endswith("kinds of mistakes stop prepare:")
    assert "has classes whose names differ only in case, blanks" in alike
    assert "merge_labels: {" in alike
    assert f"data.path: 2 of {26 if 'list.csv' in options.values() else 25} files in" in files
    assert "the same pixels and different labels" in message
    assert "different given splits, so the test would leak" in message
    assert read_csv(tmp_path / "out/problems.csv")


def test_split_folders_inside_class_folders_are_told_with_bad_files(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    save(
        folder,
        {
            f"{c}/{s}/{i}.png": PHOTOGRAPHS[8 * (c == "dog") + 4 * (s == "test") + i]
            for c in ("cat", "dog")
            for s in ("train", "test")
            for i in range(4)
        },
    )
    (folder / "cat/train/torn.png").write_bytes(b"")
    first, inside, files = refusal(folder, tmp_path / "out").split("\n\n")
    assert first == "2 kinds of mistakes stop prepare:"
    assert inside.startswith(
        f"data.path: the folders test, train are inside the class folders of {folder}"
    )
    assert files.startswith(f"data.path: 1 of 17 files in {folder} cannot be used")


def test_what_hides_everything_else_stops_at_once_with_what_was_found(tmp_path: Path) -> None:
    folder = save(tmp_path / "images", {"cat/1.png": PHOTOGRAPHS[0]})
    (folder / "dog").mkdir()
    first, empty, single = refusal(folder, tmp_path / "out").split("\n\n")
    assert first == "2 kinds of mistakes stop prepare:"
    assert empty == f"data.path: empty class folders: {folder}/dog; fill or remove them"
    assert single.startswith(f"data.path: {folder} has only one class (cat); at least two are needed")


# the page


class Pictured(Candidates):
    """Candidates without files: image ``i`` is of the grey ``i``."""

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        greys = (indices % 256).astype(np.uint8)
        return np.broadcast_to(greys[:, None, None, None], (len(greys), 8, 8, 1))


def page(folder: Path, images: Candidates, troubles: Troubles) -> Node:
    path = folder / "report" / "trouble.html"
    pictured = Pictured(**vars(images))
    write_trouble_page(troubles, pictured, path)
    return parse(path.read_text(encoding="utf-8"))


def test_the_page_shows_both_images_of_a_pair_with_labels_splits_and_difference(tmp_path: Path) -> None:
    images = candidates("xxyz", "abaa", given=[-1, -1, 0, 2])
    troubles = Troubles()
    curate(images, duplicates(images, (2, 3, 0.0512)), "group", "error", tmp_path / "d.csv", troubles)
    shown = page(tmp_path, images, troubles)
    assert [node.text for node in shown.all("h2")] == [
        "Same pixels, different labels",
        "Duplicates in different given splits",
    ]
    said = [" ".join(trouble.message.split()) for trouble in troubles]
    assert [node.text for node in shown.all("pre")] == said
    conflict, leak = shown.all("figure")
    assert len(conflict.all("img")) == len(leak.all("img")) == 2
    assert "0.png a · no split given" in conflict.text
    assert "1.png b · no split given" in conflict.text
    assert [mark.text for mark in conflict.all("mark")] == ["different labels"]
    assert "2.png a · train" in leak.text
    assert "3.png a · test" in leak.text
    assert "difference 0.0512" in leak.text
    assert [mark.text for mark in leak.all("mark")] == ["different splits"]


def test_of_thousands_of_pairs_some_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    images = candidates("x" * 5_001)
    troubles = Troubles()
    curate(images, duplicates(images), "error", "error", tmp_path / "d.csv", troubles)
    shown = page(tmp_path, images, troubles)
    assert len(shown.all("figure")) == MAX_PAIRS
    assert f"The first {MAX_PAIRS} of 5,000 pairs" in shown.text
    assert (tmp_path / "report/trouble.html").stat().st_size < 200_000


def test_names_on_the_page_are_never_markup(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>&amp;"
    images = candidates("xx")
    names = [hostile, "b"]
    sets = make_label_sets(names, names, None)
    named = Candidates(**vars(images) | {"class_names": names, "sets": sets})
    troubles = Troubles()
    troubles.add(Trouble(hostile, hostile, np.array([[0, 1]]), np.zeros(1)))
    shown = page(tmp_path, named, troubles)
    assert not shown.all("script")
    assert shown.all("pre")[0].text == hostile
    assert hostile in shown.all("figure")[0].text

"""Several labels an image, from the manifest to shards, splits, counts and the report of prepare."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from preparation import Prepared, prepare, read_csv
from ruamel.yaml import YAML

from darkroom.collection.entries import SPLITS
from darkroom.collection.labels import make_label_sets
from darkroom.dataset.info import load_info
from darkroom.errors import UserError
from darkroom.preparation.counts import summarise
from darkroom.preparation.splits import assign_splits
from darkroom.preparation.survey import load_survey
from darkroom.preparation.targets.interface import prepared_target
from darkroom.preparation.unsplit import NOT_GIVEN, TEST, TRAIN, VAL, SplitRule, Unsplit

ROOT = Path(__file__).parents[2]
NUM_IMAGES = 60
CLASSES = ("bus", "cat", "dog")
RULE = SplitRule("stratified", val_fraction=0.2, test_fraction=0.2, fold=None, seed=0)


def random_sets(num_images: int = NUM_IMAGES, seed: int = 0) -> list[set[str]]:
    random = np.random.default_rng(seed)
    return [
        set(np.array(CLASSES)[random.random(3) < (0.2, 0.6, 0.4)].tolist()) for _ in range(num_images)
    ]


SETS = random_sets()
PATHS = [f"{index:02}.png" for index in range(NUM_IMAGES)]
PIXELS = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 8, 8, 1), dtype=np.uint8)


def make_collection(
    folder: Path,
    cells: Sequence[str] | None = None,
    order: Sequence[int] = range(NUM_IMAGES),
    **more: Any,
) -> Path:
    """Writes the images and ``list.csv``.

    Args:
        cells: of the label column; else those of ``SETS``, parted by ``|``.
        order: in which files and rows are written.
        more: further columns, by name.
    """
    folder.mkdir(parents=True)
    cells = ["|".join(each) for each in SETS] if cells is None else cells
    lines = [",".join(["path", "label", *more])]
    for index in order:
        Image.fromarray(PIXELS[index, ..., 0]).save(folder / PATHS[index])
        lines.append(",".join([PATHS[index], cells[index], *(str(more[name][index]) for name in more)]))
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


def run(images: Path, out: Path, separator: str | None = "|", **options: Any) -> Prepared:
    fixed = {"image_size": 8, "channels": 1, "val_fraction": 0.2, "test_fraction": 0.2}
    return prepare(images, out, manifest="list.csv", label_separator=separator, **{**fixed, **options})


def sets_in(prepared: Prepared) -> dict[str, set[str]]:
    """The labels in the shards, by path."""
    names = np.array(prepared.info.class_names)
    return {
        path: set(names[labels == 1].tolist())
        for shards in map(prepared.shards, SPLITS)
        for path, labels in zip(shards.paths, shards.labels, strict=True)
    }


# from the manifest to the shards


def test_each_image_has_its_labels_in_shards_manifest_and_counts(tmp_path: Path) -> None:
    left = run(make_collection(tmp_path / "images"), tmp_path / "out")
    expected = dict(zip(PATHS, SETS, strict=True))
    assert sets_in(left) == expected
    assert {left.shards(split).labels.dtype for split in SPLITS} == {np.dtype(np.uint8)}
    rows = {path: row["label"] for path, row in left.rows.items() if path != "list.csv"}
    assert rows == {path: "|".join(sorted(labels)) for path, labels in expected.items()}

    info = left.info
    assert info.class_names == list(CLASSES)
    assert info.target == "several_labels"
    for split in SPLITS:
        of_split = [expected[path] for path, its in left.splits.items() if its == split]
        assert info.num_images(split) == len(of_split) == len(left.shards(split))
        assert info.counts[split] == {
            name: sum(name in labels for labels in of_split) for name in CLASSES
        }
        sizes = [len(labels) for labels in of_split]
        assert info.labels_per_image[split] == [sizes.count(n) for n in range(max(sizes) + 1)]
    assert sum(map(info.num_images, SPLITS)) == NUM_IMAGES

    counts = left.counts
    sizes = [len(labels) for labels in SETS]
    assert counts["num_images_by_labels"] == {str(n): sizes.count(n) for n in range(4)}
    assert prepared_target(info.target).counts_by_label(info)["num_images_of_label"]["cat"] == {
        split: info.counts[split]["cat"] for split in SPLITS
    }
    mean = sum(sizes) / NUM_IMAGES
    assert summarise(info, counts).startswith(
        f"prepare: 60 images of 3 classes, {mean:.2f} per image, as 8 x 8 x 1: "
    )


def test_the_report_finds_the_images_of_each_label(tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images")
    Image.fromarray(PIXELS[0, ..., 0]).save(images / PATHS[1])
    left = run(images, tmp_path / "out", on_conflict="drop")
    assert left.outcomes[PATHS[0]] == left.outcomes[PATHS[1]] == "conflicting label"
    texts = sorted({"|".join(sorted(labels)) for labels in SETS})
    manifest = tmp_path / "out/manifest.parquet"
    survey = load_survey(manifest, make_label_sets(texts, CLASSES, "|"))
    for code, name in enumerate(CLASSES):
        rows = survey.describe(survey.rows[survey.used_of_class(code)])
        expected = [path for path, labels in zip(PATHS, SETS, strict=True) if name in labels]
        assert [row["path"] for row in rows] == [path for path in expected if path in left.splits]


def test_without_a_separator_the_same_manifest_has_a_class_for_each_cell(tmp_path: Path) -> None:
    cells = ["a|b" if index % 2 else "b" for index in range(NUM_IMAGES)]
    images = make_collection(tmp_path / "images", cells)
    left = run(images, tmp_path / "out", separator=None)
    assert left.info.class_names == ["a|b", "b"]
    assert left.info.target == "one_class"
    assert left.info.labels_per_image == {split: [0, left.info.num_images(split)] for split in SPLITS}
    assert left.shards("train").target == "one_class"
    assert "num_images_by_labels" not in left.counts
    assert prepared_target(left.info.target).counts_by_label(left.info) == {}
    several = run(images, tmp_path / "several")
    assert several.info.class_names == ["a", "b"]
    assert several.info.digest != left.info.digest


@settings(deadline=None, derandomize=True, max_examples=5)
@given(order=st.permutations(range(NUM_IMAGES)))
def test_neither_the_order_on_disk_nor_that_in_a_cell_matters(
    order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("order")
    first = run(make_collection(folder / "one"), folder / "one out")
    cells = ["|".join([*sorted(labels, reverse=True), *labels]) for labels in SETS]
    other = run(make_collection(folder / "other", cells, order), folder / "other out")
    assert other.files == first.files


def test_the_separator_does_not_change_what_is_learned_but_a_label_does(tmp_path: Path) -> None:
    first = run(make_collection(tmp_path / "one"), tmp_path / "one out")
    cells = [";".join(labels) for labels in SETS]
    other = run(make_collection(tmp_path / "other", cells), tmp_path / "other out", ";")
    assert other.info == first.info
    shards = [f"prepared/{split}/00000.arrow" for split in SPLITS]
    assert [other.files[name] for name in shards] == [first.files[name] for name in shards]
    options = {"split_column": "split", "split": "given"}
    split = [first.splits[path] for path in PATHS]
    same, changed = list(SETS), list(SETS)
    changed[7] = SETS[7] ^ {"bus"}
    digests = [
        run(
            make_collection(tmp_path / name, ["|".join(each) for each in sets], split=split),
            tmp_path / f"{name} out",
            **options,
        ).info.digest
        for name, sets in (("same", same), ("changed", changed))
    ]
    assert digests[0] == first.info.digest != digests[1]


def test_weights_groups_and_given_splits_work_as_with_one_label(tmp_path: Path) -> None:
    group = [f"g{index // 3}" for index in range(NUM_IMAGES)]
    weight = [1 + index % 4 for index in range(NUM_IMAGES)]
    images = make_collection(tmp_path / "images", group=group, weight=weight)
    left = run(images, tmp_path / "out", group_column="group", weight_column="weight")
    of_group: dict[str, set[str]] = {}
    for path, split in left.splits.items():
        of_group.setdefault(group[PATHS.index(path)], set()).add(split)
    assert {len(splits) for splits in of_group.values()} == {1}
    assert len(of_group) == 20
    alone = run(images, tmp_path / "alone").splits
    assert any(len({alone[path] for path in PATHS[start : start + 3]}) > 1 for start in range(0, 60, 3))
    for split in SPLITS:
        shards = left.shards(split)
        assert shards.weights is not None
        assert shards.weights.tolist() == [weight[PATHS.index(path)] for path in shards.paths]

    split = [SPLITS[index % 3] for index in range(NUM_IMAGES)]
    given_images = make_collection(tmp_path / "given", split=split)
    given_left = run(given_images, tmp_path / "given out", split="given", split_column="split")
    assert given_left.splits == dict(zip(PATHS, split, strict=True))
    assert sets_in(given_left) == dict(zip(PATHS, SETS, strict=True))


def test_stable_splits_move_no_image_when_one_is_added(tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images")
    before = run(images, tmp_path / "before", split="stable").splits
    Image.fromarray(255 - PIXELS[0, ..., 0]).save(images / "new.png")
    with (images / "list.csv").open("a") as file:
        file.write("\nnew.png,cat|dog")
    after = run(images, tmp_path / "after", split="stable").splits
    assert after.pop("new.png")
    assert after == before


# what is refused


def refusal(images: Path, out: Path, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        run(images, out, **options)
    return str(refused.value)


def test_one_class_is_enough_but_none_is_not(tmp_path: Path) -> None:
    cells = ["cat" if index % 2 else "" for index in range(NUM_IMAGES)]
    left = run(make_collection(tmp_path / "one"), tmp_path / "out")
    left = run(make_collection(tmp_path / "cats", cells), tmp_path / "cats out")
    assert left.info.class_names == ["cat"]
    assert left.shards("train").labels.shape == (left.info.num_images("train"), 1)
    images = make_collection(tmp_path / "none", [""] * NUM_IMAGES)
    assert refusal(images, tmp_path / "none out") == (
        f"data.label_column: no file in {images} has a label, because all cells of the column are"
        " empty; at least one label is needed"
    )


def test_the_same_pixels_with_other_sets_of_labels_conflict(tmp_path: Path) -> None:
    cells = ["|".join(each) for each in SETS]
    cells[:6] = ["cat|dog", "dog|cat", "cat|dog", "dog", "bus", ""]
    images = make_collection(tmp_path / "images", cells)
    for index in range(0, 6, 2):
        Image.fromarray(PIXELS[index, ..., 0]).save(images / PATHS[index + 1])
    said = refusal(images, tmp_path / "out").splitlines()
    assert said[0].startswith("data.path: 2 pairs of images with the same pixels and different labels")
    assert said[1:3] == [
        "  02.png (cat|dog) and 03.png (dog)",
        "  04.png (bus) and 05.png (no label)",
    ]
    pairs = [
        (row["first_label"], row["second_label"]) for row in read_csv(tmp_path / "out/duplicates.csv")
    ]
    assert pairs == [("cat|dog", "cat|dog"), ("cat|dog", "dog"), ("bus", "")]
    left = run(images, tmp_path / "out", on_conflict="drop")
    assert {path for path, outcome in left.outcomes.items() if outcome == "conflicting label"} == {
        "02.png",
        "03.png",
        "04.png",
        "05.png",
    }
    assert left.splits["00.png"] == left.splits["01.png"]


def test_a_given_split_with_a_label_that_train_lacks_is_refused(tmp_path: Path) -> None:
    split = ["test" if "bus" in labels else SPLITS[index % 3] for index, labels in enumerate(SETS)]
    images = make_collection(tmp_path / "images", split=split)
    said = refusal(images, tmp_path / "out", split="given", split_column="split")
    assert said == "data.path: the given test split has classes that train lacks: bus"


def test_a_label_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    cells = ["|".join(each) for each in SETS]
    cells[3] = "cat|owl"
    images = make_collection(tmp_path / "images", cells)
    (images / PATHS[3]).write_bytes(b"")
    said = refusal(images, tmp_path / "out", on_bad_image="skip")
    assert said.startswith(f"data.path: no file of the class owl in {images} is a readable image")


# splits


def make_unsplit(sets: list[set[str]], groups: Sequence[int] | None = None) -> Unsplit:
    texts = ["|".join(sorted(labels)) for labels in sets]
    names = sorted(set(texts))
    class_names = sorted(set().union(*sets))
    return Unsplit(
        class_names,
        np.array([names.index(text) for text in texts]),
        np.arange(len(sets)) if groups is None else np.array(groups),
        np.full(len(sets), NOT_GIVEN, np.int8),
        np.random.default_rng(0).integers(0, 2**64, len(sets), dtype=np.uint64),
        make_label_sets(names, class_names, "|").members,
        "several_labels",
    )


def table(sets: list[set[str]], splits: NDArray[np.int8]) -> dict[str, tuple[int, ...]]:
    """class, or nothing for no label -> images in train, val and test."""
    columns = {name: [name in labels for labels in sets] for name in sorted(set().union(*sets))}
    columns[""] = [not labels for labels in sets]
    return {
        name: tuple(int(np.sum(np.array(has) & (splits == split))) for split in (TRAIN, VAL, TEST))
        for name, has in columns.items()
    }


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_split_as_in_the_table_by_hand(seed: int) -> None:
    sets = [{"a", "b"}] * 5 + [{"b"}] * 10 + [{"c"}] * 20 + [set[str]()] * 5
    order = np.random.default_rng(seed).permutation(40)
    sets = [sets[index] for index in order]
    splits = assign_splits(make_unsplit(sets), replace(RULE, seed=seed))
    assert splits.dtype == np.int8
    assert table(sets, splits) == {"a": (3, 1, 1), "b": (9, 3, 3), "c": (12, 4, 4), "": (3, 1, 1)}


@pytest.mark.parametrize("num_folds", [2, 3, 5])
@pytest.mark.parametrize("in_groups", [False, True])
def test_the_test_splits_of_all_folds_are_the_images(num_folds: int, in_groups: bool) -> None:
    sets = random_sets(200)
    groups = [index // 3 if in_groups and index % 4 else 1000 + index for index in range(200)]
    tested = np.zeros(200, int)
    for number in range(1, num_folds + 1):
        rule = replace(RULE, fold=(number, num_folds))
        splits = assign_splits(make_unsplit(sets, groups), rule)
        tested += splits == TEST
        for name in CLASSES:
            train, val, test = table(sets, splits)[name]
            assert abs(test - (train + val + test) / num_folds) < 2
            assert abs(val - 0.2 * (train + val + test)) < 3
        of_groups = [set(splits[np.array(groups) == group].tolist()) for group in set(groups)]
        assert all(len(found) == 1 for found in of_groups)
    assert (tested == 1).all()


def test_a_label_that_is_too_rare_is_named() -> None:
    sets = [*random_sets(), {"owl", "cat"}, {"owl"}]
    with pytest.raises(UserError, match=re.escape("for train, val and test: owl has 2; a class needs")):
        assign_splits(make_unsplit(sets), RULE)
    sets = [*random_sets(), {"owl", "cat"}, {"owl"}, {"owl", "dog"}]
    with pytest.raises(UserError) as refused:
        assign_splits(make_unsplit(sets), replace(RULE, val_fraction=0.1))
    said = str(refused.value)
    assert said.startswith(
        "prepare.val_fraction 0.1 and prepare.test_fraction 0.2 leave val without owl (3 in all)"
    )
    works = re.findall(r"prepare\.(\w+_fraction): ([0-9.]+)", said)
    assert [name for name, _ in works] == ["val_fraction", "test_fraction"]
    fractions = {name: float(fraction) for name, fraction in works}
    splits = assign_splits(make_unsplit(sets), replace(RULE, **fractions))
    assert table(sets, splits)["owl"] == (1, 1, 1)


# the stage


def run_stage(folder: Path, **data: object) -> subprocess.CompletedProcess[str]:
    """Runs the real script in ``folder``, which holds the project's parameters with changes."""
    (folder / "stages").mkdir(exist_ok=True)
    shutil.copy(ROOT / "stages/prepare.py", folder / "stages")
    shutil.copy(ROOT / "dvc.yaml", folder)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["data"] |= {"fetch": [], "path": "images", "manifest": "list.csv", **data}
    yaml.dump(params, folder / "params.yaml")
    return subprocess.run(
        [sys.executable, "stages/prepare.py"],
        cwd=folder,
        env={
            **os.environ,
            "DARKROOM_TRACKING": "off",
            "DARKROOM_WORKERS": "1",
            "PYTHONPATH": str(ROOT / "src"),
        },
        capture_output=True,
        text=True,
    )


def outputs(folder: Path) -> dict[str, str]:
    files = [*folder.glob("data/**/*"), *folder.glob("reports/**/*")]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


@pytest.mark.slow
def test_the_stage_prepares_and_reports_several_labels(tmp_path: Path) -> None:
    group = [f"patient {index // 2}" for index in range(NUM_IMAGES)]
    folders = [tmp_path / "one", tmp_path / "again"]
    for folder, order in zip(folders, (range(NUM_IMAGES), range(NUM_IMAGES)[::-1]), strict=True):
        make_collection(folder / "images", order=order, group=group)
        done = run_stage(folder, label_separator="|", group_column="group")
        assert done.returncode == 0, done.stderr
    assert outputs(folders[0]) == outputs(folders[1])
    folder = folders[0]

    info = load_info(folder / "data/prepared/dataset.json")
    assert info.target == "several_labels"
    total = {name: sum(name in labels for labels in SETS) for name in CLASSES}
    sizes = [len(labels) for labels in SETS]
    metrics = json.loads((folder / "reports/prepare/metrics.json").read_text())
    assert {n: sum(of.values()) for n, of in metrics["num_images_of_label"].items()} == total
    assert metrics["num_images_by_labels"] == {str(n): sizes.count(n) for n in range(4)}
    assert metrics["num_images"] == {split: info.num_images(split) for split in SPLITS}
    assert sum(metrics["num_images"].values()) == NUM_IMAGES

    page = (folder / "reports/prepare/report.html").read_text()
    assert "60 images of 3 classes" in page
    assert "An image with several labels counts in each of their classes." in page
    for name in CLASSES:
        cells = "".join(f"<td>{info.counts[split][name]}</td>" for split in SPLITS)
        assert re.search(rf"<tr><td>{name}</td>{cells}<td class=\"bar\"[^>]*>{total[name]}</td>", page)
    by_split = {split: [*info.labels_per_image[split], 0, 0, 0] for split in SPLITS}
    for number in range(4):
        cells = "".join(f"<td>{by_split[split][number]}</td>" for split in SPLITS)
        assert f"<tr><td>{number}</td>{cells}<td>{sizes.count(number)}</td></tr>" in page
    assert f"Images without a label: {sizes.count(0)}." in page
    assert "<bdi>no label</bdi>" in page
    assert {f"<bdi>{text}</bdi>" in page for text in ("cat|dog", "cat")} == {True}


@pytest.mark.slow
def test_the_stage_names_the_row_of_a_mistake_without_a_traceback(tmp_path: Path) -> None:
    cells = ["cat" if index % 2 else "dog" for index in range(NUM_IMAGES)]
    cells[4] = "cat||dog"
    make_collection(tmp_path / "images", cells)
    done = run_stage(tmp_path, label_separator="|")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "images/list.csv: line 6 has the label 'cat||dog', one of which is empty; write exactly one"
        " '|' between labels"
    )
    assert "Traceback" not in done.stdout + done.stderr

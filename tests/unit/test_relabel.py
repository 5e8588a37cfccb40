"""From an edited table to a manifest: only those labels change, and every split stays as it was."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image
from preparation import Prepared, make_config, prepare, read_csv

from darkroom.errors import UserError
from darkroom.prediction.table import open_table
from darkroom.suspects.changes import check_corrections, load_known
from darkroom.suspects.corrected_manifest import Corrected, write_corrected
from darkroom.suspects.findings import Correction, read_corrections

LABELS = ("cat", "dog", "owl")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three class folders of ten images, no two alike."""
    rng = np.random.default_rng(0)
    for label in LABELS:
        (tmp_path / "images" / label).mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{index}.png")
    return tmp_path / "images"


def in_split(prepared: Prepared, split: str, label: str = "") -> list[str]:
    return [
        path
        for path, row in prepared.rows.items()
        if row["split"] == split and (not label or row["label"] == label)
    ]


def relabel(
    prepared: Prepared, images: Path, labels: dict[str, str], name: str | None = None, **options: Any
) -> Corrected:
    """What the command does with a table that gives images new labels."""
    table = prepared.out / "edited.csv"
    with table.open("w", newline="") as file:
        rows = [(path, prepared.rows[path]["label"], new) for path, new in labels.items()]
        csv.writer(file).writerows([("path", "label", "new_label"), *rows])
    source = make_config(images, **options).data
    known = load_known(prepared.out / "manifest.parquet")
    changes = check_corrections(read_corrections(table), known, source.label_separator, table)
    return write_corrected(source, known, changes, name, open_table)


def check_that_only_these_changed(before: Prepared, after: Prepared, labels: dict[str, str]) -> None:
    assert after.splits == before.splits
    had, has = (
        {path: row["label"] for path, row in prepared.rows.items() if row["split"]}
        for prepared in (before, after)
    )
    assert has == had | labels
    assert {path for path in had if had[path] != has[path]} == set(labels)


def as_options(corrected: Corrected) -> dict[str, Any]:
    return {name.removeprefix("data."): value for name, value in corrected.params.items()}


def test_class_folders_get_a_manifest_that_fixes_the_splits(images: Path, tmp_path: Path) -> None:
    (images / "cat/broken.png").write_bytes(b"no image")
    before = prepare(images, tmp_path / "before", on_bad_image="skip")
    labels = {in_split(before, "train", "cat")[0]: "dog", in_split(before, "val", "owl")[0]: "cat"}
    corrected = relabel(before, images, labels)
    assert corrected.path == images / "labels.csv"
    assert corrected.params == {"data.manifest": "labels.csv", "data.split_column": "split"}
    assert corrected.num_unlisted == 1
    after = prepare(images, tmp_path / "after", **as_options(corrected))
    check_that_only_these_changed(before, after, labels)
    # the negative twin: without the split column, other images change their split
    free = prepare(images, tmp_path / "free", manifest="labels.csv")
    assert free.splits != before.splits
    # and a second round corrects the copy
    again = {in_split(after, "train", "dog")[0]: "owl"}
    second = relabel(after, images, again, **as_options(corrected))
    assert second.path.name == "labels-relabelled.csv"
    options = as_options(corrected) | as_options(second)
    check_that_only_these_changed(after, prepare(images, tmp_path / "second", **options), again)


def test_merged_labels_stay_merged(images: Path, tmp_path: Path) -> None:
    merge = {"dog": "pet", "cat": "pet"}
    before = prepare(images, tmp_path / "before", merge_labels=merge)
    labels = {in_split(before, "train", "pet")[0]: "owl"}
    corrected = relabel(before, images, labels, merge_labels=merge)
    assert corrected.params["data.merge_labels"] == {}
    after = prepare(images, tmp_path / "after", **as_options(corrected))
    check_that_only_these_changed(before, after, labels)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_manifest_is_copied_with_all_its_columns(suffix: str, images: Path, tmp_path: Path) -> None:
    rows = [
        {
            "file": f"{label}\\{index}.png" if index == 0 else f"./{label}/{index}.png",
            "kind": label,
            "scene": f"s{index // 2}",
            "comment": 'a "quoted", text' if index == 1 else None,
        }
        for label in LABELS
        for index in range(9)  # the tenth is not listed
    ]
    write_rows(images / f"meta{suffix}", rows)
    options = {
        "manifest": f"meta{suffix}",
        "path_column": "file",
        "label_column": "kind",
        "group_column": "scene",
    }
    before = prepare(images, tmp_path / "before", **options)
    labels = {in_split(before, "train", "cat")[0]: "owl"}
    corrected = relabel(before, images, labels, **options)
    assert corrected.params == {"data.manifest": "meta-relabelled.csv", "data.split_column": "split"}
    after = prepare(images, tmp_path / "after", **options | as_options(corrected))
    check_that_only_these_changed(before, after, labels)
    copied = read_csv(corrected.path)
    assert list(copied[0]) == ["file", "kind", "scene", "comment", "split"]
    for row, copy in zip(rows, copied, strict=True):
        assert [copy[name] for name in ("file", "scene")] == [row["file"], row["scene"]]
        assert copy["comment"] == (row["comment"] or "")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)


def test_several_labels_are_corrected_as_sets(images: Path, tmp_path: Path) -> None:
    paths = [f"{label}/{index}.png" for label in LABELS for index in range(10)]
    kinds = ["a", "b|a", "", "b"] * 8
    rows = [{"path": path, "label": kind} for path, kind in zip(paths, kinds, strict=False)]
    write_rows(images / "meta.csv", rows)
    options = {"manifest": "meta.csv", "label_separator": "|"}
    before = prepare(images, tmp_path / "before", **options)
    first, second, third = in_split(before, "train", "a|b")[:3]
    corrected = relabel(before, images, {first: "b", second: "|", third: "b | a"}, **options)
    after = prepare(images, tmp_path / "after", **options | as_options(corrected))
    check_that_only_these_changed(before, after, {first: "b", second: ""})


def table_of(folder: Path, prepared: Prepared, *rows: tuple[str, str, str]) -> Path:
    """Writes a table of path, new_label and exclude."""
    with (folder / "edited.csv").open("w", newline="") as file:
        written = [(path, prepared.rows[path]["label"], new, exclude) for path, new, exclude in rows]
        csv.writer(file).writerows([("path", "label", "new_label", "exclude"), *written])
    return folder / "edited.csv"


@pytest.mark.parametrize("has_manifest", [False, True])
def test_excluded_images_and_their_copies_are_not_used(
    images: Path, tmp_path: Path, has_manifest: bool
) -> None:
    options: dict[str, Any] = {"duplicates": "drop"}
    shutil.copy(images / "owl/0.png", images / "owl/copy.png")
    shutil.copy(images / "owl/0.png", images / "owl/third.png")
    if has_manifest:
        paths = [path.relative_to(images) for path in images.rglob("*.png")]
        rows = [{"path": path.as_posix(), "label": path.parent.name, "site": "x"} for path in paths]
        write_rows(images / "meta.csv", rows)
        options["manifest"] = "meta.csv"
    before = prepare(images, tmp_path / "before", **options)
    (kept,) = {"owl/0.png", "owl/copy.png", "owl/third.png"} & before.splits.keys()
    cat, dog = (in_split(before, "train", label)[0] for label in ("cat", "dog"))
    table = table_of(tmp_path, before, (kept, "", "Yes"), (cat, "dog", "no"), (dog, "", ""))
    known = load_known(before.out / "manifest.parquet")
    changes = check_corrections(read_corrections(table), known, None, table, test=True)
    assert changes == {"owl/0.png": None, "owl/copy.png": None, "owl/third.png": None, cat: "dog"}
    source = make_config(images, **options).data
    corrected = write_corrected(source, known, changes, None, open_table)
    assert corrected.num_unlisted == 0
    after = prepare(images, tmp_path / "after", **options | as_options(corrected))
    assert after.splits == {path: split for path, split in before.splits.items() if path != kept}
    assert after.rows[cat]["label"] == "dog"
    assert after.rows[kept]["outcome"] == "unlisted"
    # and back: the old parameters use it again
    assert prepare(images, tmp_path / "back", **options).splits == before.splits


def test_exclusions_that_cannot_be_meant_are_refused(images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "cat/0.png", images / "cat/copy.png")
    prepared = prepare(images, tmp_path / "out", duplicates="keep")
    train = in_split(prepared, "train", "owl")

    def excluded(*paths: str) -> list[Correction]:
        return [Correction(2, path, path.split("/")[0], "", True) for path in paths]

    assert "'owl': the class would lose its last training image" in mistakes(prepared, *excluded(*train))
    assert "same pixels as cat/copy.png; exclude" in mistakes(
        prepared, *excluded("cat/0.png"), test=True
    )
    both = [*excluded(train[0]), Correction(3, train[0], "owl", "cat")]
    assert "is to be both excluded and labelled 'cat'" in mistakes(prepared, *both)
    unsure = Correction(2, train[0], "owl", "cat", True)
    assert "is excluded and gets the label 'cat'" in mistakes(prepared, unsure)
    # the negative twin: one image may stay
    known = load_known(prepared.out / "manifest.parquet")
    accepted = check_corrections(excluded(*train[1:]), known, None, Path("edited.csv"))
    assert accepted == dict.fromkeys(train[1:])
    table = table_of(tmp_path, prepared, (train[0], "", "maybe"))
    with pytest.raises(
        UserError, match=r"edited.csv:2: exclude is 'maybe'; allowed are yes, true, x, 1"
    ):
        list(read_corrections(table))


def mistakes(prepared: Prepared, *rows: Correction, **options: bool) -> str:
    known = load_known(prepared.out / "manifest.parquet")
    with pytest.raises(UserError) as refusal:
        check_corrections(rows, known, None, Path("edited.csv"), **options)
    return f"{refusal.value}"


def test_mistakes_are_refused_with_their_line(images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "cat/0.png", images / "cat/copy.png")
    prepared = prepare(images, tmp_path / "out")
    cat = next(path for path in in_split(prepared, "train", "cat") if path not in COPIES)
    test = next(path for path in in_split(prepared, "test") if path not in COPIES)
    of_test = prepared.rows[test]["label"]
    other = "dog" if of_test != "dog" else "owl"
    assert mistakes(prepared, Correction(7, "cat/77.png", "cat", "dog")).startswith(
        "edited.csv:7: cat/77.png is not in data.path; did you mean cat/"
    )
    assert "unknown class 'dgo'; did you mean dog?" in mistakes(
        prepared, Correction(2, cat, "cat", "dgo")
    )
    contradiction = Correction(2, cat, "cat", "dog"), Correction(3, cat, "cat", "owl")
    assert "is to be both labelled 'dog' and labelled 'owl'" in mistakes(prepared, *contradiction)
    assert "is in the test split" in mistakes(prepared, Correction(2, test, of_test, other))
    assert "by now, not 'owl'" in mistakes(prepared, Correction(2, cat, "owl", "dog"))
    assert "no label changes" in mistakes(prepared, Correction(2, cat, "cat", "cat"))
    torn = Correction(2, "cat/0.png", "cat", "dog")
    assert "same pixels as cat/copy.png" in mistakes(prepared, torn, test=True)
    # the negative twins: what is asked for is accepted
    known = load_known(prepared.out / "manifest.parquet")
    both = [torn, Correction(3, "cat/copy.png", "cat", "dog"), Correction(4, test, of_test, "new")]
    accepted = check_corrections(both, known, None, Path("edited.csv"), new_classes=True, test=True)
    assert accepted == {"cat/0.png": "dog", "cat/copy.png": "dog", test: "new"}


COPIES = ("cat/0.png", "cat/copy.png")


def test_a_manifest_is_only_replaced_when_asked_and_only_written_to_a_folder(
    images: Path, tmp_path: Path
) -> None:
    prepared = prepare(images, tmp_path / "out")
    labels = {in_split(prepared, "train", "cat")[0]: "dog"}
    (images / "labels.csv").write_text("mine")
    with pytest.raises(UserError, match=r"labels\.csv: exists"):
        relabel(prepared, images, labels)
    with pytest.raises(UserError, match="must be the name of a"):
        relabel(prepared, images, labels, "../labels.csv")
    assert relabel(prepared, images, labels, "fixed.csv").path == images / "fixed.csv"
    shutil.make_archive(f"{images}", "tar", images)
    with pytest.raises(UserError, match="not a folder, and"):
        relabel(prepared, images.with_suffix(".tar"), labels)
    with pytest.raises(UserError, match=r"copy it with .* data/mine/digits"):
        relabel(prepared, Path("data/fetched/digits"), labels)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_of_rows_is_copied_with_new_labels_and_its_splits(suffix: str, tmp_path: Path) -> None:
    """Equal rows may have different labels, so the copy of a corrected row stays as it is."""
    rng = np.random.default_rng(0)
    ages, cities = rng.normal(size=60).tolist(), rng.choice(["Oslo", "Rome"], 60).tolist()
    ages[0] = ages[1] = 0.5
    cities[0] = cities[1] = "Oslo"
    table = pa.table({"age": ages, "city": cities, "label": [LABELS[row % 3] for row in range(60)]})
    (tmp_path / "rows").mkdir()
    file = tmp_path / f"rows/people{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, file)
    elif suffix == ".csv":
        pa.csv.write_csv(table, file)
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    options = {"table": file.name, "image_size": "auto"}
    before = prepare(tmp_path / "rows", tmp_path / "before", **options)
    first, second, *_, last = by_line(before)
    assert first["pixel_sha256"] == second["pixel_sha256"]
    new = next(label for label in LABELS if label not in (first["label"], second["label"]))
    corrections = [
        Correction(2, first["path"], first["label"], new),
        Correction(3, last["path"], last["label"], "", exclude=True),
    ]
    source = make_config(tmp_path / "rows", **options).data
    known = load_known(before.out / "manifest.parquet")
    edited = tmp_path / "edited.csv"
    with pytest.raises(UserError, match="with another label then"):
        check_corrections(corrections[:1], known, None, edited, test=True)
    changes = check_corrections(corrections, known, None, edited, test=True, keeps_conflicts=True)
    corrected = write_corrected(source, known, changes, None, open_table)
    assert corrected.params == {"data.table": "people-relabelled.csv", "data.split_column": "split"}
    after = prepare(tmp_path / "rows", tmp_path / "after", **{**options, **as_options(corrected)})
    expected = [{**first, "label": new}, *by_line(before)[1:-1]]
    for name in ("label", "split", "pixel_sha256"):
        assert [row[name] for row in by_line(after)] == [row[name] for row in expected]


def by_line(prepared: Prepared) -> list[dict[str, Any]]:
    return sorted(prepared.rows.values(), key=lambda row: int(row["path"].rpartition(":")[2]))

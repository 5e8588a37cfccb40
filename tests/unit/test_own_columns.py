"""Further columns of a manifest: which are kept for slices, and what is said of the others."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom.collection.entries import Entry
from darkroom.collection.folder import FolderFiles
from darkroom.collection.manifest import Columns, label_by_manifest
from darkroom.collection.own_columns import MAX_COLUMNS, MAX_EXAMINED, OwnColumns, Wanted
from darkroom.errors import UserError
from darkroom.escape import for_terminal

NUM_IMAGES = 24
OWN: dict[str, list[Any]] = {
    "camera": ["=cmd|'/c calc'!A0" if index % 3 else "<b>\x1b[31m" for index in range(NUM_IMAGES)],
    "hour": [index // 2 for index in range(NUM_IMAGES)],
    "height": [index / 8 for index in range(NUM_IMAGES)],
    "is_night": [index > 12 for index in range(NUM_IMAGES)],
    "code": ["007" if index % 2 else "7" for index in range(NUM_IMAGES)],
    "id": list(range(NUM_IMAGES)),
    "note": [f"picture {index}" for index in range(NUM_IMAGES)],
    "essay": ["x" * (101 if index == 20 else 9) for index in range(NUM_IMAGES)],
    "same": ["a"] * NUM_IMAGES,
    "empty": [None] * NUM_IMAGES,
}
KEPT = ["camera", "hour", "height", "is_night", "code"]


def write_table(root: Path, name: str, columns: dict[str, list[Any]]) -> None:
    """Writes a manifest of ``NUM_IMAGES`` files with further columns."""
    table = {
        "path": [f"{index:02}.png" for index in range(NUM_IMAGES)],
        "label": ["ab"[index % 2] for index in range(NUM_IMAGES)],
        **columns,
    }
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    for row in rows:
        (root / row["path"]).write_bytes(b"x")
    if name.endswith("parquet"):
        pq.write_table(pa.table(table), root / name)
    elif name.endswith("jsonl"):
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(table)
        writer.writerows(
            [f"{cell}".lower() if isinstance(cell, bool) else cell for cell in row.values()]
            for row in rows
        )
        (root / name).write_text(text.getvalue())


def kept(root: Path, name: str, wanted: Wanted = "auto") -> tuple[OwnColumns, list[Entry]]:
    own = OwnColumns(wanted)
    entries = label_by_manifest(FolderFiles(root), name, Columns("path", "label"), own=own)
    return own, sorted((entry for entry in entries if entry.label), key=lambda entry: entry.path)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_values_are_kept_and_ids_and_notes_are_not(tmp_path: Path, name: str) -> None:
    write_table(tmp_path, name, OWN)
    own, entries = kept(tmp_path, name)
    assert own.names == KEPT
    values = [json.loads(entry.own_values or "{}") for entry in entries]
    expected = [{name: OWN[name][index] for name in KEPT} for index in range(NUM_IMAGES)]
    for row in expected:
        row["is_night"] = f"{row['is_night']}".lower()
    assert values == expected
    assert [type(value) for value in values[3].values()] == [str, int, float, str, str]
    (remark,) = own.remarks
    assert remark == (
        "Columns that do not become slices (data.slice_columns): id: a different number in every row;"
        " note: a different value in nearly every row; essay: values of more than 100 characters; same:"
        " only one value; empty: no values."
    )


def test_only_named_columns_are_kept(tmp_path: Path) -> None:
    write_table(tmp_path, "a.csv", OWN)
    own, entries = kept(tmp_path, "a.csv", ["hour"])
    assert (own.names, own.remarks) == (["hour"], [])
    assert entries[5].own_values == '{"hour":2}'
    own, entries = kept(tmp_path, "a.csv", [])
    assert not own.names
    assert all(entry.own_values is None for entry in entries)
    with pytest.raises(UserError, match="manifest has no column hours among path"):
        kept(tmp_path, "a.csv", ["hours"])


def test_hostile_names_and_ten_thousand_columns(tmp_path: Path) -> None:
    plain = ["a" if index % 2 else "b" for index in range(NUM_IMAGES)]
    names = [
        "",
        "  ",
        "\x1b[31m",
        "n" * 101,
        "=cmd",
        "<script>",
        *(f"c{index}" for index in range(10_000)),
    ]
    write_table(tmp_path, "a.jsonl", dict.fromkeys(names, plain))
    own, _ = kept(tmp_path, "a.jsonl")
    assert own.names == ["=cmd", "<script>", *(f"c{index}" for index in range(MAX_COLUMNS - 2))]
    (remark,) = own.remarks
    assert len(remark) < 1_500
    assert remark == for_terminal(remark)
    assert f"and {MAX_EXAMINED - MAX_COLUMNS - 10} more: at most" in remark
    assert f"and {10_002 - MAX_EXAMINED - 10:,} more: only" in remark


def test_columns_with_the_same_reason_are_named_together(tmp_path: Path) -> None:
    sites = ["p", "q"] * (NUM_IMAGES // 2)
    more = [f"c{index:02}" for index in range(MAX_COLUMNS + 12)]
    write_table(
        tmp_path,
        "a.csv",
        {"x": ["a"] * NUM_IMAGES, **dict.fromkeys(more, sites), "y": ["b"] * NUM_IMAGES},
    )
    own, _ = kept(tmp_path, "a.csv")
    assert own.names == more[:MAX_COLUMNS]
    last = ", ".join(more[MAX_COLUMNS:][:10])
    assert own.remarks == [
        "Columns that do not become slices (data.slice_columns): x, y: only one value;"
        f" {last} and 2 more: at most 20 columns become slices."
    ]


def test_columns_of_the_same_name_are_no_mistake(tmp_path: Path) -> None:
    write_table(tmp_path, "a.csv", {})
    rows = "".join(f"{index:02}.png,{'ab'[index % 2]},{index % 3},x\n" for index in range(NUM_IMAGES))
    (tmp_path / "a.csv").write_text("path,label,site,site\n" + rows)
    own, entries = kept(tmp_path, "a.csv")
    assert len(entries) == NUM_IMAGES
    assert not own.names
    assert "site: several columns have this name" in own.remarks[0]


def test_parquet_columns_that_are_too_large_or_nested_do_not_refuse_the_manifest(tmp_path: Path) -> None:
    columns = {
        "blob": [b"x" * 100_000] * NUM_IMAGES,
        "long": ["y" * 100_000] * NUM_IMAGES,
        "box": [{"x": 1}] * NUM_IMAGES,
        "tags": [["a"]] * NUM_IMAGES,
        "site": ["p", "q"] * (NUM_IMAGES // 2),
    }
    write_table(tmp_path, "a.parquet", columns)
    own, entries = kept(tmp_path, "a.parquet")
    assert own.names == ["site"]
    assert len(entries) == NUM_IMAGES
    assert "blob, long: not readable" in own.remarks[0]


def test_rows_of_one_image_keep_what_they_agree_in(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    text = "path,label,site,box\n" + 3 * "a.png,cat,north,1\n" + "a.png,cat,north,2\nb.png,cat,south,\n"
    (tmp_path / "a.csv").write_text(text)
    _, entries = kept(tmp_path, "a.csv")
    assert [(entry.path, entry.own_values) for entry in entries] == [
        ("a.png", '{"site":"north"}'),
        ("b.png", '{"site":"south"}'),
    ]
    assert entries[0].outcome is None

"""Tables that are small on disk and endless in memory are refused in one line."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom.collection import rows as rows_module
from darkroom.collection.rows import read_rows
from darkroom.errors import UserError

COLUMNS = {"data.path_column": "path", "data.label_column": "label"}


def parquet(num_rows: int) -> bytes:
    ones = pa.array(np.zeros(num_rows, np.int8))
    table = pa.table(
        {name: pa.DictionaryArray.from_arrays(ones, pa.array(["x"])) for name in ("path", "label")}
    )
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def huge_cell(kind: str) -> bytes:
    """A column of labels with one value of 200 kB among short ones, or one that many rows share."""
    long, num_rows = "x" * 200_000, 5_000
    labels: pa.Array = pa.array(["a"] * (num_rows - 1) + [long])
    if kind == "shared":
        indices = pa.array(np.arange(num_rows) % 2)
        labels = pa.DictionaryArray.from_arrays(indices, pa.array([long, "a"]))
    elif kind == "list":
        labels = pa.array([["a"]] * (num_rows - 1) + [["a", long]])
    file = io.BytesIO()
    table = pa.table({"path": pa.array([f"{i}.png" for i in range(num_rows)]), "label": labels})
    pq.write_table(table, file, use_dictionary=kind == "shared")
    return file.getvalue()


BOMBS = {
    "deep JSON": ("a.jsonl", b'{"path":"a","label":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a JSON number": ("a.jsonl", b'{"path":"a","label":' + b"9" * 100_000 + b"}"),
    "a CSV cell": ("a.csv", b"path,label\n" + b"a" * 200_000 + b",b\n"),
    "an open quote": ("a.csv", b'path,label\n"a,b\n' + b"x" * 200_000),
    "Parquet rows": ("a.parquet", parquet(20_000_001)),
    "one Parquet cell": ("a.parquet", huge_cell("plain")),
    "a Parquet cell of many rows": ("a.parquet", huge_cell("shared")),
    "a Parquet cell in a list": ("a.parquet", huge_cell("list")),
}


@pytest.mark.parametrize(("name", "content"), BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_in_one_line(name: str, content: bytes) -> None:
    with pytest.raises(UserError, match=name) as refused:
        list(read_rows(name, content, COLUMNS))
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 500


def test_parquet_columns_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet(1_000)
    assert sum(1 for _ in read_rows("a.parquet", content, COLUMNS)) == 1_000
    monkeypatch.setattr(rows_module, "MAX_TABLE_BYTES", 10)
    with pytest.raises(UserError, match="bytes uncompressed; at most 10 are read"):
        list(read_rows("a.parquet", content, COLUMNS))


@pytest.mark.parametrize("kind", ["plain", "shared", "list"])
def test_a_huge_parquet_cell_is_refused_by_its_column(kind: str) -> None:
    with pytest.raises(UserError) as refused:
        list(read_rows("a.parquet", huge_cell(kind), COLUMNS))
    assert str(refused.value) == (
        "a.parquet: the column label has a value of more than 65,536 bytes; shorten it, or name another"
        " column"
    )


def test_a_huge_cell_in_another_column_does_not_matter() -> None:
    columns = {"data.path_column": "path"}
    assert sum(1 for _ in read_rows("a.parquet", huge_cell("plain"), columns)) == 5_000

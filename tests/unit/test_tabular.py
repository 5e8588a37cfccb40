"""Tables as input, against pandas and scikit-learn: what columns hold, encodings, leaks, bad tables."""

import io
import json
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.preprocessing import StandardScaler

from darkroom.errors import UserError
from darkroom.inputs import ColumnKind, Encoding
from darkroom.tabular.encoding import UNKNOWN, encode, fit_encoding
from darkroom.tabular.kinds import Column, settle_columns
from darkroom.tabular.leaks import MIN_PER_CLASS, row_digests, telling_columns
from darkroom.tabular.table import Table, read_table

LABEL = {"data.label_column": "y"}


def read(content: str | bytes, name: str = "rows.csv") -> Table:
    return read_table(name, content.encode() if isinstance(content, str) else content, LABEL)


def settle(content: str, given: Mapping = {}) -> list[Column]:
    return settle_columns(read(content), given, LABEL.values())


def column(*cells: str) -> str:
    """Return a CSV with the cells in a column x, beside a label and a usable column."""
    return "x,good,y\n" + "".join(f'"{cell}",{i % 3 + 0.5},a\n' for i, cell in enumerate(cells))


def parquet(**columns: list) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


BAD_TABLES = {
    "no such format": ("rows.xlsx", b"", "tables have the suffix .csv"),
    "an empty file": ("rows.csv", b"", "no columns"),
    "a header alone": ("rows.csv", b"x,y\n", "rows.csv: has no rows"),
    "no label": ("rows.csv", b"x,z\n1,2\n", "data.label_column: rows.csv has no column y among x, z"),
    "two labels": ("rows.csv", b"x,y,y\n1,2,3\n", "data.label_column: rows.csv has 2 columns y"),
    "two equal columns": ("rows.csv", b"x,x,y\n1,2,3\n", "the column x: rows.csv has 2 columns x"),
    "a column without name": ("rows.csv", b"x,,y\n1,2,3\n", "column 2 has no name"),
    "an invisible name": ("rows.csv", "\u200b,y\n1,3\n".encode(), "column 1 has no name"),
    "a control character": ("rows.csv", b"x\x07,y\n1,3\n", r"column 1 has the name 'x\x07'"),
    "an endless name": ("rows.csv", b"x" * 101 + b",y\n1,3\n", "up to 100 characters"),
    "too many columns": (
        "rows.csv",
        ",".join(["y", *map(str, range(2000))]).encode(),
        "2,001 columns; at most 2,000",
    ),
    "a field too few": ("rows.csv", b"x,y\n1,2\n3\n", "line 3 has 1 field, the first line has 2"),
    "an open quote": ("rows.csv", b'x,y\n"1,2\n', "rows.csv: after line 1: unexpected end of data"),
    "Latin-1": ("rows.csv", b"x,y\n1,\xe9\n", "line 2 is not UTF-8"),
    "no JSON": ("rows.jsonl", b'{"x": 1, "y": 2}\n{"x": 1,}\n', "line 2 is not JSON"),
    "an array in one line": (
        "rows.jsonl",
        b"[1, 2]\n",
        "line 1 is not a JSON object; a table in JSON",
    ),
    "an array over lines": ("rows.jsonl", b'[{"x": 1},\n{"x": 2}]\n', "one object per line, such as"),
    "other separators": (
        "rows.csv",
        b"x|y\n1|2\n",
        "x|y; columns are separated by commas, semicolons",
    ),
    "blanks as separators": (
        "rows.csv",
        b"x y\n1 2\n",
        "columns are separated by commas, semicolons",
    ),
    "UTF-16": ("rows.csv", "x,y\n1,2\n".encode("utf-16"), "rows.csv is not UTF-8; save it as UTF-8"),
    "a field too many": ("rows.csv", b"x,y\n1,2,3\n", "line 2 has 3 fields, the first line has 2"),
    "a huge cell": ("rows.csv", b"x,y\n" + b"1" * 200_000 + b",2\n", "larger than field limit (131072)"),
    "a huge cell in Parquet": (
        "rows.parquet",
        parquet(x=["1" * 70_000], y=[1]),
        "than 65,536 bytes",
    ),
    "objects in Parquet": (
        "rows.parquet",
        parquet(x=[{"a": 1}], y=[1]),
        "column x has a list or an",
    ),
    "an object in a cell": (
        "rows.jsonl",
        b'{"x": {"a": 1}, "y": 2}\n',
        "line 1: the column x has a list",
    ),
    "a damaged Parquet file": ("rows.parquet", b"PAR1 and no more", "not a Parquet file, or is damaged"),
    "lists in Parquet": ("rows.parquet", parquet(x=[[1], [2]], y=[1, 2]), "the column x has a list"),
    "bytes in Parquet": ("rows.parquet", parquet(x=[b"1"], y=[1]), "the column x has bytes"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_is_refused_by_name(name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(content, name)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfx,y\n1,a\n2,b\n",
        b"x;y\r\n1;a\r\n2;b\r\n",
        b"x\ty\n1\ta\r\n\n2\tb",
        b"x,y\r1,a\r2,b\r",
        b' x ,y\n"1", a\n2,"b "\n',
    ],
    ids=["byte order mark", "semicolons and CR LF", "tabs and mixed newlines", "CR alone", "blanks"],
)
def test_what_programs_write_differently_is_the_same_table(content: bytes) -> None:
    table = read(content)
    assert {name: cells.to_pylist() for name, cells in table.columns.items()} == {
        "x": ["1", "2"],
        "y": ["a", "b"],
    }


MANY = [f"{i}" for i in range(1, 20)]
BAD_COLUMNS = {
    "a word among numbers": ([*MANY, "about 7"], {}, "x (line 21): 'about 7' is not a number"),
    "infinity": (["1.5", "2", "inf"], {}, "x (line 4): 'inf' is infinite"),
    "too large a number": (["1.5", "2", "1e999"], {}, "x (line 4): '1e999' is infinite"),
    "decimal commas": (["1,5", "2,5", "2,5"], {}, "x (line 2): '1,5' is a number with a comma"),
    "thousands separators": (["1,234.5", "2,222.5", "7.5"], {}, "write the bare number"),
    "percent signs": (["1%", "2 %", "2 %"], {}, "x (line 2): '1%' is a number with a sign"),
    "currencies": (["$1.50", "$2", "$2"], {}, "'$1.50' is a number with a sign"),
    "row numbers": (["7", "5", "6"], {}, "its numbers count the rows, like an id"),
    "long ids": (["90071992547409931", "4", "4"], {}, "whole numbers above 2**53"),
    "names": (["Ann", "Bob", "Cy", "Bob"], {}, "3 different texts in 4 rows, like an id"),
    "a long text": (["w" * 101, "w" * 101, "v"], {}, "x (line 2): a category has at most 100"),
    "look-alikes": (["red", "Red", "red", "red"], {}, "'Red' and 'red' look alike"),
    "ambiguous dates": (["01.02.2024", "3.4.2024"], {}, "could be day or month first"),
    "time zones": (["2024-01-01T10:00Z", "2024-01-02T10:00+01:00"], {}, "has a time zone"),
    "a day that does not exist": (
        [*[f"2024-01-{day:02}" for day in range(1, 20)], "2024-02-30"],
        {},
        "x (line 21): '2024-02-30' is not a date such as 2026-11-29",
    ),
    "a placeholder": (["2024-01-01", "9999-12-31"], {}, "x (line 3): '9999-12-31' is not between"),
    "given: no number": (["1", "b"], {"x": "number"}, "x (line 3): 'b' is not a number"),
    "given: no boolean": (["yes", "2"], {"x": "boolean"}, "x (line 3): '2' is not true or false"),
    "given: no date": (["2024", "2025"], {"x": "date"}, "x (line 2): '2024' is not a date"),
    "given: no values": (["", "NA"], {"x": "number"}, "x: it has no values"),
    "given: no categories": (["", ""], {"x": "category"}, "x: it has no values"),
    "given: too many categories": (
        [f"c{i}" for i in range(1001)],
        {"x": "category"},
        "x: 1,001 categories; at most 1,000",
    ),
    "given: no such column": (
        ["1"],
        {"god": "number"},
        "has no column god among x, good; did you mean good?",
    ),
    "given: the label": (["1"], {"y": "number"}, "data.columns: y has another meaning already"),
    "given: no such kind": (
        ["1"],
        {"x": "numbr"},
        "'numbr' is not a kind of column; allowed are number,",
    ),
    "nothing left": (["1"], {"x": "ignored", "good": "ignored"}, "no column is left to predict from"),
}


@pytest.mark.parametrize(("cells", "given", "message"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_a_column_that_is_not_certain_is_refused_by_name(
    cells: list[str], given: dict, message: str
) -> None:
    with pytest.raises(UserError) as error:
        settle(column(*cells), given)
    assert message in str(error.value)


def test_all_bad_columns_are_named_at_once() -> None:
    with pytest.raises(UserError, match="columns that cannot be used as they are: 2") as error:
        settle("a,b,y\n1,1%,a\ninf,2%,a\n")
    assert "a (line 3): 'inf' is infinite" in str(error.value)
    assert "b (line 2): '1%' is" in str(error.value)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", "-3e4", ".5", "+7"], "number"),
        (["1", "NA", "n/a", "?", "", "5"], "number"),
        (["007", "012", "012", "007"], "category"),
        (["1.2.3", "1.2.4", "1.2.3", "1.2.4"], "category"),
        (["yes", "No", "", "yes"], "boolean"),
        (["none", "mild", "none", "mild"], "category"),
        (["2024-02-29", "2024-12-31 23:59", "?"], "date"),
        (["", "NA"], "ignored"),
        (["same", "same"], "ignored"),
    ],
)
def test_the_kind_of_a_column_is_inferred(cells: list[str], kind: str) -> None:
    assert settle(column(*cells))[0].kind == kind


@pytest.mark.parametrize(("cells", "given"), [(["5", "6", "7"], "number"), (["Ann", "Bob"], "category")])
def test_a_given_kind_overrules_a_doubt(cells: list[str], given: ColumnKind) -> None:
    assert settle(column(*cells), {"x": given})[0] == Column("x", given)


ROWS: dict[str, list] = {
    "age": [31.5, None, 7.25, 1e-3, 44.0, 2.0],
    "city": ["Rome", "Oslo", None, "Rome", "Oslo", "Bonn"],
    "smokes": [True, False, None, True, False, True],
    "joined": ["2024-02-29", "2023-12-31", None, "2024-01-01", "2022-07-03", "2020-02-02"],
    "y": ["a", "b", "a", "b", "a", "b"],
}
GIVEN: dict[str, ColumnKind] = {"city": "category"}
IS_TRAIN = np.array([True, True, True, True, True, False])


def as_file(suffix: str) -> bytes:
    frame = pd.DataFrame(ROWS)
    if suffix == ".csv":
        return frame.to_csv(index=False).encode()
    if suffix == ".parquet":
        return parquet(**ROWS)
    rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def encoded(content: bytes, name: str) -> tuple[Encoding, np.ndarray, np.ndarray]:
    table = read(content, name)
    columns = settle_columns(table, GIVEN, LABEL.values())
    encoding = fit_encoding(table, columns, IS_TRAIN)
    return encoding, *encode(encoding, table)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_format_gives_the_numbers_and_statistics_of_pandas_and_scikit_learn(suffix: str) -> None:
    encoding, numbers, codes = encoded(as_file(suffix), f"rows{suffix}")
    dates = pd.to_datetime(pd.Series(ROWS["joined"])).dt
    ages = pd.Series(ROWS["age"], dtype=float)
    days = (pd.to_datetime(pd.Series(ROWS["joined"])) - pd.Timestamp(0)) / pd.Timedelta(days=1)
    expected = {
        "age": ages,
        "joined.days": days,
        "joined.month": dates.month,
        "joined.day": dates.day,
        "joined.weekday": dates.day_of_week,
    }
    assert [number.name for number in encoding.numbers] == list(expected)
    np.testing.assert_array_equal(numbers, np.column_stack([*expected.values()]))
    train = pd.DataFrame(expected)[IS_TRAIN]
    filled = train.fillna(train.median())
    scaler = StandardScaler().fit(filled)
    np.testing.assert_array_equal([number.median for number in encoding.numbers], train.median())
    np.testing.assert_allclose([number.mean for number in encoding.numbers], scaler.mean_, rtol=1e-14)
    np.testing.assert_allclose([number.std for number in encoding.numbers], scaler.scale_, rtol=1e-14)

    assert [category.values for category in encoding.categories] == [
        ("", "Oslo", "Rome"),
        ("", "false", "true"),
    ]
    assert codes.tolist() == [[3, 3], [2, 2], [1, 1], [3, 3], [2, 2], [UNKNOWN, 3]]


def test_other_splits_do_not_change_the_statistics() -> None:
    encoding, *_ = encoded(as_file(".csv"), "rows.csv")
    changed = as_file(".csv").replace(b"2.0,Bonn", b"999.0,Rome")
    assert encoded(changed, "rows.csv")[0] == encoding
    assert encoded(changed.replace(b"31.5", b"32.5"), "rows.csv")[0] != encoding


def test_equal_rows_are_equal_however_their_numbers_are_written() -> None:
    table = read("x,c,y\n1,a,1\n1.0,a,2\n-0,a,1\n0,a,1\nNA,a,1\n,a,1\n,b,1\n1,b,1\n")
    columns = [Column("x", "number"), Column("c", "category")]
    everything = fit_encoding(table, columns, np.ones(len(table), bool))
    digests = row_digests(*encode(everything, table))
    assert [digests.index(digest) for digest in digests] == [0, 0, 2, 2, 4, 4, 6, 7]
    assert table.where(6) == "rows.csv:8"
    of_two = fit_encoding(table, columns, np.arange(len(table)) < 2)
    with pytest.raises(ValueError, match="not fitted to all rows"):
        row_digests(*encode(of_two, table))


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine, load_iris])
def test_a_column_that_gives_the_label_away_is_found_and_no_other(load: Callable) -> None:
    frame = load(as_frame=True).frame.rename(columns={"target": "y"})
    planted = {
        "threshold": frame["y"] * 10 + np.linspace(0, 5, len(frame)),
        "outcome": "code " + frame["y"].astype(str),
        "noisy": "code " + frame["y"].where(np.arange(len(frame)) % 20 > 0, 0).astype(str),
    }
    table = read(frame.assign(**planted).to_csv(index=False))
    columns = settle_columns(table, {}, LABEL.values())
    encoding = fit_encoding(table, columns, np.ones(len(table), bool))
    labels = frame["y"].to_numpy()
    found = telling_columns(encoding, *encode(encoding, table), labels)
    assert set(found) == {"threshold", "outcome"}
    assert found["outcome"] == 1


def test_few_rows_do_not_make_a_column_suspicious() -> None:
    num_rows = 2 * MIN_PER_CLASS - 2
    table = read("x,y\n" + "".join(f"{i + 0.5},{2 * i // num_rows}\n" for i in range(num_rows)))
    columns = settle_columns(table, {}, LABEL.values())
    encoding = fit_encoding(table, columns, np.ones(num_rows, bool))
    labels = np.arange(num_rows) * 2 // num_rows
    assert telling_columns(encoding, *encode(encoding, table), labels) == {}

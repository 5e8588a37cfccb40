"""Labels from a table, against pandas; and what becomes of odd rows, paths and files."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.collection.archive import TarFiles, pack
from darkroom.collection.entries import Entry
from darkroom.collection.folder import FolderFiles
from darkroom.collection.manifest import Columns, label_by_manifest
from darkroom.errors import UserError

PATH_AND_LABEL = Columns("path", "label")
ALL = Columns("path", "label", "split", "group", "weight")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def make_files(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def labelled(
    root: Path,
    manifest: str = "labels.csv",
    columns: Columns = PATH_AND_LABEL,
    separator: str | None = None,
) -> dict[str, Entry]:
    entries = list(label_by_manifest(FolderFiles(root), manifest, columns, separator))
    assert len({entry.path for entry in entries}) == len(entries)
    by_path = {entry.path: entry for entry in sorted(entries, key=lambda entry: entry.path)}
    assert by_path.keys() >= {entry.path for entry in FolderFiles(root).entries()}
    assert by_path.pop(manifest) == Entry(
        manifest, outcome="unlisted", reason="the manifest", size=(root / manifest).stat().st_size
    )
    return by_path


def labels(root: Path, text: str | bytes, manifest: str = "labels.csv") -> dict[str, str | None]:
    (root / manifest).write_bytes(text.encode() if isinstance(text, str) else text)
    return {path: entry.label for path, entry in labelled(root, manifest).items()}


def outcomes(root: Path, text: str, manifest: str = "labels.csv") -> dict[str, tuple[str | None, str]]:
    (root / manifest).parent.mkdir(parents=True, exist_ok=True)
    (root / manifest).write_bytes(text.encode())
    return {path: (e.outcome, e.reason) for path, e in labelled(root, manifest).items()}


def refusal(
    root: Path,
    content: str | bytes,
    manifest: str = "labels.csv",
    columns: Columns = ALL,
    separator: str | None = None,
) -> str:
    (root / manifest).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as refused:
        list(label_by_manifest(FolderFiles(root), manifest, columns, separator))
    return str(refused.value).replace(str(root), "ROOT")


ODD_LABELS = [
    "007",
    "7",
    "NA",
    "None",
    "null",
    "nan",
    "true",
    "1.0",
    "1e3",
    " x ",
    "ü",
    "a,b;c\td",
    'q"',
    "l\nl",
    "-",
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".TSV", ".txt"])
def test_labels_of_a_csv_are_text_as_written(root: Path, delimiter: str, suffix: str) -> None:
    paths = [f"images/{index:02}.png" for index in range(len(ODD_LABELS))]
    make_files(root, *paths)
    table = io.StringIO()
    writer = csv.writer(table, delimiter=delimiter, lineterminator="\r\n")
    writer.writerows(
        [
            ["label", "other", "path"],
            *([label, "x", p] for label, p in zip(ODD_LABELS, paths, strict=True)),
        ]
    )
    found = labels(root, table.getvalue(), f"labels{suffix}")
    reference = pd.read_csv(
        io.StringIO(table.getvalue()), sep=delimiter, dtype=str, keep_default_na=False
    )
    assert found == dict(zip(reference["path"], reference["label"].str.strip(), strict=True))
    assert list(found.values()) == [label.strip() for label in ODD_LABELS]


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=3)
    return file.getvalue()


TYPED = {"labels.jsonl": json_lines, "labels.ndjson": json_lines, "labels.parquet": parquet}


@pytest.mark.parametrize(("manifest", "encode"), TYPED.items())
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (ODD_LABELS, [label.strip() for label in ODD_LABELS]),
        ([7, -1, 10**15], ["7", "-1", "1000000000000000"]),
        ([True, False], ["true", "false"]),
        (["2020-01-01", "2020-01-02"], ["2020-01-01", "2020-01-02"]),
        (["cat", None, ""], ["cat", None, None]),
    ],
    ids=["text", "whole", "truth", "dates", "missing"],
)
def test_labels_of_typed_tables_become_text(
    root: Path,
    manifest: str,
    encode: Callable[[list[dict[str, Any]]], bytes],
    values: list[Any],
    expected: list[str | None],
) -> None:
    paths = [f"images/{index}.png" for index in range(len(values))]
    make_files(root, *paths)
    content = encode([{"n": 1, "path": p, "label": v} for p, v in zip(paths, values, strict=True)])
    assert labels(root, content, manifest) == dict(zip(paths, expected, strict=True))


def test_a_categorical_column_of_pandas_is_text(root: Path) -> None:
    make_files(root, "1.png", "2.png")
    frame = pd.DataFrame({"path": ["1.png", "2.png"], "label": pd.Categorical(["b", "a"])})
    frame.to_parquet(root / "labels.parquet")
    assert {p: e.label for p, e in labelled(root, "labels.parquet").items()} == {
        "1.png": "b",
        "2.png": "a",
    }


@pytest.mark.parametrize("manifest", ["labels.csv", *TYPED])
def test_all_columns_are_taken(root: Path, manifest: str) -> None:
    rows = [
        {"path": "1.png", "label": "cat", "split": "Train", "group": "p1", "weight": "0.5"},
        {"path": "2.png", "label": "dog", "split": "", "group": "", "weight": ""},
        {"path": "3.png", "label": "dog", "split": "VALIDATION", "group": "p1", "weight": "1e-3"},
        {"path": "4.png", "label": "cat", "split": "testing", "group": "7", "weight": "2"},
    ]
    make_files(root, *(row["path"] for row in rows))
    if manifest == "labels.csv":
        pd.DataFrame(rows).to_csv(root / manifest, index=False)
    else:
        typed = [{**row, "weight": float(row["weight"]) if row["weight"] else None} for row in rows]
        (root / manifest).write_bytes(TYPED[manifest](typed))
    assert list(labelled(root, manifest, ALL).values()) == [
        Entry("1.png", "cat", "train", "p1", 0.5, size=5),
        Entry("2.png", "dog", None, None, None, size=5),
        Entry("3.png", "dog", "val", "p1", 0.001, size=5),
        Entry("4.png", "cat", "test", "7", 2.0, size=5),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\n1.png,cat\n2.png,dog\n",
        "path,label\r\n1.png,cat\r\n2.png,dog\r\n\r\n\r\n",
        "path,label\r1.png,cat\r2.png,dog",
        "\ufeffpath,label\n1.png,cat\n2.png,dog",
        '\ufeff"path","label"\n"1.png","cat"\n"2.png","dog"\n',
        "path,label\n\n1.png,cat\n  \n2.png,dog\n,\n,\n",
        "label;path\ncat;./1.png\ndog;x/../2.png\n",
        "a,b\tpath\tlabel\n1,2\t1.png\tcat\n1,2\t2.png\tdog\n",
        "path,label,a;b;c;d\n1.png,cat,x\n2.png,dog,y\n",
    ],
)
def test_the_dialects_of_real_life_are_read(root: Path, text: str) -> None:
    make_files(root, "1.png", "2.png")
    assert labels(root, text) == {"1.png": "cat", "2.png": "dog"}


def test_paths_are_relative_to_the_manifest_and_stay_below_it(root: Path, tmp_path: Path) -> None:
    make_files(root, "meta/a/1.png", "meta/2.png", "3.png")
    make_files(tmp_path, "4.png")
    listed = ["a/1.png", "./a/../2.png", "../3.png", "../../4.png", str(root / "3.png"), "a/../../3.png"]
    listed += [r"C:\mine\3.png", r"\\server\3.png", r"..\3.png", "/etc/passwd", "http://x/1.png"]
    text = "path,label\n" + "".join(f"{path},cat\n" for path in listed)
    found = outcomes(root, text, "meta/labels.csv")
    assert found.pop("meta/a/1.png") == found.pop("meta/2.png") == (None, "")
    assert found.pop("3.png") == ("unlisted", "not in the manifest")
    assert found.pop("meta/http:/x/1.png") == ("missing", "listed, but missing")
    assert sorted(found) == sorted(listed[2:-1])
    assert set(found.values()) == {
        ("outside", "a path that leads out of the folder that paths are relative to")
    }


def test_backslashes_separate_unless_a_file_has_them_in_its_name(root: Path) -> None:
    make_files(root, "cat/1.png", "cat/2.png", r"cat\2.png", r"cat\3.png")
    text = "path,label\ncat\\1.png,a\n.\\cat\\2.png,b\ncat\\2.png,c\ncat\\3.png,d\n"
    assert labels(root, text) == {
        **{"cat/1.png": "a", "cat/2.png": "b"},
        **{r"cat\2.png": "c", r"cat\3.png": "d"},
    }


def test_a_path_out_of_the_folder_labels_no_file_that_is_called_so(root: Path) -> None:
    make_files(root, r"C:\1.png", "meta/2.png")
    (root / "meta/labels.csv").write_text("path,label\nC:\\1.png,cat\n2.png,dog\n")
    entries = label_by_manifest(FolderFiles(root), "meta/labels.csv", PATH_AND_LABEL)
    assert sorted(
        (e.path, str(e.outcome), str(e.label)) for e in entries if e.path != "meta/labels.csv"
    ) == [
        (r"C:\1.png", "outside", "cat"),
        (r"C:\1.png", "unlisted", "None"),
        ("meta/2.png", "None", "dog"),
    ]


NFC, NFD = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("stored", "listed"), [(NFC, NFD), (NFD, NFC), (NFD, NFD), (NFC, NFC)])
def test_unicode_normalisation_does_not_matter(root: Path, stored: str, listed: str) -> None:
    make_files(root, stored, "2.png")
    assert labels(root, f"path,label\n{listed},cat\n2.png,dog\n") == {stored: "cat", "2.png": "dog"}


def test_an_exact_name_is_taken_before_a_normalised_one(root: Path) -> None:
    make_files(root, NFC, NFD)
    assert labels(root, f"path,label\n{NFC},c\n{NFD},d\n") == {NFC: "c", NFD: "d"}


def test_an_ambiguous_name_is_missing(root: Path) -> None:
    names = ["q\u0307\u0323.png", "q\u0323\u0307.png"]  # both accents, in either order
    make_files(root, names[1], "e\u0323\u0302.png", "\u1eb9\u0302.png")
    found = outcomes(root, f"path,label\n{names[0]},cat\n\u1ec7.png,cat\n")
    assert found[names[1]] == (None, "")
    assert found["\u1ec7.png"][0] == "missing"


def test_files_listed_but_not_there_are_missing_once(root: Path) -> None:
    make_files(root, "Cat/1.JPG", "2.png")
    text = "path,label\ncat/1.jpg,cat\n2.png,dog\n3.png,dog\n3.png,dog\n3.png,cat\nCat,dog\n"
    assert outcomes(root, text) == {
        "Cat/1.JPG": ("unlisted", "not in the manifest"),
        "cat/1.jpg": ("missing", "listed, but missing; a similar path is Cat/1.JPG"),
        "2.png": (None, ""),
        "3.png": ("missing", "listed, but missing"),
        "Cat": ("missing", "listed, but missing"),
    }


def test_links_that_leave_stay_outside_and_hidden_files_hidden(root: Path, tmp_path: Path) -> None:
    make_files(tmp_path, "secret")
    make_files(root, ".hidden.png", ".DS_Store", "1.png")
    (root / "2.png").symlink_to(tmp_path / "secret")
    (root / "3.png").symlink_to(tmp_path / "secret")
    found = outcomes(root, "path,label\n.hidden.png,cat\n1.png,cat\n2.png,cat\n")
    assert found == {
        ".hidden.png": ("hidden", "listed, but hidden files are excluded"),
        ".DS_Store": ("hidden", ""),
        "1.png": (None, ""),
        "2.png": ("outside", "a link out of the folder"),
        "3.png": ("unlisted", "not in the manifest"),
    }


def test_a_file_without_a_label_is_unlisted(root: Path) -> None:
    make_files(root, "1.png", "2.png", "3.png")
    found = outcomes(root, "path,label\n1.png,cat\n2.png,\n3.png,  \n")
    assert found["1.png"] == (None, "")
    assert found["2.png"] == found["3.png"] == ("unlisted", "no label in the manifest")


def test_a_file_listed_again_counts_once_or_conflicts(root: Path) -> None:
    make_files(root, "same.png", "labels.png", "none.png", "split.png", "weight.png")
    lines = ["path,label,split,weight", "same.png,cat,,1", "./same.png,cat,,1.0", "same.png,cat,,1"]
    lines += [
        "labels.png,cat,,",
        "labels.png,dog,,",
        "labels.png,cat,,",
        "none.png,,,",
        "none.png,cat,,",
    ]
    lines += ["split.png,cat,train,", "split.png,cat,test,", "weight.png,cat,,", "weight.png,cat,,2"]
    (root / "labels.csv").write_text("\n".join(lines))
    found = labelled(root, columns=Columns("path", "label", "split", weight="weight"))
    assert {path: (entry.outcome, entry.reason) for path, entry in found.items()} == {
        "same.png": (None, "listed 3 times"),
        "labels.png": ("conflicting label", "its label is cat (line 5), dog (line 6)"),
        "none.png": ("conflicting label", "its label is none (line 8), cat (line 9)"),
        "split.png": ("conflicting label", "its split is train (line 10), test (line 11)"),
        "weight.png": ("conflicting label", "its weight is none (line 12), 2.0 (line 13)"),
    }
    assert found["same.png"].label == "cat"
    assert found["labels.png"].label is None


def test_a_conflict_names_the_first_line_of_each_label(root: Path) -> None:
    make_files(root, "1.png", "2.png")
    rows = "".join(f"{1 + index % 2}.png,{index % 7}\n" for index in range(1000))
    assert outcomes(root, f"path,label\n{rows}") == {
        "1.png": (
            "conflicting label",
            "its label is 0 (line 2), 2 (line 4), 4 (line 6), 6 (line 8), 1 (line 10)",
        ),
        "2.png": (
            "conflicting label",
            "its label is 1 (line 3), 3 (line 5), 5 (line 7), 0 (line 9), 2 (line 11)",
        ),
    }


REFUSED = {
    "nothing": (b"", "labels.csv has no column path because its first line is empty"),
    "header only": ("path,label,split,group,weight\n\n", "ROOT/labels.csv has no rows"),
    "no label": (
        "path,labels,split,group,weight\n1.png,cat,,,",
        "data.label_column: ROOT/labels.csv has no column label among path, labels, split, group,"
        " weight; did you mean labels?",
    ),
    "no header": (
        "1.png,cat,train,a,1\n",
        "data.path_column: ROOT/labels.csv has no column path among 1.png",
    ),
    "column twice": (
        "path,label,split,group,weight,label\n1.png,cat,,,,dog",
        "data.label_column: ROOT/labels.csv has 2 columns label; rename one",
    ),
    "ragged": (
        "path,label,split,group,weight\n1.png,cat,,,\n\n2.png,cat,dog,,,\n",
        "ROOT/labels.csv: line 4 has 6 fields, the first line has 5; enclose text that"
        " contains ',' in double quotes",
    ),
    "short": ("path,label,split,group,weight\n1.png,cat\n", "line 2 has 2 fields, the first line has 5"),
    "open quote": ('path,label,split,group,weight\n1.png,"cat,,,\n', "unexpected end of data"),
    "latin-1": (
        "path,label,split,group,weight\n1.png,cat,,,\n2.png,café,,,".encode("latin-1"),
        "ROOT/labels.csv: line 3 is not UTF-8; save it as UTF-8",
    ),
    "utf-16": ("path,label\n1.png,cat".encode("utf-16"), "ROOT/labels.csv: line 1 is not UTF-8"),
    "no path": ("path,label,split,group,weight\n,cat,,,\n", "ROOT/labels.csv: line 2 has no path"),
    "split": (
        "path,label,split,group,weight\n1.png,cat,,,\n1.png,cat,train2,,\n",
        "ROOT/labels.csv: line 3 has the split 'train2'; allowed are train, training, val, valid,"
        " validation, dev, test, testing",
    ),
}
for weight in ("0", "-1", "inf", "nan", "1_0", "0,5", "x", "1e999", "0x1", "."):
    cell = f'"{weight}"'
    REFUSED[f"weight {weight}"] = (
        f"path,label,split,group,weight\n1.png,cat,,,{cell}\n",
        f"ROOT/labels.csv: line 2 has the weight {weight!r}; it must be a number above 0, or empty"
        " for 1",
    )


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_by_line(root: Path, content: str | bytes, message: str) -> None:
    make_files(root, "1.png", "2.png")
    assert message in refusal(root, content)


TYPED_REFUSED = {
    "fraction": (
        "labels.jsonl",
        b'{"path": "1.png", "label": 1.0}',
        "line 1 has the label 1.0, a float; write it",
    ),
    "not a number": ("labels.jsonl", b'{"path": "1.png", "label": NaN}', "line 1 has the label nan"),
    "list": (
        "labels.jsonl",
        b'{"path": "1.png", "label": ["cat"]}',
        "line 1 has the label ['cat'], a list",
    ),
    "no object": (
        "labels.jsonl",
        b'{"path": "1.png", "label": "a"}\n3\n',
        "line 2 is not a JSON object",
    ),
    "array": ("labels.jsonl", b'[\n{"path": "1.png"}\n]', "line 1 is not JSON ("),
    "deep": ("labels.jsonl", b"[" * 100_000, "line 1 is not JSON ("),
    "cut": ("labels.jsonl", b'{"path": "1.png", "label": "a"}\n{"path": "2', "line 2 is not JSON ("),
    "bytes": ("labels.jsonl", b'{"path": "1.png", "label": "\xe9"}', "line 1 is not UTF-8"),
    "surrogate": (
        "labels.jsonl",
        b'{"path": "1.png", "label": "\\ud800"}',
        "which is not valid Unicode",
    ),
    "no path": ("labels.jsonl", b'{"label": "a"}', "line 1 has no path"),
    "no label": ("labels.jsonl", b'{"path": "1.png"}', "has no column label among path"),
    "no lines": ("labels.jsonl", b"\n\n", "labels.jsonl has no rows"),
    "float column": (
        "labels.parquet",
        parquet([{"path": "1", "label": 1.5}]),
        "row 1 has the label 1.5",
    ),
    "binary": (
        "labels.parquet",
        parquet([{"path": "1", "label": b"a"}]),
        "row 1 has the label b'a', a bytes",
    ),
    "no column": (
        "labels.parquet",
        parquet([{"path": "1", "lable": "a"}]),
        "among path, lable; did you mean lable?",
    ),
    "no parquet": (
        "labels.parquet",
        b"path,label\n",
        "labels.parquet is not a Parquet file, or is dam",
    ),
    "cut parquet": (
        "labels.parquet",
        parquet([{"path": "1", "label": "a"}])[:-9],
        "not a Parquet file, or is damaged (",
    ),
}


@pytest.mark.parametrize(("manifest", "content", "message"), TYPED_REFUSED.values(), ids=TYPED_REFUSED)
def test_typed_tables_with_mistakes_are_refused(
    root: Path, manifest: str, content: bytes, message: str
) -> None:
    make_files(root, "1.png")
    assert message in refusal(root, content, manifest, PATH_AND_LABEL)


# several labels an image


@pytest.mark.parametrize(
    ("separator", "cells"),
    {
        "|": {"cat|dog": "cat|dog", " dog | cat|dog": "cat|dog", "dog": "dog", "": "", "  ": ""},
        " ": {"dog  ": "dog", "dog cat": "cat dog", "NA 007 7": "007 7 NA"},
        ", ": {"dog, cat": "cat, dog", "dog,cat": "dog,cat"},
        "||": {"b||a|c": "a|c||b", "a|b": "a|b"},
    }.items(),
)
def test_a_cell_is_a_set_of_labels(root: Path, separator: str, cells: dict[str, str]) -> None:
    paths = [f"{index}.png" for index in range(len(cells))]
    make_files(root, *paths)
    rows = [f'{path},"{cell}"' for path, cell in zip(paths, cells, strict=True)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    found = labelled(root, separator=separator)
    assert {e.label: e.outcome for e in found.values()} == dict.fromkeys(cells.values())
    assert [found[path].label for path in paths] == list(cells.values())


def test_without_a_separator_the_same_cell_is_one_label(root: Path) -> None:
    make_files(root, "1.png", "2.png")
    assert labels(root, "path,label\n1.png,dog|cat\n2.png,|\n") == {"1.png": "dog|cat", "2.png": "|"}


@pytest.mark.parametrize(("manifest", "encode"), TYPED.items())
def test_typed_tables_hold_several_labels_as_text_or_as_lists(
    root: Path, manifest: str, encode: Callable[[list[dict[str, Any]]], bytes]
) -> None:
    given: list[list[Any]] = [
        ["dog|cat|dog", "", None],
        [["dog", "cat", " dog"], [], None],
        [[7, -1], [], [10**15]],
    ]
    expected = [["cat|dog", "", ""], ["cat|dog", "", ""], ["-1|7", "", str(10**15)]]
    paths = ["0.png", "1.png", "2.png"]
    make_files(root, *paths)
    for values, found in zip(given, expected, strict=True):
        rows = [{"path": path, "label": value} for path, value in zip(paths, values, strict=True)]
        (root / manifest).write_bytes(encode(rows))
        assert [labelled(root, manifest, separator="|")[path].label for path in paths] == found


SEVERAL_REFUSED = {
    "gap": (
        "|",
        "cat||dog",
        "has the label 'cat||dog', one of which is empty; write exactly one '|'",
    ),
    "blank": ("|", "cat| ", "has the label 'cat| ', one of which is empty"),
    "separator alone": ("|", "|", "has the label '|', one of which is empty"),
    "unclear": (
        "||",
        "b||a|",  # sorted that is a|||b, which would be read as a and |b
        "has the label 'b||a|', in which '||' is also part of a label; set data.label_separator to",
    ),
}


@pytest.mark.parametrize(("separator", "cell", "message"), SEVERAL_REFUSED.values(), ids=SEVERAL_REFUSED)
def test_what_is_no_set_of_labels_is_refused_by_line(
    root: Path, separator: str, cell: str, message: str
) -> None:
    make_files(root, "1.png", "2.png")
    text = f"path,label\n1.png,cat\n2.png,{cell}\n"
    said = refusal(root, text, columns=PATH_AND_LABEL, separator=separator)
    assert said.startswith(f"ROOT/labels.csv: line 3 {message}")
    assert labels(root, text)["2.png"] == cell.strip()


LISTS_REFUSED = {
    "empty label": ('["cat", ""]', "has the label ['cat', ''], one of which is empty"),
    "no label": ('["cat", null]', "has the label ['cat', None], one of which is empty"),
    "separator": ('["cat|dog"]', "has the label ['cat|dog'], in which '|' is also part of a label"),
    "fraction": ('["cat", 1.5]', "has the label 1.5, a float; write it as text"),
    "list of lists": ('[["cat"]]', "has the label ['cat'], a list; write it as text"),
    "object": ('{"cat": 1}', "has the label {'cat': 1}, a dict; write it as text"),
}


@pytest.mark.parametrize(("value", "message"), LISTS_REFUSED.values(), ids=LISTS_REFUSED)
def test_a_list_that_is_no_set_of_labels_is_refused_by_line(
    root: Path, value: str, message: str
) -> None:
    make_files(root, "1.png")
    text = '{"path": "1.png", "label": ' + value + "}"
    said = refusal(root, text, "labels.jsonl", PATH_AND_LABEL, "|")
    assert said.startswith(f"ROOT/labels.jsonl: line 1 {message}")


def test_the_label_column_must_be_there_for_images_without_labels(root: Path) -> None:
    make_files(root, "1.png")
    said = refusal(root, "path,tags\n1.png,\n", columns=PATH_AND_LABEL, separator="|")
    assert said.startswith("data.label_column: ROOT/labels.csv has no column label among path, tags")


def test_files_listed_again_agree_in_their_sets(root: Path) -> None:
    make_files(root, "same.png", "other.png", "none.png")
    lines = ["same.png,cat|dog", "same.png,dog|cat", "other.png,cat|dog", "other.png,dog"]
    lines += ["none.png,", "none.png,cat"]
    (root / "labels.csv").write_text("\n".join(["path,label", *lines]))
    found = labelled(root, separator="|")
    assert {path: (e.label, e.outcome, e.reason) for path, e in found.items()} == {
        "same.png": ("cat|dog", None, "listed 2 times"),
        "other.png": (None, "conflicting label", "its label is cat|dog (line 4), dog (line 5)"),
        "none.png": (None, "conflicting label", "its label is none (line 6), cat (line 7)"),
    }


@pytest.mark.parametrize("manifest", ["labels.csv", *TYPED])
def test_blanks_around_labels_splits_groups_and_weights_do_not_count(root: Path, manifest: str) -> None:
    make_files(root, "1.png", "2.png")
    rows = [
        {"path": "1.png", "label": " cat\t", "split": " Val ", "group": " p1", "weight": " 2 "},
        {"path": "2.png", "label": "cat", "split": "DEV", "group": "p1 ", "weight": "2"},
    ]
    frame = pd.DataFrame(rows)
    encode = TYPED.get(manifest)
    (root / manifest).write_bytes(encode(rows) if encode else frame.to_csv(index=False).encode())
    found = labelled(root, manifest, ALL)
    said = {(e.label, e.split, e.group, e.weight, e.outcome) for e in found.values()}
    assert said == {("cat", "val", "p1", 2.0, None)}


def test_blanks_around_column_names_do_not_count(root: Path) -> None:
    make_files(root, "1.png")
    assert labels(root, "path , label\n1.png, cat\n") == {"1.png": "cat"}
    (root / "labels.csv").write_text("path, label,label\n1.png,cat,dog\n")
    found = labelled(root, columns=Columns("path", " label"))
    assert found["1.png"].label == "cat"


def test_a_label_of_invisible_characters_is_refused_by_line(root: Path) -> None:
    make_files(root, "1.png")
    assert refusal(root, "path,label\n1.png,\u200b\n", columns=PATH_AND_LABEL) == (
        "ROOT/labels.csv: line 2 has the label '\\u200b', which consists only of invisible characters"
    )


def test_paths_may_be_relative_to_another_folder(root: Path) -> None:
    make_files(root, "images/1.png", "images/a/2.png", "1.png", "tables/x")
    (root / "tables/labels.csv").write_text("path,label\n1.png,cat\na\\2.png,dog\n../1.png,owl\n")
    for image_root in ("images", "images/", "./images"):
        entries = label_by_manifest(
            FolderFiles(root), "tables/labels.csv", PATH_AND_LABEL, root=image_root
        )
        found = {e.path: (e.label, e.outcome) for e in entries}
        assert found["images/1.png"] == ("cat", None)
        assert found["images/a/2.png"] == ("dog", None)
        assert found["../1.png"] == ("owl", "outside")
        assert found["1.png"] == (None, "unlisted")
    entries = label_by_manifest(FolderFiles(root), "tables/labels.csv", PATH_AND_LABEL, root=".")
    assert {e.path: e.outcome for e in entries if e.label} == {
        "1.png": None,
        "a/2.png": "missing",
        "../1.png": "outside",
    }
    with pytest.raises(UserError, match=r"has no files in the folder imagse; did you mean images\?"):
        list(label_by_manifest(FolderFiles(root), "tables/labels.csv", PATH_AND_LABEL, root="imagse"))


def test_a_parquet_file_without_rows_is_refused(root: Path) -> None:
    file = io.BytesIO()
    pq.write_table(
        pa.table({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}), file
    )
    assert "has no rows" in refusal(root, file.getvalue(), "labels.parquet", PATH_AND_LABEL)


def test_a_manifest_that_cannot_be_used_is_refused(root: Path, tmp_path: Path) -> None:
    make_files(root, "labels.csv", ".labels.csv", "labels.xlsx")
    make_files(tmp_path, "outside.csv")
    (root / "link.csv").symlink_to(tmp_path / "outside.csv")
    for manifest, message in {
        "label.csv": f"data.manifest: {root} does not contain label.csv; did you mean labels.csv?",
        "../outside.csv": f"data.manifest: {root} does not contain ../outside.csv",
        str(root / "labels.csv"): f"data.manifest: {root} does not contain {root}/labels.csv",
        "labels.xlsx": "data.manifest: the suffix of labels.xlsx is not one of .csv, .tsv",
        "link.csv": "data.manifest: link.csv cannot be used: a link out of the folder",
        ".labels.csv": "data.manifest: .labels.csv cannot be used: it is hidden",
    }.items():
        with pytest.raises(UserError, match=re.escape(message)):
            list(label_by_manifest(FolderFiles(root), manifest, PATH_AND_LABEL))


def test_a_packed_folder_is_labelled_as_the_folder(root: Path, tmp_path: Path) -> None:
    make_files(root, "a/1.png", "a/2.png", ".hidden")
    (root / "labels.csv").write_text("path,label\na/1.png,cat\na/3.png,dog\n../4.png,dog\n")
    pack(root, tmp_path / "mine.tar", lambda number: None, lambda number: None)
    files = TarFiles(tmp_path / "mine.tar")
    entries = {e.path: e for e in label_by_manifest(files, "labels.csv", PATH_AND_LABEL)}
    reference = labelled(root)
    reference.pop(".hidden")
    assert {path: (e.label, e.outcome) for path, e in entries.items() if path != "labels.csv"} == {
        path: (e.label, e.outcome) for path, e in reference.items()
    }
    assert files.read("a/1.png", entries["a/1.png"].offset, entries["a/1.png"].size) == b"a/1.png"


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_random_tables_are_joined_as_pandas_joins_them(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    random = np.random.default_rng(seed)
    root = tmp_path_factory.mktemp("mine")
    names = [f"{folder}/{index}.png" for folder in "abc" for index in range(8)]
    make_files(root, *random.choice(names, 12, replace=False).tolist())
    frame = pd.DataFrame({"path": random.choice(names, 20), "label": random.choice(["x", "y"], 20)})
    frame.to_csv(root / "labels.csv", index=False)
    said = frame.groupby("path")["label"].agg(lambda labels: "/".join(sorted(set(labels))))
    there = {e.path for e in FolderFiles(root).entries()} - {"labels.csv"}
    expected = {}
    for path in there | set(frame["path"]):
        label = said.get(path)
        if path not in there:
            expected[path] = "missing"
        elif label is None:
            expected[path] = "unlisted"
        else:
            expected[path] = "conflicting label" if "/" in label else label
    assert {path: e.outcome or e.label for path, e in labelled(root).items()} == expected

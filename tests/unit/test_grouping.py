"""Groups named by a regular expression in the path: which, and what is refused."""

import re
import time

import pyarrow as pa
import pytest

from darkroom.collection.grouping import GroupPattern, check_groups
from darkroom.errors import UserError

PATHS = [
    "14/00012_00003.ppm",
    "14/00012_00004.ppm",
    "video3_frame_0001.jpg",
    "a (1)/x[2].png",
    "\u00fc/\u00e9_7.png",
    "plain",
]


def groups(pattern: str) -> list[str | None]:
    return GroupPattern(pattern).groups(pa.array(PATHS)).to_pylist()


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(.*)_\d+\.",
        r"(\d\d\d\d\d)_",
        r"(video\d)|/(\d+)_",
        r"(?P<group>\d+)_(\d+)",
        r"(\d+)_(?P<other>\d+)",
        r"(?:\d+)/(\d+)",
        r"(?i)(VIDEO\d+)",
        r"\((\d)\)",
        r"[(](\d)[)]/x\[(\d)\]",
        r"[]()](.)",
        r"(\w+)/",
        r"^([^/]*)/",
        r"(x)?plain",
    ],
)
def test_groups_are_those_of_pythons_expressions(pattern: str) -> None:
    expected = []
    for path in PATHS:
        match = re.search(pattern, path, flags=re.ASCII)
        named = match.groupdict().get("group") if match else None
        joined = named or "/".join(part or "" for part in match.groups()) if match else ""
        expected.append(joined if joined.strip("/") else None)
    assert groups(pattern) == expected


def test_quoted_text_opens_no_group() -> None:
    assert groups(r"\Qa (1)\E/(.)")[3] == "x"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "frame",
            "has no capturing group to name the groups of images; add parentheses, for example",
        ),
        ("(?:a)", "has no capturing group"),
        (r"\(a\)", "has no capturing group"),
        ("(a", "is not a valid regular expression (Invalid regular expression: missing ))"),
        ("(a(?=b))", "has no lookaround and no backreferences. Write for example ^(.*)_frame"),
        (r"(a)\1", "has no lookaround and no backreferences"),
        ("*(a)", "is not a valid regular expression ("),
        ("[(a)", "is not a valid regular expression ("),
    ],
)
def test_what_cannot_name_a_group_is_refused_with_an_example(pattern: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        GroupPattern(pattern)
    assert str(refused.value).startswith(f"data.group_pattern: {pattern!r} ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "pattern", [r"^((?:a+)+)$", r"^(a|aa)+$", r"^((a*)*)*b", "(" + "a?" * 30 + "a" * 30 + ")"]
)
def test_no_expression_takes_exponential_time(pattern: str) -> None:
    """Those that take Python's ``re`` for ever on 60 letters; here, on 4,000."""
    before = time.process_time()
    GroupPattern(pattern).groups(pa.array(["a" * 4000 + "!"] * 10))
    assert time.process_time() - before < 30


def chunked(*values: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def test_a_pattern_that_finds_nothing_or_one_group_is_refused() -> None:
    paths = chunked("a/1", "a/2")
    with pytest.raises(UserError) as refused:
        check_groups("(x)", paths, chunked(None, None), "data/mine")
    assert str(refused.value).startswith(
        "data.group_pattern: '(x)' matches none of the 2 paths in data/mine, for example a/1"
    )
    with pytest.raises(UserError, match="puts all 2 files in data/mine into one group, 'a'"):
        check_groups("(a)", paths, chunked("a", "a"), "data/mine")
    check_groups("(a)", paths, chunked("a", None), "data/mine")
    check_groups("(a)", paths, chunked("a", "b"), "data/mine")

"""JSON that would fill the memory or block is refused, whatever it is for."""

import os
from pathlib import Path

import pytest

from darkroom.bounded_json import BadJson, load_json

BAD = {
    "no JSON": (b"{", "Expecting property name"),
    "empty": (b"", "Expecting value"),
    "not UTF-8": (b'"\xff"', "'utf-8' codec"),
    "lists in lists": (b"[" * 100_000, "nested too deeply"),
    "a huge number": (b"9" * 10_000, "integer string conversion"),
    "a byte more": (b'"' + b"x" * 99 + b'"', "over 100 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_json_is_refused(name: str, tmp_path: Path) -> None:
    content, expected = BAD[name]
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(BadJson, match=expected):
        load_json(path, 100 if name == "a byte more" else 10**6)


def test_the_largest_allowed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(f'"{"x" * 98}"')
    assert load_json(path, 100) == "x" * 98


def test_what_is_no_file_neither_blocks_nor_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadJson, match="not a regular file"):
        load_json(tmp_path / "pipe")
    with pytest.raises(BadJson, match="not a regular file"):
        load_json(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        load_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_json(tmp_path / "missing")

"""Digests of files and of JSON documents."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.digests import (
    CHUNK_BYTES,
    FileDigest,
    HashingFile,
    Mismatch,
    check_file,
    check_files,
    file_sha256,
    seal,
    unseal,
)
from darkroom.errors import UserError


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 3])
def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    assert file_sha256(path) == hashlib.sha256(content[:size]).hexdigest()
    assert FileDigest.of(path).size == size
    check_file(path, FileDigest.of(path))


def test_a_file_that_differs_is_told_from_one_of_another_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    recorded = FileDigest.of(path)
    for content, problem in ((b"abd", "another SHA-256"), (b"ab", "2 bytes instead of 3")):
        path.write_bytes(content)
        with pytest.raises(Mismatch, match=problem):
            check_file(path, recorded)
    path.unlink()
    with pytest.raises(Mismatch, match="missing"):
        check_file(path, recorded)


def test_of_many_files_the_first_that_differs_is_named(tmp_path: Path) -> None:
    for index in range(20):
        (tmp_path / f"{index:02d}").write_bytes(b"%d" % index)
    recorded = {path.name: FileDigest.of(path) for path in tmp_path.iterdir()}
    check_files(tmp_path, recorded, Path("list.json"), "make it again")
    for name in ("17", "05"):
        (tmp_path / name).write_bytes(b"xx")
    with pytest.raises(UserError) as refused:
        check_files(tmp_path, recorded, Path("list.json"), "make it again")
    message = str(refused.value)
    assert message.startswith(f"{tmp_path}/05: ")
    assert message.endswith("; list.json records it; make it again")


TEXT = st.text('aZ0 "\\\n\x00é日\u2028😀')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(TEXT, VALUES))
def test_a_sealed_document_comes_back_through_json_in_any_layout(values: dict) -> None:
    for layout in ({"indent": 2, "sort_keys": True, "ensure_ascii": False}, {"separators": (",", ":")}):
        assert unseal(json.loads(json.dumps(seal(values), **layout))) == values


@pytest.mark.parametrize(
    "changed", [{"a": 1.5}, {"a": True}, {"a": 1, "b": None}, {}, {"a": "1"}, {"A": 1}]
)
def test_another_value_breaks_the_seal(changed: dict) -> None:
    sealed = seal({"a": 1})
    with pytest.raises(Mismatch, match="other values"):
        unseal({**changed, "content_sha256": sealed["content_sha256"]})


@pytest.mark.parametrize("document", [{"a": 1}, [], None, "text"])
def test_a_document_without_a_seal_is_told(document: object) -> None:
    with pytest.raises(Mismatch):
        unseal(document)


def test_a_hashing_file_writes_everything_and_knows_its_digest(tmp_path: Path) -> None:
    class Reluctant(io.RawIOBase):
        """Takes three bytes at a time."""

        def __init__(self) -> None:
            self.taken = b""

        def write(self, data: memoryview) -> int:
            self.taken += bytes(data[:3])
            return len(data[:3])

    file = Reluctant()
    hashing = HashingFile(file)
    assert hashing.write(b"0123456789") == 10
    hashing.write(memoryview(b"abc"))
    assert file.taken == b"0123456789abc"
    expected = hashlib.sha256(file.taken).hexdigest()
    assert hashing.digest == FileDigest(sha256=expected, size=13)
    assert hashing.tell() == 13

"""The cache of decoded images: rows come back from any segment; damage is noticed, never believed."""

import hashlib
import os
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from darkroom.dataset.storage import Storage, pack_image
from darkroom.preparation.segments import (
    FACTS,
    SCHEMA,
    SegmentIndex,
    Segments,
    remove_others,
    write_segment,
)

SHAPE = (3, 4, 3)
SIZES = (4, 1, 3)
"""Rows of three segments."""


def digest(number: int) -> bytes:
    return hashlib.sha256(b"file %d" % number).digest()


def pixels(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)


def row(number: int, storage: Storage = "decoded") -> dict[str, object]:
    """A file that can be used, or, if ``number`` is a multiple of 5, one that cannot."""
    known: dict[str, object] = {**dict.fromkeys(SCHEMA.names), "file_sha256": digest(number)}
    if number % 5 == 0:
        return {**known, "outcome": "truncated", "reason": f"file {number} ends early"}
    header = {"format": "PNG", "mode": "RGB", "width": number, "height": 3, "animated": number % 2 == 1}
    image = pack_image(pixels(number), storage)
    measured = {"hash": digest(number)[:12], "brightness": number / 3, "sharpness": number / 7}
    return {
        **known,
        **header,
        **measured,
        "outcome": "used",
        "reason": "",
        "pixel_sha256": hashlib.sha256(pixels(number)).digest(),
        "image": image,
    }


def table(numbers: range, storage: Storage = "decoded") -> pa.Table:
    return pa.Table.from_pylist([row(number, storage) for number in numbers], schema=SCHEMA)


def write(folder: Path, storage: Storage = "decoded") -> list[str]:
    """Writes files 1 to 8 into three segments."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = np.cumsum([1, *SIZES]).tolist()
    return [write_segment(folder, table(range(start, end), storage)) for start, end in pairwise(ends)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache with files 1 to 8 in three segments."""
    write(tmp_path / "segments/key")
    return tmp_path / "segments/key"


# Rows


@pytest.mark.parametrize("storage", ["decoded", "encoded"])
def test_facts_and_images_come_in_the_order_asked_for(tmp_path: Path, storage: Storage) -> None:
    segments = Segments(tmp_path, write(tmp_path, storage), SHAPE, storage)
    assert len(segments) == 8

    @settings(deadline=None, derandomize=True, max_examples=60)
    @given(st.lists(st.integers(0, 7), max_size=20))
    def check(positions: list[int]) -> None:
        facts = segments.facts(np.array(positions, np.int64))
        assert facts.column_names == FACTS == [name for name in SCHEMA.names if name != "image"]
        expected = [row(position + 1, storage) for position in positions]
        assert facts.to_pylist() == [{name: each[name] for name in FACTS} for each in expected]
        usable = np.array([p for p in positions if p != 4], np.int64)
        images = segments.images(usable)
        assert images.dtype == np.uint8
        assert images.shape == (len(usable), *SHAPE)
        assert all(np.array_equal(i, pixels(p + 1)) for i, p in zip(images, usable, strict=True))
        for position in usable.tolist():
            assert segments.stored_image(position).to_pybytes() == row(position + 1, storage)["image"]

    check()
    assert segments.owners(np.arange(8)).tolist() == [0, 0, 0, 0, 1, 2, 2, 2]


def test_a_name_follows_the_content(tmp_path: Path) -> None:
    names = write(tmp_path / "a")
    assert len(set(names)) == 3
    assert write(tmp_path / "b") == names
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(names)
    for name in names:
        assert int(name.removesuffix(".arrow").split("-")[1]) == (tmp_path / "a" / name).stat().st_size


def test_a_segment_is_replaced_and_never_written_again(tmp_path: Path) -> None:
    """Another process may have it mapped."""
    files = [(tmp_path / write(tmp_path)[0]).open("rb") for _ in range(2)]
    assert os.fstat(files[0].fileno()).st_ino != os.fstat(files[1].fileno()).st_ino
    assert files[0].read() == files[1].read()
    for file in files:
        file.close()


def test_mapped_segments_hold_no_file_open(folder: Path) -> None:
    """Else some thousand segments would meet the limit of open files."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("looks into /proc")

    def open_files() -> list[str]:
        links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        names = [os.readlink(link) for link in links if link.is_symlink()]  # one is the list's own
        return [name for name in names if name.startswith(f"{folder.resolve()}")]

    path = next(folder.iterdir())
    with path.open():
        assert open_files() == [f"{path.resolve()}"]
    segments = Segments(folder, sorted(path.name for path in folder.iterdir()), SHAPE, "decoded")
    assert open_files() == []
    assert len(segments) == 8


# The index


def test_the_index_finds_every_file_and_no_other(folder: Path) -> None:
    index = pickle.loads(pickle.dumps(SegmentIndex(folder)))
    assert len(index) == 8
    segments = Segments(folder, index.names, SHAPE, "decoded")
    for number in range(1, 9):
        [found] = segments.facts(np.array([index.find(digest(number))])).to_pylist()
        assert found["file_sha256"] == digest(number)
    assert [index.find(digest(number)) for number in (0, 9, 10)] == [-1] * 3
    assert index.find(digest(3)[:8] + digest(4)[8:]) == -1  # the first eight bytes are not enough
    assert index.find(bytes(32)) == -1
    assert index.find(b"\xff" * 32) == -1


def test_an_index_of_nothing_finds_nothing(tmp_path: Path) -> None:
    index = SegmentIndex(tmp_path / "new/key")
    assert (len(index), index.names) == (0, [])
    assert index.find(digest(1)) == -1


def test_files_that_could_not_be_read_are_not_found(tmp_path: Path) -> None:
    rows = [{**row(5), "file_sha256": None, "outcome": "missing"}, row(1)]
    name = write_segment(tmp_path, pa.Table.from_pylist(rows, schema=SCHEMA))
    index = SegmentIndex(tmp_path)
    assert index.names == [name]
    assert index.find(bytes(32)) == -1
    assert index.find(digest(1)) == 1


def test_what_a_killed_run_left_is_removed(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    (folder / "0123abcd-99.arrow.4711.part").write_bytes(b"half a segm")
    assert set(SegmentIndex(folder).names) == names
    assert list(folder.glob("*.part")) == []


def test_two_indexes_may_live_beside_each_other(folder: Path) -> None:
    older = SegmentIndex(folder)
    place = older.find(digest(2))
    write_segment(folder, table(range(11, 15)))
    newer = SegmentIndex(folder)
    assert newer.find(digest(12)) >= 0
    assert older.find(digest(12)) == -1
    assert older.find(digest(2)) == place


# Damage

FLIP = """
import sys
from pathlib import Path
from test_segments import SHAPE, digest
from darkroom.preparation.segments import SegmentIndex, Segments
folder = Path(sys.argv[1])
path = folder / sys.argv[2]
whole = path.read_bytes()
for place in map(int, sys.argv[3:]):
    rotten = bytearray(whole)
    rotten[place] ^= 1 << place % 8
    path.write_bytes(rotten)
    index = SegmentIndex(folder)
    Segments(folder, index.names, SHAPE, "decoded")
    assert path.name not in index.names and not path.exists(), place
    print(*(number for number in range(1, 9) if index.find(digest(number)) < 0))
"""


@pytest.mark.slow
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    """In a process of its own: Arrow crashes on some of these files, most of all on the last bytes."""
    from support import output_of, start_python  # not above: the process would import torch with it

    names = write(tmp_path / "segments")
    size = (tmp_path / "segments" / names[0]).stat().st_size
    places = [*range(0, size - 200, 40), *range(size - 200, size)]
    process = start_python(FLIP, tmp_path / "segments", names[0], *places, cwd=tmp_path)
    assert output_of(process).splitlines() == ["1 2 3 4"] * len(places)


def test_damage_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SegmentIndex(folder)
    assert capsys.readouterr().err == ""
    path = sorted(folder.glob("*.arrow"))[1]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert len(SegmentIndex(folder).names) == 2
    assert capsys.readouterr().err == f"{path}: damaged; its images are decoded again\n"
    assert not path.exists()


def test_a_segment_is_refused_wherever_it_was_cut(folder: Path) -> None:
    names = sorted(path.name for path in folder.glob("*.arrow"))
    path = folder / names[0]
    whole = path.read_bytes()
    for length in (0, 1, 8, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert SegmentIndex(folder).names == names[1:]
    path.write_bytes(whole)
    assert SegmentIndex(folder).names == names


def test_what_is_no_segment_is_refused(folder: Path) -> None:
    (folder / "notes.arrow").write_text("mine")
    (folder / "01234567-0.arrow").touch()
    assert len(SegmentIndex(folder).names) == 3


# Removing


def test_only_what_is_used_is_kept(folder: Path) -> None:
    names = sorted(path.name for path in folder.glob("*.arrow"))
    write(folder.parent / "other layout")
    (folder.parent / "a file").touch()
    (folder.parent.parent / "beside").mkdir()
    remove_others(folder, set(names[:2]))
    assert sorted(path.name for path in folder.glob("*.arrow")) == names[:2]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["a file", "key"]
    assert (folder.parent.parent / "beside").exists()
    assert SegmentIndex(folder).names == names[:2]

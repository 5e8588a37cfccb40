"""Files that are replaced in one step."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from darkroom.whole_files import save_array, whole_file


def test_a_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert mapped[:] == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), whole_file(path) as part:
        part.write_text(b"not text")  # after the file is opened
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_array_is_what_numpy_loads(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_array(array, tmp_path / "a.npy")
    loaded = np.load(tmp_path / "a.npy")
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)

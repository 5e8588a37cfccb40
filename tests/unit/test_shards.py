"""Arrow shards: what is written is what is read, from one file or several; damage is named."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from darkroom.data import shards as shards_module
from darkroom.data.shards import MAX_SHARDS, Shards, ShardWriter
from darkroom.errors import UserError

SHAPE = (3, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (10, *SHAPE), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 1])
PATHS = [f"class/Bild {index} ü.png" for index in range(10)]


def write(folder: Path, images: NDArray[np.uint8] = IMAGES) -> Path:
    with ShardWriter(folder, images.shape[1:], len(images)) as writer:
        for image, label, path in zip(images, LABELS.tolist(), PATHS, strict=True):
            writer.add(image, label, path)
    return folder


@pytest.fixture(params=[10, 3, 1], ids=lambda rows: f"{rows} a shard")
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ten images in one shard, in four (the last is not full), and each in one of its own."""
    monkeypatch.setattr(shards_module, "SHARD_BYTES", request.param * IMAGES[0].nbytes)
    folder = write(tmp_path / "train")
    assert len(list(folder.iterdir())) == -(-10 // request.param)
    return folder


def test_pixels_labels_and_paths_come_back(folder: Path) -> None:
    shards = Shards(folder)
    assert len(shards) == 10
    assert shards.shape == SHAPE
    assert np.array_equal(np.concatenate(shards.blocks), IMAGES)
    assert np.array_equal(shards.labels, LABELS)
    assert shards.labels.dtype == np.int64
    assert shards.paths == PATHS


@pytest.mark.parametrize(
    "indices", [range(10), [9], [0, 0, 9, 9], [7, 2, 9, 0, 3, 3], []], ids=lambda indices: str(indices)
)
def test_gather_copies_in_the_order_asked_for(folder: Path, indices: list[int]) -> None:
    chosen = np.array(indices, np.int64)
    gathered = Shards(folder).gather(chosen)
    assert gathered.dtype == np.uint8
    assert np.array_equal(gathered, IMAGES[chosen])
    gathered[...] = 0  # a copy: the shards are not touched
    assert np.array_equal(Shards(folder).gather(np.arange(10)), IMAGES)


def test_shards_are_mapped_and_cannot_be_written(folder: Path) -> None:
    before = pa.total_allocated_bytes()
    shards = Shards(folder)
    assert pa.total_allocated_bytes() == before
    with pytest.raises(ValueError, match="read-only"):
        shards.blocks[0][0] = 0


@pytest.mark.parametrize(
    ("count", "indices"),
    [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, range(10)), (99, range(10))],
)
def test_evenly_spaced_spreads_over_the_whole_split(
    folder: Path, count: int, indices: list[int]
) -> None:
    images = Shards(folder).evenly_spaced(count)
    assert images.flags["C_CONTIGUOUS"]
    assert np.array_equal(images, np.moveaxis(IMAGES[list(indices)], 3, 1))


def test_the_same_images_make_the_same_bytes(tmp_path: Path) -> None:
    other = IMAGES.copy()
    other[4, 1, 2, 0] ^= 1
    files = [write(tmp_path / name) / "00000.arrow" for name in ("a", "b")]
    changed = write(tmp_path / "c", other) / "00000.arrow"
    assert files[0].read_bytes() == files[1].read_bytes() != changed.read_bytes()


def test_there_are_never_more_shards_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 1)
    for num_images in (MAX_SHARDS, MAX_SHARDS + 1, 5 * MAX_SHARDS - 1):
        folder = tmp_path / str(num_images)
        with ShardWriter(folder, (1, 1, 1), num_images) as writer:
            for index in range(num_images):
                writer.add(np.full((1, 1, 1), index % 256, np.uint8), 0, "")
        assert MAX_SHARDS // 2 < len(list(folder.iterdir())) <= MAX_SHARDS
        assert Shards(folder).gather(np.arange(num_images)).ravel().tolist() == [
            index % 256 for index in range(num_images)
        ]


def test_a_writer_that_fails_leaves_no_half_shard(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), ShardWriter(tmp_path / "train", SHAPE, 10) as writer:
        writer.add(IMAGES[0], 0, "")
        raise KeyboardInterrupt
    assert list((tmp_path / "train").iterdir()) == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_shards_is_refused(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "val").mkdir()
    with pytest.raises(UserError) as refused:
        Shards(tmp_path / "val")
    assert str(refused.value) == f"{tmp_path}/val: no shards here; run `dvc repro prepare`"


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        Shards(folder)
    return str(refused.value)


def test_a_shard_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    [file] = write(tmp_path / "train").iterdir()
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        message = refusal(tmp_path / "train")
        assert message.startswith(f"{file}: damaged (")
        assert message.endswith("); run `dvc repro --force prepare`")


def test_one_damaged_shard_among_good_ones_is_named(folder: Path) -> None:
    *_, last = sorted(folder.iterdir())
    last.write_bytes(b"not Arrow at all" * 100)
    assert refusal(folder).startswith(f"{last}: damaged (")


def test_rot_in_the_footer_is_refused_and_named(tmp_path: Path) -> None:
    """Arrow's file ends with the footer, its length in four bytes, and ``ARROW1``."""
    [file] = write(tmp_path / "train").iterdir()
    rotten = bytearray(file.read_bytes())
    footer_bytes = int.from_bytes(rotten[-10:-6], "little")
    rotten[-10 - footer_bytes] ^= 0x55
    file.write_bytes(rotten)
    assert refusal(tmp_path / "train").startswith(f"{file}: damaged (")

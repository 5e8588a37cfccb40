"""Splits are opened only if each of their files is the one that dataset.json records."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preparation import Prepared, prepare

from darkroom.dataset.prepared import open_split
from darkroom.errors import UserError


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """Twenty images of noise of each of two classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        path = tmp_path / "images" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return prepare(tmp_path / "images", tmp_path / "out", image_size=8, channels=3)


def refusal(folder: Path, prepared: Prepared) -> str:
    with pytest.raises(UserError) as refused:
        open_split(folder, prepared.info)
    assert "`dvc repro --force prepare`" in str(refused.value)
    return str(refused.value)


def test_intact_splits_are_opened(prepared: Prepared) -> None:
    for split in ("train", "val", "test"):
        opened = open_split(prepared.out / "prepared" / split, prepared.info)
        assert len(opened) == prepared.info.num_images(split)
        assert opened.labels.max() < len(prepared.info.class_names)


def test_a_flip_anywhere_is_refused_by_name(prepared: Prepared) -> None:
    [file] = (prepared.out / "prepared" / "train").iterdir()
    whole = file.read_bytes()
    for place in {0, len(whole) - 1, *np.random.default_rng(0).integers(0, len(whole), 40).tolist()}:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        message = refusal(file.parent, prepared)
        assert message.startswith(f"{file}: the bytes differ from the recorded ones")
    file.write_bytes(whole)
    open_split(file.parent, prepared.info)


def test_a_cut_a_longer_a_missing_and_a_further_file_are_refused_by_name(prepared: Prepared) -> None:
    [file] = (prepared.out / "prepared" / "val").iterdir()
    whole = file.read_bytes()
    for content in (b"", whole[:-1], whole + b" "):
        file.write_bytes(content)
        expected = f"{file}: the file has {len(content):,} bytes instead of {len(whole):,}"
        assert refusal(file.parent, prepared).startswith(expected)
    file.unlink()
    assert refusal(file.parent, prepared).startswith(f"{file}: the file is missing")
    file.mkdir()
    assert refusal(file.parent, prepared).startswith(f"{file}: the file is missing")
    file.rmdir()
    file.write_bytes(whole)
    (other := file.with_name("00001.arrow")).write_bytes(whole)
    assert refusal(file.parent, prepared).startswith(f"{other}: dataset.json does not record this shard")


def test_the_shards_of_another_split_are_refused(prepared: Prepared) -> None:
    [train] = (prepared.out / "prepared" / "train").iterdir()
    [test] = (prepared.out / "prepared" / "test").iterdir()
    test.write_bytes(train.read_bytes())
    assert refusal(test.parent, prepared).startswith(f"{test}: ")

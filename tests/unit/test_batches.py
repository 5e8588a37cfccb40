"""Batches: every image once, the same pixels whatever the batch size and wherever they lie."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import write_shards

from darkroom.data import batches as batches_module
from darkroom.data import shards as shards_module
from darkroom.data.augment import crop_and_flip, draw_crop_and_flip
from darkroom.data.batches import Batch, Batches, MappedImages, ResidentImages, place_images
from darkroom.data.shards import Shards, ShardWriter

torch.set_num_threads(1)

CPU = torch.device("cpu")
NUM_IMAGES = 53
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 6, 8, 3), dtype=np.uint8)
CHANGES = {"crop_padding": 2, "horizontal_flip": True}
NO_CHANGES = {"crop_padding": 0, "horizontal_flip": False}


@pytest.fixture(params=[NUM_IMAGES, 10], ids=["one shard", "six shards"])
def shards(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shards:
    """Images whose label is their number, so that a batch tells which they are."""
    monkeypatch.setattr(shards_module, "SHARD_BYTES", request.param * IMAGES[0].nbytes)
    return Shards(write_shards(tmp_path / "train", IMAGES, np.arange(NUM_IMAGES)))


def shuffled(
    shards: Shards, batch_size: int = 7, seed: int = 0, epoch: int = 0, **changes: Any
) -> list[Batch]:
    return list(Batches(shards, CPU, batch_size).shuffled(seed, epoch, **{**CHANGES, **changes}))


def order_of(batches: list[Batch]) -> list[int]:
    return torch.cat([targets for _, targets, *_ in batches]).tolist()


def by_sample(batches: list[Batch]) -> dict[int, bytes]:
    """The pixels that each image came with."""
    return {
        target: image.contiguous().numpy().tobytes()
        for images, targets, *_ in batches
        for image, target in zip(images, targets.tolist(), strict=True)
    }


def chw(image: NDArray[np.uint8]) -> bytes:
    """The bytes of (height, width, channels) with channels first, as batches have them."""
    return image.transpose(2, 0, 1).tobytes()


def test_iterating_gives_the_images_as_they_are_in_their_order(shards: Shards) -> None:
    batches = list(Batches(shards, CPU, 7))
    images = torch.cat([images for images, _ in batches])
    assert order_of(batches) == list(range(NUM_IMAGES))
    assert np.array_equal(images, IMAGES.transpose(0, 3, 1, 2))


def test_images_are_uint8_and_channels_last_in_memory(shards: Shards) -> None:
    for batches in (list(Batches(shards, CPU, 7)), shuffled(shards), shuffled(shards, **NO_CHANGES)):
        for images, targets, *_ in batches:
            assert images.dtype == torch.uint8
            assert images.shape[1:] == (3, 6, 8)
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert targets.dtype == torch.int64
            assert targets.shape == (len(images),)


@pytest.mark.parametrize("batch_size", [1, 7, 52, 53, 54, 1000])
def test_every_image_comes_once_in_batches_of_nearly_one_size(shards: Shards, batch_size: int) -> None:
    whole = Batches(shards, CPU, batch_size)
    for batches in (list(whole), shuffled(shards, batch_size)):
        assert sorted(order_of(batches)) == list(range(NUM_IMAGES))
        sizes = [len(targets) for _, targets, *_ in batches]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size
        assert len(sizes) == whole.num_steps == -(-NUM_IMAGES // batch_size)
    assert whole.num_images == NUM_IMAGES


def test_the_order_follows_seed_and_epoch_and_nothing_else(shards: Shards) -> None:
    order = order_of(shuffled(shards))
    assert order != list(range(NUM_IMAGES))
    for same in ({}, {"batch_size": 1}, {"batch_size": 53}, NO_CHANGES):
        assert order_of(shuffled(shards, **same)) == order
    for other in ({"seed": 1}, {"epoch": 1}):
        assert order_of(shuffled(shards, **other)) != order


def test_a_sample_has_the_same_pixels_whatever_the_batch_size(shards: Shards) -> None:
    pixels = by_sample(shuffled(shards, batch_size=NUM_IMAGES))
    assert by_sample(shuffled(shards, batch_size=1)) == pixels
    assert by_sample(shuffled(shards, batch_size=7)) == pixels
    for other in ({"seed": 1}, {"epoch": 1}, {"crop_padding": 1}, {"horizontal_flip": False}):
        assert by_sample(shuffled(shards, **other)) != pixels


def test_a_sample_is_changed_as_drawn_for_its_number(shards: Shards) -> None:
    changes = draw_crop_and_flip(4, 9, torch.arange(NUM_IMAGES), **CHANGES)
    changed = crop_and_flip(torch.from_numpy(IMAGES), changes).numpy()
    expected = {sample: chw(image) for sample, image in enumerate(changed)}
    assert by_sample(shuffled(shards, seed=4, epoch=9)) == expected


def test_pixels_change_only_where_they_should(shards: Shards) -> None:
    originals = {sample: chw(image) for sample, image in enumerate(IMAGES)}
    assert by_sample(shuffled(shards, **NO_CHANGES)) == originals
    changed = by_sample(shuffled(shards))
    assert sum(changed[sample] != originals[sample] for sample in originals) > NUM_IMAGES * 0.8
    flipped = by_sample(shuffled(shards, crop_padding=0))
    for sample, pixels in flipped.items():
        assert pixels in (originals[sample], chw(IMAGES[sample, :, ::-1]))
    assert 0 < sum(flipped[sample] == originals[sample] for sample in originals) < NUM_IMAGES


@pytest.mark.parametrize("indices", [range(NUM_IMAGES), [52, 0, 17, 17], [3]], ids=str)
def test_mapped_and_resident_images_are_equal_in_every_bit(shards: Shards, indices: Any) -> None:
    chosen = torch.tensor(list(indices))
    mapped = MappedImages(shards, CPU).gather(chosen)
    resident = ResidentImages(shards, CPU).gather(chosen)
    assert mapped.dtype == resident.dtype == torch.uint8
    assert torch.equal(mapped, resident)
    assert np.array_equal(mapped, IMAGES[list(indices)])


def test_batches_are_equal_wherever_the_images_lie(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[type] = []
    epochs = []
    for kind in (MappedImages, ResidentImages):

        def place(*args: Any, kind: type = kind) -> Any:
            placed.append(kind)
            return kind(*args)

        monkeypatch.setattr(batches_module, "place_images", place)
        epochs.append(shuffled(shards, epoch=3))
    assert placed == [MappedImages, ResidentImages]
    for mapped, resident in zip(*epochs, strict=True):
        assert torch.equal(mapped[0], resident[0])
        assert torch.equal(mapped[1], resident[1])


def test_on_a_cpu_images_stay_mapped(shards: Shards) -> None:
    assert isinstance(place_images(shards, CPU), MappedImages)


def test_weights_follow_their_images_and_are_one_in_the_mean(tmp_path: Path) -> None:
    weights = np.arange(1.0, 8.0)
    with ShardWriter(tmp_path / "train", (8, 8, 1), 7, weighted=True) as writer:
        for value, weight in enumerate(weights):
            writer.add(np.full((8, 8, 1), value, np.uint8), value, "", weight)
    batches = list(Batches(Shards(tmp_path / "train"), CPU, 3).shuffled(0, 0, **NO_CHANGES))
    assert [len(batch.targets) for batch in batches] == [3, 2, 2]
    for images, targets, batch_weights in batches:
        assert batch_weights is not None
        assert batch_weights.tolist() == pytest.approx((targets + 1) / weights.mean())
        assert torch.equal(images[:, 0, 0, 0], targets.to(torch.uint8))


def test_images_without_weights_come_without(shards: Shards) -> None:
    assert {batch.weights for batch in shuffled(shards)} == {None}

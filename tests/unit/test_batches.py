"""Batches: every image once, the same pixels whatever the batch size and wherever they lie."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from quick import quick_first
from support import write_shards
from torch import Tensor

from darkroom.dataset import shard_writer
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage, pack_image
from darkroom.errors import UserError
from darkroom.loading import batches as batches_module
from darkroom.loading import placement
from darkroom.loading.ahead import DEPTH, ahead
from darkroom.loading.batches import Batches, TrainBatch
from darkroom.loading.philox import permutation
from darkroom.loading.placement import HostImages, PlacedImages, Request, ResidentImages, WorkerImages
from darkroom.loading.sampling import balanced_order

torch.set_num_threads(1)

CPU = torch.device("cpu")
NUM_IMAGES = 53
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 6, 8, 3), dtype=np.uint8)
IMAGES[::2] &= 128
"""Every other one has few colours, so that WebP makes it smaller; the rest are stored as they are."""
IDS = np.arange(NUM_IMAGES)


class Changes:
    """An augmentation that anyone can compute in one line a sample."""

    def __init__(self, needs_host: bool = False, mixes: bool = False) -> None:
        self.needs_host = needs_host
        self.mixes = mixes

    def on_host(self, images: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        torch.rand(3)  # policies use the global generator
        return images + (7 * sample_ids + epoch).to(torch.uint8)[:, None, None, None]

    def on_device(self, images: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        levels = (sample_ids * (epoch + 2)).to(torch.uint8)[:, None, None, None]
        return images.bitwise_xor(levels.to(images.device))

    def mix(
        self, images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        shares = (sample_ids[:-1] / NUM_IMAGES).to(images.device)
        mixed = images[:-1].float() * 2 + images[1:].float()
        return mixed, targets[1:], shares

    def expected(self, order: list[int], epoch: int) -> list[NDArray[Any]]:
        """The images of an epoch, one at a time: uint8 or float32 (height, width, channels)."""
        changed = {}
        for sample in order:
            image = IMAGES[sample]
            if self.needs_host:
                image = image + np.uint8((7 * sample + epoch) % 256)
            changed[sample] = image ^ np.uint8(sample * (epoch + 2) % 256)
        if not self.mixes:
            return [changed[sample] for sample in order]
        pairs = zip(order, [*order[1:], order[0]], strict=True)
        return [changed[a].astype(np.float32) * 2 + changed[b] for a, b in pairs]


PLAIN = Changes()
MIXED = Changes(mixes=True)


def write(folder: Path, storage: Storage, weighted: bool = False) -> Path:
    """Images whose label is their number, so that a batch tells which they are."""
    with ShardWriter(folder, IMAGES.shape[1:], NUM_IMAGES, storage, weighted) as writer:
        for label, image in enumerate(IMAGES):
            writer.add(pack_image(image, storage), label, "", label + 1.0)
    return folder


@pytest.fixture(params=[NUM_IMAGES, 10], ids=["one shard", "six shards"])
def shards(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shards:
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", request.param * IMAGES[0].nbytes)
    return Shards(write(tmp_path / "train", "decoded"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Storage, Path]:
    """The same images in each way of storing them, in six shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "SHARD_BYTES", 10 * IMAGES[0].nbytes)
        folder = tmp_path_factory.mktemp("split")
        return {storage: write(folder / storage, storage) for storage in ("decoded", "encoded")}


@pytest.fixture(scope="module")
def storages(folders: dict[Storage, Path]) -> dict[str, Callable[[torch.device, bool], PlacedImages]]:
    """Makes each storage, given a device and whether the augmentation needs the host."""
    decoded, encoded = Shards(folders["decoded"]), Shards(folders["encoded"])
    made: dict[Any, PlacedImages] = {}

    def workers(number: int) -> Callable[[torch.device, bool], PlacedImages]:
        def make(device: torch.device, needs_host: bool) -> PlacedImages:
            if (number, device) not in made:
                made[number, device] = WorkerImages(encoded, device, number)
            return made[number, device]

        return make

    return {
        "mapped": lambda device, needs_host: HostImages(decoded, device, needs_host),
        "resident": lambda device, needs_host: ResidentImages(
            HostImages(encoded, device, False), decoded, device
        ),
        "encoded, 0 workers": lambda device, needs_host: HostImages(encoded, device, needs_host),
        **{f"encoded, {number} workers": workers(number) for number in (1, 2, 3)},
    }


def epoch_of(
    shards: Shards,
    batch_size: int = 7,
    seed: int = 0,
    epoch: int = 0,
    augmentation: Changes | None = PLAIN,
    first_step: int = 0,
) -> list[TrainBatch]:
    needs_host = augmentation is not None and augmentation.needs_host
    batches = Batches(shards, CPU, batch_size, needs_host=needs_host)
    return list(batches.epoch(seed, epoch, augmentation, first_step))


def order_of(batches: list[TrainBatch]) -> list[int]:
    return torch.cat([batch.targets for batch in batches]).tolist()


def pixels_of(batches: list[TrainBatch]) -> list[NDArray[Any]]:
    """Every image: ``(height, width, channels)``."""
    return list(torch.cat([images for images, *_ in batches]).permute(0, 2, 3, 1).cpu().numpy())


def same(left: list[TrainBatch], right: list[TrainBatch]) -> bool:
    """Whether batches are equal in every bit."""

    def is_equal(one: Tensor | None, other: Tensor | None) -> bool:
        if one is None or other is None:
            return one is other
        return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())

    return len(left) == len(right) and all(
        is_equal(*parts) for pair in zip(left, right, strict=True) for parts in zip(*pair, strict=True)
    )


def test_iterating_gives_the_images_as_they_are_in_their_order(shards: Shards) -> None:
    batches = list(Batches(shards, CPU, 7))
    assert torch.cat([targets for _, targets in batches]).tolist() == list(range(NUM_IMAGES))
    assert np.array_equal(torch.cat([images for images, _ in batches]), IMAGES.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("augmentation", [None, PLAIN, MIXED], ids=["none", "plain", "mixed"])
def test_images_are_channels_last_in_memory(shards: Shards, augmentation: Changes | None) -> None:
    epoch = epoch_of(shards, augmentation=augmentation)
    for images, targets, *_ in [*Batches(shards, CPU, 7), *epoch]:
        assert images.shape[1:] == (3, 6, 8)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert targets.dtype == torch.int64
        assert targets.shape == (len(images),)
    of_epoch = {images.dtype for images, *_ in epoch}
    assert of_epoch == {torch.float32 if augmentation is MIXED else torch.uint8}


@pytest.mark.parametrize("batch_size", [1, 7, 52, 53, 54, 1000])
def test_every_image_comes_once_in_batches_of_nearly_one_size(shards: Shards, batch_size: int) -> None:
    whole = Batches(shards, CPU, batch_size)
    expected = [len(part) for part in torch.arange(NUM_IMAGES).tensor_split(whole.num_steps)]
    assert max(expected) <= batch_size
    for batches in (list(whole), epoch_of(shards, batch_size)):
        targets = [batch[1] for batch in batches]
        assert sorted(torch.cat(targets).tolist()) == list(range(NUM_IMAGES))
        assert [len(each) for each in targets] == expected
    assert whole.num_steps == -(-NUM_IMAGES // batch_size)
    assert whole.num_images == NUM_IMAGES


def test_the_order_follows_seed_and_epoch_and_nothing_else(shards: Shards) -> None:
    order = order_of(epoch_of(shards))
    assert order == permutation(0, 1, 0, NUM_IMAGES).tolist() != list(range(NUM_IMAGES))
    others: list[dict[str, Any]] = [{"batch_size": 1}, {"batch_size": 53}, {"augmentation": None}]
    for same_order in others:
        assert order_of(epoch_of(shards, **same_order)) == order
    for other in ({"seed": 1}, {"epoch": 1}):
        assert order_of(epoch_of(shards, **other)) != order


@pytest.mark.parametrize("mixes", [False, True], ids=["unmixed", "mixed"])
@pytest.mark.parametrize("needs_host", [False, True], ids=["on the device", "on the host too"])
@pytest.mark.parametrize("batch_size", [1, 7, 53])
def test_each_sample_is_changed_alone_and_mixed_with_the_next_in_the_order(
    shards: Shards, batch_size: int, needs_host: bool, mixes: bool
) -> None:
    changes = Changes(needs_host, mixes)
    batches = epoch_of(shards, batch_size, seed=3, epoch=5, augmentation=changes)
    order = permutation(3, 1, 5, NUM_IMAGES).tolist()
    assert order_of(batches) == order
    assert np.array_equal(pixels_of(batches), changes.expected(order, epoch=5))
    if not mixes:
        assert {(batch.other_targets, batch.shares) for batch in batches} == {(None, None)}
        return
    others = torch.cat([batch.other_targets for batch in batches if batch.other_targets is not None])
    shares = torch.cat([batch.shares for batch in batches if batch.shares is not None])
    assert others.tolist() == [*order[1:], order[0]]
    assert torch.equal(shares, torch.tensor(order) / NUM_IMAGES)


def test_without_augmentation_pixels_are_the_shards(shards: Shards) -> None:
    batches = epoch_of(shards, augmentation=None)
    assert np.array_equal(pixels_of(batches), IMAGES[order_of(batches)])
    assert not np.array_equal(pixels_of(epoch_of(shards)), IMAGES[order_of(batches)])


@pytest.mark.parametrize("augmentation", [PLAIN, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("chunk_images", [1, 7, 20, 21, 52, 53, 1000])
def test_batches_are_equal_in_chunks_of_any_size_from_any_step(
    shards: Shards, monkeypatch: pytest.MonkeyPatch, chunk_images: int, augmentation: Changes
) -> None:
    whole = epoch_of(shards, augmentation=augmentation)
    evaluated = list(Batches(shards, CPU, 7))
    monkeypatch.setattr(placement, "HOST_CHUNK_BYTES", chunk_images * IMAGES[0].nbytes)
    for first_step in range(len(whole) + 1):
        rest = epoch_of(shards, augmentation=augmentation, first_step=first_step)
        assert same(rest, whole[first_step:])
    for pair in zip(Batches(shards, CPU, 7), evaluated, strict=True):
        assert all(torch.equal(*parts) for parts in zip(*pair, strict=True))


NAMES = ["mapped", "resident", *(f"encoded, {number} workers" for number in range(4))]
DEVICES = [
    CPU,
    pytest.param(
        torch.device("cuda"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
    ),
]


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(
    "name", quick_first(set(NAMES) - {"encoded, 1 workers", "encoded, 3 workers"}, NAMES)
)
def test_batches_are_equal_wherever_the_images_lie(
    folders: dict[Storage, Path],
    storages: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    device: torch.device,
) -> None:
    reference = Shards(folders["decoded"])
    for needs_host in (False, True) if name != "resident" else (False,):
        changes = Changes(needs_host, mixes=True)
        expected = epoch_of(reference, epoch=2, augmentation=changes)
        images = storages[name](device, needs_host)
        monkeypatch.setattr(batches_module, "place_images", lambda *_, images=images: (images, ""))
        batches = Batches(reference, device, 7, needs_host=needs_host)
        for first_step in (0, 3, 7):
            part = list(batches.epoch(0, 2, changes, first_step))
            assert same(part, expected[first_step:])
            assert {batch.images.device.type for batch in part} == {device.type}
        evaluated = torch.cat([images for images, _ in batches])
        assert np.array_equal(evaluated.cpu(), IMAGES.transpose(0, 3, 1, 2))


def test_two_epochs_at_once_do_not_mix_in_worker_processes(
    folders: dict[Storage, Path], storages: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = storages["encoded, 2 workers"](CPU, False)
    expected = [epoch_of(Shards(folders["decoded"]), epoch=epoch) for epoch in (0, 1)]
    monkeypatch.setattr(batches_module, "place_images", lambda *_: (images, ""))
    batches = Batches(Shards(folders["encoded"]), CPU, 7)
    next(batches.epoch(0, 2, PLAIN))  # and is left at once
    pairs = list(zip(batches.epoch(0, 0, PLAIN), batches.epoch(0, 1, PLAIN), strict=True))
    assert same([first for first, _ in pairs], expected[0])
    assert same([second for _, second in pairs], expected[1])


class Recorded:
    """Images that note which were asked for."""

    chunk_bytes = 0

    def __init__(self) -> None:
        self.asked: list[int] = []

    def load(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        for request in requests:
            self.asked += request.indices.tolist()
            yield torch.from_numpy(IMAGES[request.indices.numpy()])


UNEVEN = np.where(IDS % 6 == 1, 1, 0) + np.where(IDS % 13 == 2, 2, 0)
"""Labels of three classes, of which one is ten times as frequent as the rarest."""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return Shards(write_shards(tmp_path_factory.mktemp("uneven") / "train", IMAGES, UNEVEN))


def balanced_epoch(
    shards: Shards, augmentation: Changes | None, first_step: int = 0, epoch: int = 2
) -> list[TrainBatch]:
    needs_host = augmentation is not None and augmentation.needs_host
    batches = Batches(shards, CPU, 7, needs_host=needs_host, sampling="balanced")
    return list(batches.epoch(3, epoch, augmentation, first_step))


def test_balanced_batches_hold_each_class_as_often_as_the_others(uneven: Shards) -> None:
    batches = balanced_epoch(uneven, None)
    counts = np.bincount(order_of(batches))
    assert counts.tolist() == [18, 18, 17]
    assert np.bincount(order_of(epoch_of(uneven))).tolist() == np.bincount(UNEVEN).tolist() == [40, 9, 4]
    assert [len(batch.targets) for batch in batches] == [
        len(batch.targets) for batch in epoch_of(uneven)
    ]
    indices = balanced_order(3, 2, torch.from_numpy(UNEVEN)).indices
    assert order_of(batches) == UNEVEN[indices].tolist()
    assert np.array_equal(pixels_of(batches), IMAGES[indices])
    # as the images that are mixed in
    others = [batch.other_targets for batch in balanced_epoch(uneven, MIXED)]
    following = torch.cat([other for other in others if other is not None]).tolist()
    assert following == UNEVEN[indices.roll(-1)].tolist()


def test_copies_of_an_image_are_changed_differently(uneven: Shards) -> None:
    pixels = pixels_of(balanced_epoch(uneven, PLAIN))
    indices, sample_ids = balanced_order(3, 2, torch.from_numpy(UNEVEN))
    levels = (sample_ids * (2 + 2)).to(torch.uint8).numpy()
    assert np.array_equal(pixels, IMAGES[indices] ^ levels[:, None, None, None])
    [index, *_] = np.flatnonzero(UNEVEN == 2)
    copies = [pixels[place].tobytes() for place in (indices == index).nonzero()[:, 0].tolist()]
    assert len(set(copies)) == len(copies) >= 4
    unchanged = pixels_of(balanced_epoch(uneven, None))
    assert (
        len({unchanged[place].tobytes() for place in (indices == index).nonzero()[:, 0].tolist()}) == 1
    )


@pytest.mark.parametrize("augmentation", [None, PLAIN, MIXED], ids=["none", "plain", "mixed"])
def test_balanced_batches_are_equal_from_any_step(uneven: Shards, augmentation: Changes | None) -> None:
    whole = balanced_epoch(uneven, augmentation)
    assert len(whole) == 8
    for first_step in range(len(whole) + 1):
        assert same(balanced_epoch(uneven, augmentation, first_step), whole[first_step:])
    assert not same(balanced_epoch(uneven, augmentation, epoch=3), whole)


def test_balanced_batches_are_equal_in_any_number_of_workers(
    uneven: Shards, machine: Callable[..., None]
) -> None:
    machine()
    changes = Changes(needs_host=True, mixes=True)
    expected = balanced_epoch(uneven, changes)
    by_two = Batches(uneven, CPU, 7, workers=2, needs_host=True, sampling="balanced")
    assert isinstance(by_two._images, WorkerImages)
    for first_step in (0, 3):
        assert same(list(by_two.epoch(3, 2, changes, first_step)), expected[first_step:])
    assert not same(balanced_epoch(uneven, MIXED), expected)


def test_the_batches_before_the_first_step_are_not_loaded(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Recorded()
    monkeypatch.setattr(batches_module, "place_images", lambda *_: (images, ""))
    batches = list(Batches(shards, CPU, 7).epoch(0, 0, PLAIN, first_step=5))
    assert (
        images.asked
        == order_of(batches)
        == permutation(0, 1, 0, NUM_IMAGES)[-len(images.asked) :].tolist()
    )
    assert len(batches) == 3


def test_an_epoch_draws_nothing_from_the_global_generator(
    shards: Shards, storages: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_rng_state()
    epoch_of(shards, augmentation=MIXED)
    images = storages["encoded, 2 workers"](CPU, True)
    monkeypatch.setattr(batches_module, "place_images", lambda *_: (images, ""))
    epoch_of(shards, augmentation=Changes(needs_host=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_augmentation_that_needs_the_host_must_be_announced(shards: Shards) -> None:
    batches = Batches(shards, CPU, 7)
    with pytest.raises(ValueError, match="needs_host=True"):
        next(batches.epoch(0, 0, Changes(needs_host=True)))


def test_weights_follow_their_images_and_are_one_in_the_mean(tmp_path: Path) -> None:
    shards = Shards(write(tmp_path / "train", "decoded", weighted=True))
    for augmentation in (None, MIXED):
        batches = epoch_of(shards, augmentation=augmentation)
        for batch in batches:
            assert batch.weights is not None
            assert batch.weights.dtype == torch.float32
            expected = (batch.targets + 1) / np.mean(IDS + 1)
            assert batch.weights.tolist() == pytest.approx(expected)
        later = epoch_of(shards, augmentation=augmentation, first_step=4)
        assert same(later, batches[4:])


def test_images_without_weights_come_without(shards: Shards) -> None:
    assert {batch.weights for batch in epoch_of(shards)} == {None}


LABEL_SETS = np.random.default_rng(4).integers(0, 2, (NUM_IMAGES, 5), dtype=np.uint8)


@pytest.mark.parametrize("chunk_images", [1, 20, 1000])
@pytest.mark.parametrize("augmentation", [None, PLAIN, MIXED], ids=["none", "plain", "mixed"])
def test_several_labels_an_image_are_rows_of_ones_and_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_images: int, augmentation: Changes | None
) -> None:
    folder = tmp_path / "train"
    with ShardWriter(
        folder, IMAGES.shape[1:], NUM_IMAGES, target="several_labels", num_classes=5
    ) as writer:
        for image, labels in zip(IMAGES, LABEL_SETS, strict=True):
            writer.add(image, np.flatnonzero(labels).tolist(), "")
    monkeypatch.setattr(placement, "HOST_CHUNK_BYTES", chunk_images * IMAGES[0].nbytes)
    shards = Shards(folder)
    evaluated = torch.cat([targets for _, targets in Batches(shards, CPU, 7)])
    assert evaluated.dtype == torch.uint8
    assert np.array_equal(evaluated, LABEL_SETS)

    batches = epoch_of(shards, seed=3, epoch=5, augmentation=augmentation)
    order = permutation(3, 1, 5, NUM_IMAGES).tolist()
    assert {batch.targets.dtype for batch in batches} == {torch.uint8}
    assert [len(batch.targets) for batch in batches] == [len(batch.images) for batch in batches]
    assert np.array_equal(torch.cat([batch.targets for batch in batches]), LABEL_SETS[order])
    if augmentation is MIXED:
        others = [batch.other_targets for batch in batches if batch.other_targets is not None]
        assert {other.dtype for other in others} == {torch.uint8}
        assert np.array_equal(torch.cat(others), LABEL_SETS[[*order[1:], order[0]]])
    else:
        assert {batch.other_targets for batch in batches} == {None}


@pytest.mark.parametrize("augmentation", [PLAIN, MIXED], ids=["plain", "mixed"])
def test_one_label_an_image_stays_a_whole_number(shards: Shards, augmentation: Changes) -> None:
    for batch in epoch_of(shards, augmentation=augmentation):
        for targets in (batch.targets, batch.other_targets):
            assert targets is None or (targets.dtype, targets.ndim) == (torch.int64, 1)


GIB = 2**30
IN_PROCESS, BY_TWO = "in this process", "by 2 worker processes"
PLACEMENTS: list[tuple[str, Storage, int, bool, int, type, str]] = [
    ("cpu", "decoded", 2, False, 4, HostImages, "memory-mapped: the page cache"),
    ("cpu", "decoded", 2, True, 1, WorkerImages, f"augmented {BY_TWO}: the policy"),
    ("cpu", "decoded", 0, True, 4, HostImages, f"augmented {IN_PROCESS}: the policy"),
    ("cpu", "encoded", 2, False, 4, WorkerImages, f"decoded {BY_TWO}: they are stored encoded"),
    ("cpu", "encoded", 2, False, 1, HostImages, f"decoded {IN_PROCESS}: they are stored encoded"),
    ("cpu", "encoded", 1, True, 1, WorkerImages, "augmented by 1 worker process: the policy"),
    ("mps", "decoded", 2, False, 4, HostImages, "memory-mapped, and copied to the device"),
    ("cuda", "decoded", 2, True, 4, WorkerImages, f"augmented {BY_TWO}: the policy"),
    ("cuda", "encoded", 2, True, 4, WorkerImages, f"augmented {BY_TWO}: the policy"),
]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the number of cores (torch has one thread) and the free memory of a GPU."""

    def set_up(num_cores: int = 4, free_bytes: int = 8 * GIB) -> None:
        monkeypatch.setattr(placement, "available_cores", lambda: num_cores)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, 80 * GIB))

    return set_up


@pytest.mark.parametrize("case", PLACEMENTS, ids=lambda case: " ".join(map(str, case[:5])))
def test_the_storage_is_chosen_and_explained(
    folders: dict[Storage, Path], machine: Callable[..., None], case: Any
) -> None:
    device, storage, workers, needs_host, num_cores, kind, text = case
    machine(num_cores)
    images, said = placement.place_images(
        Shards(folders[storage]), torch.device(device), workers, needs_host
    )
    assert type(images) is kind
    assert said.startswith(f"images {text}")


@pytest.mark.parametrize("storage", ["decoded", "encoded"])
def test_a_gpu_holds_images_that_fill_at_most_half_of_its_free_memory(
    folders: dict[Storage, Path],
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    storage: Storage,
) -> None:
    monkeypatch.setattr(placement, "ResidentImages", lambda images, shards, device: "resident")
    shards, cuda = Shards(folders[storage]), torch.device("cuda")
    machine(free_bytes=2 * IMAGES.nbytes)
    images, said = placement.place_images(shards, cuda, 2, False)
    assert images == "resident"
    assert said == "images kept on the GPU: they take 0.0 GiB, and 0.0 GiB are free on the GPU"
    machine(free_bytes=2 * IMAGES.nbytes - 2)
    images, said = placement.place_images(shards, cuda, 2, False)
    assert images != "resident"
    text = {"decoded": "memory-mapped and copied to the GPU in advance", "encoded": f"decoded {BY_TWO}"}
    assert said.startswith(f"images {text[storage]}: they ")


def test_ahead_keeps_the_order_and_takes_no_more_than_its_depth() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    for got, item in enumerate(ahead(items())):
        assert item == got
        assert len(taken) <= got + 1 + DEPTH
        time.sleep(0.001)
    assert taken == list(range(20))
    assert list(ahead(iter([]))) == []


def test_an_error_ahead_reaches_the_caller_in_its_turn_and_as_it_is() -> None:
    error = UserError("a shard is damaged")

    def items() -> Iterator[int]:
        yield from range(3)
        raise error

    got: list[int] = []
    with pytest.raises(UserError) as raised:
        got.extend(ahead(items()))
    assert raised.value is error
    assert got == [0, 1, 2]


@pytest.mark.parametrize("num_taken", [0, 1, 5])
def test_no_thread_is_left_when_an_iteration_ends_early(num_taken: int) -> None:
    before = set(threading.enumerate())
    items = ahead(iter(range(100)))
    for _ in range(num_taken):
        next(items)
    assert len(set(threading.enumerate()) - before) == min(num_taken, 1)
    items.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_wherever_it_is_decoded(
    tmp_path: Path, machine: Callable[..., None], workers: int
) -> None:
    machine()
    [file] = write(tmp_path / "train", "encoded").iterdir()
    stored = file.read_bytes()
    start = stored.rindex(b"WEBPVP8L")  # of the last image
    file.write_bytes(stored[:start] + bytes(8) + stored[start + 8 :])
    batches = iter(Batches(Shards(tmp_path / "train"), CPU, 7, workers))
    if workers:
        for _ in range(7):
            next(batches)
    with pytest.raises(UserError) as raised:
        next(batches)
    assert str(raised.value).startswith(f"{file}: damaged (")
    assert str(raised.value).endswith("); run `dvc repro --force prepare`")


def in_a_fresh_process(function: Callable[..., None], *arguments: object) -> tuple[Any, Connection]:
    """Starts ``function``, whose first argument is the other end of the connection returned."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["darkroom.loading.placement"])
    here, there = context.Pipe()
    process = context.Process(target=function, args=(there, *arguments))
    process.start()
    there.close()  # so that here its end is noticed
    return process, here


def load_a_batch_and_wait(parent: Connection, folder: Path) -> None:
    images = WorkerImages(Shards(folder), CPU, 2)
    requests = (Request(indices) for indices in torch.arange(NUM_IMAGES).split(7))
    loaded = images.load(requests)
    next(loaded)
    parent.send(list(images._workers._pool._processes))
    parent.recv()


def test_worker_processes_end_with_a_parent_that_was_killed(folders: dict[Storage, Path]) -> None:
    process, connection = in_a_fresh_process(load_a_batch_and_wait, folders["encoded"])
    workers = connection.recv()
    assert len(workers) == 2
    assert all(map(is_running, workers))
    process.kill()
    process.join()
    give_up = time.monotonic() + 20
    while any(map(is_running, workers)):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_killed_worker_process_is_reported(
    folders: dict[Storage, Path], machine: Callable[..., None]
) -> None:
    machine()
    batches = Batches(Shards(folders["encoded"]), CPU, 1, workers=1)
    epoch = batches.epoch(0, 0, None)
    next(epoch)
    images = batches._images
    assert isinstance(images, WorkerImages)
    for pid in images._workers._pool._processes:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(UserError, match="DARKROOM_WORKERS=1"):
        list(epoch)


def report_memory(parent: Connection, folder: Path) -> None:
    def anonymous_megabytes() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        [line] = [line for line in lines if line.startswith("RssAnon")]
        return int(line.split()[1]) // 1024

    before = anonymous_megabytes()
    batches = Batches(Shards(folder), CPU, 16)
    for each in (batches, batches.epoch(0, 0, None)):
        for _ in each:
            pass
    read = anonymous_megabytes() - before
    kept = [images for images, *_ in batches]
    assert len(kept) == batches.num_steps
    parent.send((read, anonymous_megabytes() - before))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_no_copy_of_all_images_is_held_in_memory(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    images = np.broadcast_to(image, (1400, *image.shape))
    folder = write_shards(tmp_path / "train", images, np.zeros(1400, np.int64))
    process, connection = in_a_fresh_process(report_memory, folder)
    read, kept = connection.recv()
    process.join()
    assert read < 60
    assert kept > 190  # megabytes, so that the number above means something

"""What must hold on a CUDA GPU. Needs no package beside those that training needs: see tools/gpu.sh.

Tests that do not compare a GPU with the CPU run on both.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from effort import only_with_all
from sections import AUGMENT, TRAIN
from torch import Tensor, nn

from darkroom.augment.pipeline import Augmentation
from darkroom.compute.compiled import compiled
from darkroom.compute.determinism import set_determinism
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage, pack_image
from darkroom.loading import placement
from darkroom.loading.batches import Batches, TrainBatch
from darkroom.models.factory import make_classifier
from darkroom.models.spec import ModelSpec
from darkroom.training import checkpoint
from darkroom.training.checkpoint import Checkpoints
from darkroom.training.engine import fit
from darkroom.training.interruption import Interruption
from darkroom.training.losses import make_loss
from darkroom.training.state import TrainingState
from darkroom.training.targets import one_class

HAS_CUDA = torch.cuda.is_available()
ON_CUDA = [pytest.mark.cuda, pytest.mark.skipif(not HAS_CUDA, reason="there is no CUDA GPU here")]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_CUDA)]
CUDA_ONLY = pytest.mark.parametrize("device", DEVICES[1:])

NUM_IMAGES = 92  # two batches are larger than the others
SHAPE = (16, 16, 3)
BATCH_SIZE = 16

CROP_AND_FLIP = {"crop_padding": 2, "horizontal_flip": True}
CHANGES: dict[str, dict[str, Any]] = {
    "crop and flip": CROP_AND_FLIP,
    "both flips": {"horizontal_flip": True, "vertical_flip": True},
    "resized crop": {"resized_crop": 0.1},
    "affine": {"rotate": 30.0, "translate": 0.2, "scale": 0.2},
    "brightness and contrast": {"brightness": 0.4, "contrast": 0.4},
    "saturation and hue": {"saturation": 0.4, "hue": 0.1},
    "erase": {"erase": 0.7},
    "erase to black": {"erase": 0.7, "erase_fill": 0},
}


def augmentation(seed: int = 0, **changes: Any) -> Augmentation:
    return Augmentation(cast(Any, SimpleNamespace(**AUGMENT | changes)), seed)


def images() -> np.ndarray:
    """Every other one has few colours, so that WebP makes it smaller; the rest are stored plain."""
    made = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *SHAPE), np.uint8)
    made[::2] &= 192
    return made


def write_split(folder: Path, storage: Storage = "decoded") -> Shards:
    with ShardWriter(folder, SHAPE, NUM_IMAGES, storage) as writer:
        for index, image in enumerate(images()):
            writer.add(pack_image(image, storage), index % 3, f"{index}.png")
    return Shards(folder)


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Puts back what ``set_determinism`` sets."""
    variables = dict(os.environ)
    num_threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(num_threads)
    torch.set_rng_state(random_state)
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


# numbers and pixels


@CUDA_ONLY
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_augmented_pixels_are_those_of_the_cpu(device: str, changes: dict[str, Any]) -> None:
    pixels, ids = torch.from_numpy(images()), torch.arange(NUM_IMAGES)
    augment = augmentation(**changes)
    on_cpu = augment.on_device(pixels, ids, 1)
    on_gpu = augment.on_device(pixels.to(device), ids, 1)
    assert on_gpu.device.type == device
    assert torch.equal(on_gpu.cpu(), on_cpu)
    assert not torch.equal(on_cpu, pixels)


@CUDA_ONLY
@pytest.mark.parametrize("smallest", [None, 0.2])
@pytest.mark.parametrize("cut", ["centre", "whole"])
def test_images_cut_to_the_training_size_are_those_of_the_cpu(
    device: str, cut: Any, smallest: float | None
) -> None:
    pixels, ids = torch.from_numpy(images()), torch.arange(NUM_IMAGES)
    options = SimpleNamespace(**AUGMENT | {"resized_crop": smallest})
    augment = Augmentation(cast(Any, options), 0, ((1, (9, 7)), (2, (13, 11))), cut)
    for epoch in (0, 1):
        on_cpu = augment.on_device(pixels, ids, epoch)
        assert torch.equal(augment.on_device(pixels.to(device), ids, epoch).cpu(), on_cpu)


@CUDA_ONLY
@pytest.mark.parametrize(
    "changes", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}], ids=str
)
def test_mixed_pixels_are_those_of_the_cpu(device: str, changes: dict[str, Any]) -> None:
    pixels, ids = torch.from_numpy(images()), torch.arange(NUM_IMAGES)
    augment = augmentation(**changes)
    on_cpu = augment.mix(pixels, ids % 3, ids, 1)
    on_gpu = augment.mix(pixels.to(device), (ids % 3).to(device), ids, 1)
    for there, here in zip(on_gpu, on_cpu, strict=True):
        assert torch.equal(there.cpu(), here)


# storages


def read_slowly(batches: Batches, first_step: int = 0) -> list[list[Tensor | None]]:
    """Reads an epoch while the GPU lags behind, so that memory freed too early would be filled anew."""
    read = []
    for batch in batches.epoch(3, 1, augmentation(**CROP_AND_FLIP, mixup=0.4), first_step):
        if batch.images.is_cuda:
            torch.cuda._sleep(5_000_000)
        read.append([None if field is None else field.clone() for field in batch])
        del batch
    return [[None if field is None else field.cpu() for field in copies] for copies in read]


def assert_equal_batches(some: list[list[Tensor | None]], others: list[list[Tensor | None]]) -> None:
    assert len(some) == len(others)
    for batch, other in zip(some, others, strict=True):
        for name, field, wanted in zip(TrainBatch._fields, batch, other, strict=True):
            assert (field is None) == (wanted is None), name
            assert field is None or torch.equal(field, wanted), name


@CUDA_ONLY
@pytest.mark.parametrize(
    ("storage", "workers", "is_resident"),
    [
        ("decoded", 0, True),
        ("encoded", 0, True),
        ("decoded", 0, False),
        ("encoded", 0, False),
        ("encoded", 2, False),
    ],
)
def test_batches_are_those_of_the_cpu_wherever_images_lie(
    device: str,
    storage: Storage,
    workers: int,
    is_resident: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = Batches(write_split(tmp_path / "wanted"), torch.device("cpu"), BATCH_SIZE)
    shards = write_split(tmp_path / "split", storage)
    monkeypatch.setattr(placement, "GPU_CHUNK_BYTES", 2 * BATCH_SIZE * int(np.prod(SHAPE)))
    free_bytes = 2**40 if is_resident else 0
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free_bytes, 2**40))
    batches = Batches(shards, torch.device(device), BATCH_SIZE, workers)
    assert ("on the GPU: they are" in batches.placement) == is_resident
    assert_equal_batches(read_slowly(batches), read_slowly(wanted))
    assert_equal_batches(read_slowly(batches, first_step=3), read_slowly(wanted)[3:])
    for (some, targets), (others, other_targets) in zip(batches, wanted, strict=True):
        assert torch.equal(some.cpu(), others)
        assert torch.equal(targets.cpu(), other_targets)


# training


class Stopped(Exception):
    pass


def train(
    folder: Path,
    device_name: str,
    seed: int = 0,
    how: Any = None,
    states: Path | None = None,
    stop_at: tuple[int, int] | None = None,
    **changes: Any,
) -> str:
    """Trains a small network and returns the SHA-256 of its weights.

    Args:
        stop_at: the epoch and the step before which the training breaks off, with ``Stopped``.
    """
    set_determinism(seed, 1)
    device = torch.device(device_name)
    spec = ModelSpec(
        name="cnn",
        width=8,
        depth=2,
        patch_size=None,
        dropout=0.2,
        stochastic_depth=0.0,
        head="linear",
        class_names=("a", "b", "c"),
        input_size=SHAPE[:2],
        channels=3,
        resize="stretch",
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        training={},
        environment={},
    )
    model = make_classifier(spec).to(device)
    options = cast(Any, SimpleNamespace(**TRAIN | {"label_smoothing": 0.05} | changes))
    loss = make_loss(one_class, options, "abc", (1, 1, 1), 3, device)
    batches = Batches(Shards(folder), device, BATCH_SIZE)
    state = TrainingState(model, options, batches.num_steps)
    augment = augmentation(seed, **CROP_AND_FLIP)

    def epoch(number: int, first_step: int) -> Iterator[TrainBatch]:
        for step, batch in enumerate(batches.epoch(seed, number, augment, first_step), first_step):
            if (number, step) == stop_at:
                raise Stopped
            yield batch

    network = compiled(model, how)

    def validated(model: nn.Module) -> nn.Module:
        return compiled(model, how)

    if states is None:
        results = list(
            fit(
                state,
                epoch,
                lambda _: batches,
                loss,
                options,
                seed,
                network=network,
                validated=validated,
            )
        )
    else:
        with Checkpoints(states, 0, Interruption()) as checkpoints:
            assert checkpoints.restore(state) == (stop_at is None)
            results = list(
                fit(
                    state, epoch, lambda _: batches, loss, options, seed, checkpoints, network, validated
                )
            )
    assert all(np.isfinite(result.train_loss) for result in results)
    digest = hashlib.sha256()
    for name, tensor in state.evaluated_model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw, clipped, averaged": {"optimizer": "adamw", "lr": 0.01, "clip_norm": 1.0, "ema_decay": 0.9},
    "bfloat16": {"precision": "bfloat16"},
    "float16 in micro batches": {"precision": "float16", "micro_batches": 2},
}
ON_CPU = ("adamw, clipped, averaged", "float16 in micro batches")
"""Kinds that are also trained on a CPU; test_resume.py has all."""


@pytest.mark.parametrize(
    ("device", "options"),
    [
        *(
            pytest.param("cuda", options, id=f"{name}, cuda", marks=ON_CUDA)
            for name, options in KINDS.items()
        ),
        *(
            pytest.param("cpu", KINDS[name], id=f"{name}, cpu", marks=pytest.mark.slow)
            for name in ON_CPU
        ),
    ],
)
def test_training_is_exact_also_when_it_is_resumed(
    device: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MAX_SHARE", 1e9)  # save at every step
    write_split(tmp_path / "train")
    wanted = train(tmp_path / "train", device, **options)
    assert train(tmp_path / "train", device, **options) == wanted
    states = tmp_path / "states"
    with pytest.raises(Stopped):
        train(tmp_path / "train", device, states=states, stop_at=(1, 2), **options)
    assert any(states.iterdir())
    assert train(tmp_path / "train", device, states=states, **options) == wanted
    assert train(tmp_path / "train", device, seed=1, **options) != wanted


SCRIPT = """
import json, sys
from pathlib import Path
import test_cuda
from darkroom.training import checkpoint

checkpoint.MAX_SHARE = 1e9  # save at every step
values = json.loads(sys.argv[1])
for name in ("folder", "states"):
    values[name] = values[name] and Path(values[name])
values["stop_at"] = values["stop_at"] and tuple(values["stop_at"])
try:
    print(test_cuda.train(**values))
except test_cuda.Stopped:
    print("stopped")
"""


def train_in_a_process(folder: Path, cache: Path, **values: Any) -> str:
    """Runs ``train`` in a fresh process with a cache of its own for compiled code."""
    given = {"folder": str(folder), "states": None, "stop_at": None, **values}
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1] / "src")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(given)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "TRITON_CACHE_DIR": str(cache / "triton"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


COMPILED = [
    pytest.param(
        "cpu",
        "default",
        marks=[
            pytest.mark.slow,
            only_with_all,
            pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler here"),
        ],
    ),
    *(pytest.param("cuda", how, marks=ON_CUDA) for how in ("default", "cuda_graphs")),
]


@pytest.mark.parametrize(("device", "how"), COMPILED)
def test_a_compiled_model_learns_the_same_in_every_process(
    device: str, how: str, tmp_path: Path
) -> None:
    """The last batches are smaller, averaged weights are validated, and one training is resumed."""
    write_split(tmp_path / "train")
    values: dict[str, Any] = {"device_name": device, "how": how, "ema_decay": 0.9}
    whole = train_in_a_process(tmp_path / "train", tmp_path / "cache", **values)
    resumed = {**values, "states": str(tmp_path / "states")}
    other = tmp_path / "other_cache"  # so the code is compiled anew
    stopped = train_in_a_process(tmp_path / "train", other, **resumed, stop_at=(1, 2))
    assert stopped == "stopped"
    assert train_in_a_process(tmp_path / "train", other, **resumed) == whole

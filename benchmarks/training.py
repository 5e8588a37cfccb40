"""Trainings that benchmarks measure: three sizes of images, each with a model that is usual for it.

Needs neither MLflow nor DVC, so that it runs on a borrowed GPU machine too.
"""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from darkroom.augment.pipeline import Augmentation
from darkroom.catalogue.counting import blank_spec
from darkroom.compute.compiled import compiled
from darkroom.compute.determinism import set_determinism
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage, pack_image
from darkroom.loading.batches import Batches, TrainBatch
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.training.checkpoint import Checkpoints
from darkroom.training.engine import train_one_epoch, train_step
from darkroom.training.losses import Loss, make_loss
from darkroom.training.state import TrainingState
from darkroom.training.targets import one_class

SEED = 0
NUM_CLASSES = 10
NUM_PICTURES = 64
LARGEST_SET_BYTES = 2**30


@dataclass(frozen=True)
class Workload:
    """Images and the model that learns them."""

    shape: tuple[int, int, int]
    """Height, width, channels."""
    model: str
    width: int | None
    depth: int | None
    batch_size: int
    least_steps: int
    """Of an epoch, however slow a step is."""


WORKLOADS = {
    "digits": Workload((8, 8, 1), "cnn", 32, 2, batch_size=64, least_steps=20),
    "cifar": Workload((32, 32, 3), "resnet", 16, 3, batch_size=128, least_steps=4),
    "cifar1000": Workload((32, 32, 3), "resnet", 16, 3, batch_size=1000, least_steps=4),
    "resnet50": Workload((224, 224, 3), "torchvision:resnet50", None, None, 256, least_steps=2),
    "224px": Workload((224, 224, 3), "torchvision:resnet18", None, None, batch_size=32, least_steps=2),
}

TRAIN = {
    "epochs": 10_000,  # more than are ever run: the schedule has no end here
    "batch_size": 64,
    "micro_batches": 1,
    "loss": "cross_entropy",
    "focal_gamma": None,
    "label_smoothing": 0.05,
    "teacher": None,
    "class_weights": None,
    "sampling": "natural",
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.0005,
    "l1": 0.0,
    "schedule": "one_cycle",
    "warmup_fraction": 0.3,
    "decay_epochs": None,
    "decay_factor": None,
    "clip_norm": None,
    "clip_value": None,
    "gradient_norms": False,
    "freeze": "none",
    "unfreeze": [],
    "feature_views": None,
    "layer_decay": None,
    "lr_factors": {},
    "ema_decay": None,
    "patience": None,
    "precision": "float32",
    "tf32": False,
    "compile": None,
    "deterministic": True,
    "image_size": None,
    "evaluate_crop": None,
}

AUGMENT: dict[str, Any] = {
    "crop_padding": 4,
    "resized_crop": None,
    "horizontal_flip": True,
    "vertical_flip": False,
    "rotate": 0.0,
    "translate": 0.0,
    "scale": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "policy": None,
    "transforms": [],
    "erase": 0.0,
    "erase_fill": "mean",
    "mixup": None,
    "cutmix": None,
}


def section(values: dict[str, Any]) -> Any:
    """Returns a section of params.yaml without pydantic, which a borrowed machine may lack."""
    return SimpleNamespace(**values)


def make_model(workload: Workload) -> Classifier:
    height, width, channels = workload.shape
    spec = blank_spec(
        name=workload.model,
        width=workload.width,
        depth=workload.depth,
        dropout=0.1,
        num_classes=NUM_CLASSES,
        input_size=(height, width),
        channels=channels,
    )
    return make_classifier(spec)


def make_plain_loss(options: Any, device: torch.device) -> Loss:
    """Returns the loss of the options, of classes with as many images each."""
    return make_loss(
        one_class,
        options,
        [f"class{i}" for i in range(NUM_CLASSES)],
        [1] * NUM_CLASSES,
        NUM_CLASSES,
        device,
    )


def make_pictures(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Returns patches of colour with grain, uint8 ``(64, *shape)``: neither flat nor mere noise."""
    random = np.random.default_rng(SEED)
    height, width, channels = shape
    patches = random.integers(20, 236, (NUM_PICTURES, -(-height // 8), -(-width // 8), channels))
    smooth = patches.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    grain = random.integers(-8, 9, (NUM_PICTURES, height, width, 1))
    return (smooth + grain).astype(np.uint8)


def make_shards(
    folder: Path, shape: tuple[int, int, int], num_images: int, storage: Storage = "decoded"
) -> Path:
    """Writes copies of the pictures, each in a place of its own, and returns ``folder``."""
    packed = [pack_image(picture, storage) for picture in make_pictures(shape)]
    with ShardWriter(folder, shape, num_images, storage) as writer:
        for number in range(num_images):
            writer.add(packed[number % NUM_PICTURES], number % NUM_CLASSES, f"{number}.png")
    return folder


@contextmanager
def no_room_on_gpu() -> Iterator[None]:
    """Lets the images stay in the shards, as those of a data set that no GPU can hold."""
    with mock.patch("torch.cuda.mem_get_info", return_value=(0, 2**40)):
        yield


class Training:
    """A training of one workload, whose loop and whose bare step are timed in turns.

    Args:
        num_threads: of a CPU's computation.
        block_seconds: how long an epoch should take, about.
        train, augment: parameters that differ from ``TRAIN`` and ``AUGMENT``.
    """

    def __init__(
        self,
        workload: Workload,
        device: torch.device,
        num_threads: int,
        deterministic: bool,
        block_seconds: float,
        train: Mapping[str, Any] = {},
        augment: Mapping[str, Any] = {},
    ) -> None:
        set_determinism(SEED, num_threads, deterministic, bool(train.get("tf32")))
        self._workload = workload
        self._device = device
        self._options = section({**TRAIN, **train})
        self._loss = make_plain_loss(self._options, device)
        self._augmentation = Augmentation(section({**AUGMENT, **augment}), SEED)
        self._model: nn.Module = make_model(workload).to(device)
        self._network = compiled(self._model, self._options.compile)
        image_bytes = int(np.prod(workload.shape))
        most_steps = max(LARGEST_SET_BYTES // image_bytes // workload.batch_size, workload.least_steps)
        self.num_steps = min(
            max(round(block_seconds / self._step_seconds()), workload.least_steps), most_steps
        )
        self.num_images = self.num_steps * workload.batch_size
        self._state = TrainingState(self._model, self._options, self.num_steps)

    def _step_seconds(self) -> float:
        """Returns the time of a step, after some to warm up."""
        self._state = TrainingState(self._model, self._options, num_steps=3)
        batch = self._blank_batch()
        rates = [self.bare_rate(batch) for _ in range(2)]
        return len(batch.targets) / rates[-1]

    def _blank_batch(self) -> TrainBatch:
        height, width, channels = self._workload.shape
        shape = (self._workload.batch_size, channels, height, width)
        images = torch.full(shape, 128, dtype=torch.uint8, device=self._device)
        targets = torch.zeros(len(images), dtype=torch.int64, device=self._device)
        return TrainBatch(images.contiguous(memory_format=torch.channels_last), targets)

    def batches(self, folder: Path, workers: int = 0) -> Batches:
        return Batches(Shards(folder), self._device, self._workload.batch_size, workers)

    def one_batch(self, batches: Batches) -> TrainBatch:
        """Returns a batch of an epoch, in memory of its own."""
        batch = next(iter(batches.epoch(SEED, 0, self._augmentation)))
        return TrainBatch(batch.images.clone(), batch.targets.clone())

    def loop_rate(self, batches: Batches, checkpoints: Checkpoints | None = None) -> float:
        """Trains an epoch. Returns images/s, until the last state is written."""
        self._begin_epoch()
        began = self._now()
        train_one_epoch(
            self._state,
            self._network,
            lambda epoch, step: batches.epoch(SEED, epoch, self._augmentation, step),
            self._loss,
            self._options,
            SEED,
            checkpoints,
        )
        if checkpoints is not None:
            _ = checkpoints.newest  # waits for what is being written
        return batches.num_images / (self._now() - began)

    def bare_rate(self, batch: TrainBatch) -> float:
        """Learns from one batch as often as an epoch has steps. Returns images/s."""
        self._begin_epoch()
        self._state.model.train()
        began = self._now()
        for _ in range(self._state.num_steps):
            train_step(self._state, self._network, batch, self._loss, self._options)
        return self._state.num_steps * len(batch.targets) / (self._now() - began)

    @property
    def has_extras(self) -> bool:
        """Whether a step clips gradients or averages weights."""
        options = self._options
        return any((options.ema_decay, options.clip_norm, options.clip_value))

    def plain_rate(self, batch: TrainBatch) -> float:
        """As ``bare_rate``, without clipping and averaging."""
        plain = {"ema_decay": None, "clip_norm": None, "clip_value": None}
        options, state = self._options, self._state
        self._options = section({**vars(options), **plain})
        self._state = TrainingState(self._model, self._options, self.num_steps)
        try:
            return self.bare_rate(batch)
        finally:
            self._options, self._state = options, state

    def rates_in_turns(self, batches: Batches) -> tuple[float, float]:
        """Trains an epoch, with a bare step of a copy of the model after each step.

        Machines that others use, too, change their pace from one second to the next; both have it alike.
        Only on a CPU: a GPU's steps would have to be waited for, one by one.

        Returns:
            Images/s of the loop, and of the bare step.
        """
        bare = TrainingState(copy.deepcopy(self._model), self._options, self.num_steps)
        bare.model.train()
        network = compiled(bare.model, self._options.compile)
        bare_batch = self.one_batch(batches)
        bare_seconds, num_bare_images = 0.0, 0

        def with_bare_steps(epoch: int, step: int) -> Iterator[TrainBatch]:
            nonlocal bare_seconds, num_bare_images
            for batch in batches.epoch(SEED, epoch, self._augmentation, step):
                yield batch
                began = self._now()
                train_step(bare, network, bare_batch, self._loss, self._options)
                bare_seconds += self._now() - began
                num_bare_images += len(bare_batch.targets)

        self._begin_epoch()
        began = self._now()
        train_one_epoch(self._state, self._network, with_bare_steps, self._loss, self._options, SEED)
        loop_seconds = self._now() - began - bare_seconds
        return batches.num_images / loop_seconds, num_bare_images / bare_seconds

    def load_rate(self, batches: Batches) -> float:
        """Loads every image and does nothing with it. Returns images/s."""
        began = self._now()
        for _ in batches:
            pass
        return batches.num_images / (self._now() - began)

    def _begin_epoch(self) -> None:
        self._state.epoch += 1
        self._state.step = self._state.num_images = 0
        self._state.losses.zero_()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

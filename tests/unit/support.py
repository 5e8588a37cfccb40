"""What several unit tests need: a spec, a tiny data set, training options, fresh processes."""

import hashlib
import io
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sections import AUGMENT, TRAIN
from torch import Tensor, nn

from darkroom.config.augment import Augment
from darkroom.config.train import SettledTrain
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.storage import Storage, pack_image
from darkroom.export.parity import Parity
from darkroom.models.spec import ModelSpec
from darkroom.training.course import EpochResult
from darkroom.training.losses import Loss, make_loss
from darkroom.training.targets import one_class

# Another number rounds differently, and threads of tests that run side by side wait for each other.
torch.set_num_threads(1)

NO_WARNINGS = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
"""Fails a test that gives a warning. Objects that an earlier test left behind give ResourceWarnings."""


def make_spec(**changes: Any) -> ModelSpec:
    """A cnn for grey images of 8 x 8 pixels and two classes, but for ``changes``."""
    values: dict[str, Any] = {
        "name": "cnn",
        "width": 4,
        "depth": 2,
        "patch_size": None,
        "dropout": 0.0,
        "stochastic_depth": 0.0,
        "head": "linear",
        "class_names": ("dark", "light"),
        "input_size": (8, 8),
        "channels": 1,
        "resize": "stretch",
        "training": {"train.lr": 0.05, "seed": 0},
        "environment": {"device": "cpu", "torch": "any"},
        **changes,
    }
    if ":" in values["name"]:
        values |= {"width": None, "depth": None}
    channels = values["channels"]
    statistics = {"mean": (0.4, 0.5, 0.6)[:channels], "std": (0.2, 0.25, 0.3)[:channels]}
    return ModelSpec(**{**statistics, **values})


def train_options(**changes: Any) -> SettledTrain:
    """The ``train`` section with plain values, but for ``changes``."""
    return SettledTrain(**TRAIN | changes)


def plain_loss(options: SettledTrain, num_classes: int = 2) -> Loss:
    """The loss that the options name, on the CPU, of classes with as many images each."""
    return make_loss(
        one_class,
        options,
        [f"{i}" for i in range(num_classes)],
        [1] * num_classes,
        num_classes,
        torch.device("cpu"),
    )


def augment_options(**changes: Any) -> Augment:
    """The ``augment`` section with nothing switched on, but for ``changes``."""
    return Augment(**AUGMENT | changes)


def epoch_result(**changes: Any) -> EpochResult:
    """An epoch's result with plain values, but for ``changes``."""
    values: dict[str, Any] = {
        "epoch": 1,
        "lr": 0.1,
        "train_loss": 0.5,
        "grad_norm": None,
        "val_loss": 0.5,
        "val_accuracy": 0.75,
        "val_f1_macro": 0.7,
        "val_f1_standard_error": 0.1,
        "is_best": False,
        "is_kept": False,
    }
    return EpochResult(**values | changes)


class Layered(nn.Module):
    """float ``(n, 4)`` -> logits ``(n, 2)``, by layers that are named as a classifier's."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network = nn.Module()
        self.network.backbone = _Backbone()
        self.network.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network.head(self.network.backbone(x))
        return logits


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 6))
        self.embedding = nn.Embedding(3, 6)
        # without biases, which batch norm takes away again, so that their gradients are noise
        self.layer1 = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, 4)`` -> float ``(n, 6)``."""
        features: Tensor = self.layer1(x) + self.embedding(torch.arange(len(x)) % 3)
        return self.layer2(features) + self.class_token


LAYERS = [
    ["backbone.class_token", "backbone.embedding.weight"],
    *(
        [f"backbone.layer{number}.{name}" for name in ("0.weight", "1.weight", "1.bias")]
        for number in (1, 2)
    ),
]
"""Those of ``Layered``'s backbone, from the input on."""


def one_cycle(step: int, num_steps: int, lr: float, warmup_fraction: float) -> float:
    """Smith and Topin's cosine cycle from lr / 25 to lr to lr / 250,000."""
    peak = warmup_fraction * (num_steps + 1) - 1
    if step <= peak:
        start, end, done = lr / 25, lr, step / peak
    else:
        start, end, done = lr, lr / 25 / 1e4, (step - peak) / (num_steps - peak)
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def two_brightnesses(num_images: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise around a dark and around a light grey: uint8 ``(n, 8, 8, 1)`` and int64 ``(n,)``."""
    random = np.random.default_rng(seed)
    labels = np.arange(num_images) % 2
    noise = random.normal(0, 20, (num_images, 8, 8, 1))
    return (noise + np.where(labels == 1, 150, 105)[:, None, None, None]).clip(0, 255).astype(
        np.uint8
    ), labels


def write_shards(
    folder: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    storage: Storage = "decoded",
) -> Path:
    """Writes images, uint8 ``(n, height, width, channels)``, as one split called ``folder``."""
    with ShardWriter(folder, images.shape[1:], len(images), storage) as writer:
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            writer.add(pack_image(image, storage), label, f"{label}/{index:04d}.png")
    return folder


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names and bytes of all weights and buffers."""
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def start_python(code: str, *arguments: object, cwd: Path, **env: str) -> subprocess.Popen[str]:
    """Starts ``code`` in a fresh interpreter that can import this module."""
    folders = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders)), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    """Waits for a process of ``start_python`` and returns what it printed."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def through_a_file(values: dict[str, Any]) -> dict[str, Any]:
    """Returns what torch loads of the values that it has saved."""
    file = io.BytesIO()
    torch.save(values, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def score_differences(here: dict[str, Any], there: dict[str, Any]) -> dict[str, tuple]:
    """What differs within the six digits that are kept; ``None`` equals only ``None``."""
    assert here.keys() == there.keys()
    near = {n: v if v is None else pytest.approx(v, abs=1.1e-6) for n, v in there.items()}
    return {name: (here[name], there[name]) for name in here if here[name] != near[name]}


def compare(
    spec: ModelSpec,
    expected: NDArray[np.floating],
    actual: NDArray[np.floating],
    truth: NDArray[Any] | None = None,
) -> Parity:
    """The differences between probabilities of the checkpoint and those of a file, in one batch."""
    parity = Parity(spec)
    parity.add(expected, actual, np.zeros(expected.shape, np.bool_) if truth is None else truth)  # type: ignore[arg-type]
    return parity


def unlabelled(*batches: NDArray[np.uint8]) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Batches of images for `check_parity` if no score is asked for."""
    return [(images, np.zeros((len(images), 1), np.bool_)) for images in batches]

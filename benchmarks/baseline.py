"""Measures what the baseline of `evaluate` costs: many small images, and features of a frozen backbone.

    python benchmarks/baseline.py

Prints a JSON line and adds it to benchmarks/results/baseline.jsonl. Images and features are made:
noise around a pattern per class. Seconds are of one CPU core, whatever else the machine does.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from machine import hardware, keep
from numpy.typing import NDArray
from torch import Tensor

from darkroom.catalogue.counting import blank_spec
from darkroom.compute.determinism import set_determinism
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.evaluation.baseline import fit_baseline
from darkroom.evaluation.features import BackboneFeatures, FeatureExtractor, GreyPixels
from darkroom.evaluation.targets import one_class
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier

NUM_TRAIN, NUM_VAL = 60_000, 10_000
NUM_PHOTOGRAPHS = 400
"""Of 224 x 224 pixels, which a backbone takes long for; the others follow by proportion."""


class MadeFeatures:
    """As many features as mobilenet_v2 has, at no cost: the images' own pixels in a random mixture."""

    name = "backbone"

    def __init__(self, num_pixels: int) -> None:
        self._mixture = torch.randn(num_pixels, 1280, generator=torch.Generator().manual_seed(0)) / 64

    def extract(self, images: Tensor) -> Tensor:
        return (images.flatten(1).float() / 255 @ self._mixture).relu()

    def of_splits(self, splits: Sequence[Shards]) -> list[NDArray[np.float32]] | None:
        return None

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        yield


def write(folder: Path, num_images: int, side: int, num_classes: int, seed: int) -> Shards:
    """Writes noise around a pattern per class."""
    patterns = np.random.default_rng(0).integers(80, 170, (num_classes, side // 4, side // 4, 3))
    random = np.random.default_rng(seed)
    with ShardWriter(folder, (side, side, 3), num_images) as writer:
        for index in range(num_images):
            label = index % num_classes
            coarse = patterns[label].repeat(4, axis=0).repeat(4, axis=1)
            image: NDArray[np.float64] = coarse + random.normal(0, 60, coarse.shape)
            writer.add(image.clip(0, 255).astype(np.uint8).tobytes(), label, f"{index}.png")
    return Shards(folder)


def classifier(num_classes: int) -> Classifier:
    spec = blank_spec(
        name="torchvision:mobilenet_v2",
        num_classes=num_classes,
        input_size=(224, 224),
        channels=3,
    )
    return make_classifier(spec).eval()


def seconds(
    extractor: FeatureExtractor,
    num_classes: int,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    side: int = 32,
) -> float:
    """Returns the CPU seconds that fitting takes, without writing the images."""
    with tempfile.TemporaryDirectory() as folder:
        train = write(Path(folder, "train"), num_train, side, num_classes, 1)
        val = write(Path(folder, "val"), num_val, side, num_classes, 2)
        started = time.process_time()
        fit_baseline(one_class, extractor, train, val, num_classes, torch.device("cpu"))
        return round(time.process_time() - started, 2)


def main() -> None:
    set_determinism(0, 1)
    model = classifier(10)
    made = MadeFeatures(32 * 32 * 3)
    photographs = seconds(BackboneFeatures(model), 10, NUM_PHOTOGRAPHS // 2, NUM_PHOTOGRAPHS // 2, 224)
    figures = {
        "pixels, 10 classes": seconds(GreyPixels(model), 10),
        "pixels, 100 classes": seconds(GreyPixels(model), 100),
        "1,280 features, 10 classes": seconds(made, 10),
        "1,280 features, 100 classes": seconds(made, 100),
        "1,280 features, 1,000 classes": seconds(made, 1_000),
        f"mobilenet_v2, {NUM_PHOTOGRAPHS} images of 224 x 224": photographs,
    }
    keep("baseline", {"cpu_seconds": figures, "num_train": NUM_TRAIN, "num_val": NUM_VAL, **hardware()})


if __name__ == "__main__":
    main()

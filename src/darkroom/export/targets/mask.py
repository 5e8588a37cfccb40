"""Exported models that predict masks: counts of pixels are kept, never masks."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.dataset.shards import Shards
from darkroom.errors import counted
from darkroom.metrics.intervals import named_bounds
from darkroom.metrics.paired import pixel_units
from darkroom.metrics.pixel_intervals import pixel_intervals
from darkroom.metrics.pixel_scores import pixel_metrics
from darkroom.metrics.pixels import PixelCounter
from darkroom.metrics.resampling import Units
from darkroom.models.spec import ModelSpec

SCORES = ("iou_macro", "f1_macro", "accuracy")

MAX_BATCH_SIZE = 64
MAX_OUTPUTS = 2**24
"""Maximum number of probabilities in a batch: 64 MiB for each file and for the checkpoint."""


def batch_size(spec: ModelSpec) -> int:
    height, width = spec.input_size
    return min(MAX_BATCH_SIZE, max(MAX_OUTPUTS // (len(spec.class_names) * height * width), 1))


def truth(test: Shards, rows: NDArray[np.int64], num_classes: int) -> NDArray[np.uint8]:
    """Return the masks, ``(n, height, width)``."""
    return test.gather_masks(rows)[..., 0]


class MaskAnswers:
    """The counted pixels of the masks of a file and of the checkpoint, and how many differ.

    Pixels that are void have no score, but must agree as all others.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._counter = PixelCounter(len(spec.class_names))
        self._expected = PixelCounter(len(spec.class_names))
        self._differing = [np.zeros(0, np.int64)]
        height, width = spec.input_size
        self._num_pixels = height * width

    def add(
        self, expected: NDArray[np.float32], actual: NDArray[np.float32], truth: NDArray[np.uint8]
    ) -> None:
        preds, expected_preds = actual.argmax(axis=1), expected.argmax(axis=1)
        self._counter.add(torch.from_numpy(truth), torch.from_numpy(preds))
        self._expected.add(torch.from_numpy(truth), torch.from_numpy(expected_preds))
        self._differing.append((preds != expected_preds).sum(axis=(1, 2)))

    @property
    def agreement(self) -> float:
        """Fraction of the pixels."""
        return 1 - float(np.concatenate(self._differing).mean()) / self._num_pixels

    @property
    def scored(self) -> bytes:
        return b"".join(counts.numpy().tobytes() for counts in self._counter.result())

    def scores(self, groups: NDArray[np.int64] | None) -> dict[str, Any]:
        """Return ``iou_macro``, ``f1_macro`` and the ``accuracy`` of pixels, with their intervals."""
        counts = self._counter.result()
        metrics = pixel_metrics(counts, list(self._spec.class_names))
        scores = {name: metrics[name] for name in SCORES}
        if not metrics["num_pixels"]:
            return scores
        found = pixel_intervals(counts, groups)
        return {**scores, **named_bounds({name: found[name] for name in SCORES})}

    def units(self, groups: NDArray[np.int64] | None) -> Units:
        first, second = self._expected.result(), self._counter.result()
        counts = (first.support, first.hits, first.predicted, second.hits, second.predicted)
        return pixel_units([each.numpy() for each in counts], groups)

    def compared(self, index: int, file: str) -> str:
        differing = int(np.concatenate(self._differing)[index])
        return (
            f"the checkpoint and {file} predict different classes for {differing:,} of "
            f"{counted(self._num_pixels, 'pixel')}"
        )


def answers(spec: ModelSpec) -> MaskAnswers:
    return MaskAnswers(spec)

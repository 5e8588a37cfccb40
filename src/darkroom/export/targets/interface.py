"""What a kind of target says about exported files: what is kept of their outputs, and their scores."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.shards import Shards
from darkroom.export.inputs.interface import exported_input
from darkroom.export.targets import mask, one_class, several_labels
from darkroom.metrics.resampling import Units
from darkroom.models.spec import ModelSpec
from darkroom.targets import Target


class Answers(Protocol):
    """What an exported file and the checkpoint predict for images, added batch by batch."""

    def add(
        self, expected: NDArray[np.float32], actual: NDArray[np.float32], truth: NDArray[Any]
    ) -> None:
        """Add a batch.

        Args:
            expected: probabilities of the checkpoint, ``(n, num_classes, ...)``.
            actual: probabilities of the file.
            truth: as ``ExportedTarget.truth`` returns.
        """
        ...

    @property
    def agreement(self) -> float:
        """Fraction of the decisions that are the same, 0..1."""
        ...

    @property
    def scored(self) -> bytes:
        """All that the scores depend on; files with the same are scored once."""
        ...

    def scores(self, groups: NDArray[np.int64] | None) -> dict[str, Any]:
        """Return ``f1_macro`` and other scores of the file, with their 95 % intervals.

        They depend on the predictions alone, because parity.json must be the same on every machine, and
        have the names and values that metrics.json has for the same predictions.

        Args:
            groups: as ``groups_of`` returns.
        """
        ...

    def units(self, groups: NDArray[np.int64] | None) -> Units:
        """Return what ``compare_units`` takes: first the checkpoint, then the file.

        Args:
            groups: as ``groups_of`` returns.
        """
        ...

    def compared(self, index: int, file: str) -> str:
        """Return what the checkpoint and the file predict for an image, as part of a message."""
        ...


class ExportedTarget(Protocol):
    """One for each kind: a module, or an instance of ``ExportedLabels``."""

    def batch_size(self, spec: ModelSpec) -> int:
        """Return the number of images that each file gets at once."""
        ...

    def truth(self, test: Shards, rows: NDArray[np.int64], num_classes: int) -> NDArray[Any]:
        """Return what is to be predicted for some of the images."""
        ...

    def answers(self, spec: ModelSpec) -> Answers:
        """Return the answers for no image yet."""
        ...


_TARGETS: dict[Target, ExportedTarget] = {
    "one_class": one_class.EXPORTED,
    "several_labels": several_labels.EXPORTED,
    "mask": mask,
}


def exported_target(name: Target) -> ExportedTarget:
    """Return what a kind of target says about exported files."""
    return _TARGETS[name]


def images_with_truth(test: Shards, spec: ModelSpec) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield all images in order, in batches as large as the kind allows, with what is to be predicted.

    Returns:
        uint8 ``(n, channels, height, width)``, or float64 ``(n, num_values)``, and as
        ``ExportedTarget.truth``.
    """
    kind, given, start = exported_target(spec.target), exported_input(spec.input).given, 0
    for images in test.batches(kind.batch_size(spec)):
        rows = np.arange(start, start + len(images))
        yield given(images), kind.truth(test, rows, len(spec.class_names))
        start += len(images)

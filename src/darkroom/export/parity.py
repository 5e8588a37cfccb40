"""Compares exported files with the checkpoint they were made of, each in a fresh process."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from darkroom.errors import UserError
from darkroom.export import reload
from darkroom.metrics.finite import check_finite
from darkroom.models.classifier import probabilities_of

SMALLEST_BOUND = 1e-5


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from the checkpoint, over the probabilities of all images."""

    max_abs_difference: float
    agreement: float
    """Share of the images, 0..1, that get the same class, or the same set of labels."""
    multi_label: bool = False

    @property
    def bound(self) -> float:
        """The power of ten, at least 1e-5, that the difference stays below.

        ONNX Runtime rounds by the instruction set of the CPU it finds, which cannot be pinned: the
        exact difference is a figure of one machine, the bound holds on all.
        """
        if self.max_abs_difference < SMALLEST_BOUND:
            return SMALLEST_BOUND
        return 10.0 ** (math.floor(math.log10(self.max_abs_difference)) + 1)

    def to_dict(self) -> dict[str, float]:
        """Returns what parity.json says, the same on every machine."""
        return {
            "max_abs_difference_below": self.bound,
            f"{'labels' if self.multi_label else 'argmax'}_agreement": self.agreement,
        }


def check_parity(
    model: nn.Module,
    files: Sequence[Path],
    images: NDArray[np.uint8],
    num_threads: int,
    tolerance: float,
    thresholds: Sequence[float] | None = None,
    paths: Sequence[str] | None = None,
) -> dict[str, Parity]:
    """Reloads each file in a process of its own and compares it with ``model``.

    Args:
        images: uint8 ``(n, channels, height, width)``.
        tolerance: largest difference of a probability that is let through.
        thresholds: one a label, where an image may have several; None: each has one.
        paths: of the images, for messages.

    Returns:
        The outcome by file name.

    Raises:
        UserError: a file does not load, gives no finite numbers, or differs by more than ``tolerance``.
    """
    with torch.inference_mode():
        logits = model(torch.from_numpy(images))
    expected = probabilities_of(logits, multi_label=thresholds is not None).numpy()
    names = paths or [f"image {index}" for index in range(len(images))]
    check_finite(expected, names, "export: the checkpoint")
    outcomes = _reload_and_run(files, images, num_threads)
    for file, probabilities in zip(files, outcomes, strict=True):
        check_finite(probabilities, names, f"export: {file.name}")
    parities = {
        file.name: compare(expected, actual, thresholds)
        for file, actual in zip(files, outcomes, strict=True)
    }
    for name, parity in parities.items():
        if not parity.max_abs_difference <= tolerance:
            raise UserError(
                f"export: {name} differs from the checkpoint by {parity.max_abs_difference:.2g} in a "
                f"probability (the same {'labels' if parity.multi_label else 'class'} for "
                f"{parity.agreement:.1%} of {len(images)} images); "
                f"export.parity_tolerance allows {tolerance:g}"
            )
    return parities


def compare(
    expected: NDArray[np.float32],
    actual: NDArray[np.float32],
    thresholds: Sequence[float] | None = None,
) -> Parity:
    """Compares probabilities, float32 ``(n, num_classes)`` each.

    Args:
        thresholds: as in ``check_parity``.
    """
    if thresholds is None:
        same = expected.argmax(axis=1) == actual.argmax(axis=1)
    else:
        wanted = np.array(thresholds)
        same = ((expected.astype(np.float64) >= wanted) == (actual.astype(np.float64) >= wanted)).all(1)
    return Parity(
        max_abs_difference=float(np.abs(expected - actual).max()),
        agreement=float(same.mean()),
        multi_label=thresholds is not None,
    )


def _reload_and_run(
    files: Sequence[Path], images: NDArray[np.uint8], num_threads: int
) -> list[NDArray[np.float32]]:
    """Runs each file on the images in a process of its own, all of them side by side.

    Args:
        images: uint8 ``(n, channels, height, width)``.

    Returns:
        For each file the probabilities, float32 ``(n, num_classes)``.

    Raises:
        UserError: a file does not load or run.
    """
    with TemporaryDirectory() as folder:
        inputs = Path(folder, "images.npy")
        np.save(inputs, images)
        outputs = [Path(folder, f"{file.name}.npy") for file in files]
        processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    reload.__name__,
                    file,
                    inputs,
                    str(num_threads),
                    out,
                ],
                stderr=subprocess.PIPE,
                text=True,
            )
            for file, out in zip(files, outputs, strict=True)
        ]
        for file, process in zip(files, processes, strict=True):
            _, errors = process.communicate()
            if process.returncode != 0:
                raise UserError(f"export: {file} does not load and run in a fresh process:\n{errors}")
        return [np.load(out) for out in outputs]

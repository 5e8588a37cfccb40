"""Compare exported files with the checkpoint, each reloaded in a new process."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.export import reload
from darkroom.metrics.finite import check_finite
from darkroom.models.classifier import Classifier, probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.models.targets.interface import model_target
from darkroom.targets import WORDS, Target

SMALLEST_BOUND = 1e-5
UNFAMILIARITY_TOLERANCE = 0.01
"""Maximum difference of an unfamiliarity, which is shown with two decimals."""


@dataclass(frozen=True)
class Parity:
    """The difference between an exported file and the checkpoint in the probabilities of all images."""

    max_abs_difference: float
    agreement: float
    """Fraction of the images, 0..1, with the same class or set of labels."""
    target: Target
    unfamiliarity_difference: float | None = None
    """The maximum difference of the unfamiliarity, as a part of it where it is above 1; None: the model
    does not measure it."""

    @property
    def bound(self) -> float:
        """See ``_bound``."""
        return _bound(self.max_abs_difference)

    def to_dict(self) -> dict[str, float]:
        """Return the entry in parity.json, which is the same on every machine."""
        return {
            "max_abs_difference_below": self.bound,
            WORDS[self.target].agreement: self.agreement,
            **(
                {}
                if self.unfamiliarity_difference is None
                else {"unfamiliarity_difference_below": _bound(self.unfamiliarity_difference)}
            ),
        }


def _bound(difference: float) -> float:
    """Return the lowest power of ten, at least 1e-5, above a difference.

    ONNX Runtime's rounding depends on the instruction set of the CPU, which cannot be pinned. The exact
    difference holds for one machine only, the bound for all.
    """
    if difference < SMALLEST_BOUND:
        return SMALLEST_BOUND
    return 10.0 ** (math.floor(math.log10(difference)) + 1)


def check_parity(
    model: Classifier,
    spec: ModelSpec,
    files: Sequence[Path],
    images: NDArray[np.uint8],
    num_threads: int,
    tolerance: float,
    paths: Sequence[str] | None = None,
) -> dict[str, Parity]:
    """Reload each file in a new process and compare it with ``model``.

    Args:
        images: uint8 ``(n, channels, height, width)``.
        tolerance: maximum difference of a probability.
        paths: the images' files, for messages.

    Returns:
        the difference by file name.

    Raises:
        UserError: a file does not load, or its outputs are not finite or differ by more than
            ``tolerance``.
    """
    with torch.inference_mode():
        logits, unfamiliarity = model.assess(torch.from_numpy(images))
    expected = probabilities_of(logits, spec).numpy()
    names = paths or [f"image {index}" for index in range(len(images))]
    check_finite(expected, names, "export: the checkpoint")
    if unfamiliarity is not None:
        expected = np.column_stack([expected, unfamiliarity.numpy()])
    outcomes = _reload_and_run(files, images, num_threads)
    for file, outputs in zip(files, outcomes, strict=True):
        check_finite(outputs, names, f"export: {file.name}")
    num_classes = len(spec.class_names)
    parities = {}
    for file, outputs in zip(files, outcomes, strict=True):
        parity = compare(
            spec.target, expected[:, :num_classes], outputs[:, :num_classes], spec.thresholds
        )
        if unfamiliarity is not None:
            difference = _difference(expected[:, num_classes:], outputs[:, num_classes:])
            parity = replace(parity, unfamiliarity_difference=difference)
        parities[file.name] = parity
    for name, parity in parities.items():
        if not parity.max_abs_difference <= tolerance:
            raise UserError(
                f"export: {name} differs from the checkpoint by {parity.max_abs_difference:.2g} in a "
                f"probability (the same {WORDS[parity.target].decision} for "
                f"{parity.agreement:.1%} of {len(images)} images); "
                f"export.parity_tolerance allows {tolerance:g}"
            )
        if not (parity.unfamiliarity_difference or 0.0) <= UNFAMILIARITY_TOLERANCE:
            raise UserError(
                f"export: {name} differs from the checkpoint by {parity.unfamiliarity_difference:.2g} "
                f"in an unfamiliarity; {UNFAMILIARITY_TOLERANCE:g} is allowed"
            )
    return parities


def _difference(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    """Return the maximum difference, as a part of the expected value where that is above 1."""
    return float((np.abs(expected - actual) / np.maximum(expected, 1)).max())


def compare(
    target: Target,
    expected: NDArray[np.float32],
    actual: NDArray[np.float32],
    thresholds: Sequence[float] | None = None,
) -> Parity:
    """Return the difference between probabilities, float32 ``(n, num_classes)`` each.

    Args:
        thresholds: those of the model.
    """
    decide = model_target(target).decide
    same = (decide(expected, thresholds) == decide(actual, thresholds)).all(axis=1)
    return Parity(
        max_abs_difference=float(np.abs(expected - actual).max()),
        agreement=float(same.mean()),
        target=target,
    )


def _reload_and_run(
    files: Sequence[Path], images: NDArray[np.uint8], num_threads: int
) -> list[NDArray[np.float32]]:
    """Run each file on the images in a new process, all in parallel.

    Args:
        images: uint8 ``(n, channels, height, width)``.

    Returns:
        the outputs of each file, as ``reload.run_safetensors``.

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
                raise UserError(f"export: {file} does not load and run in a new process:\n{errors}")
        return [np.load(out) for out in outputs]

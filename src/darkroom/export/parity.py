"""Compare exported files with the checkpoint on images, each reloaded in a new process."""

import json
import math
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.errors import UserError, counted, listed
from darkroom.export import reload
from darkroom.metrics.finite import check_finite
from darkroom.models.classifier import Classifier, probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.models.targets.interface import model_target
from darkroom.targets import WORDS, Target

BATCH_SIZE = 64
"""Number of images that each file classifies at once."""

MAX_NAMED = 10
"""Maximum number of images that a message names."""

SMALLEST_BOUND = 1e-5
UNFAMILIARITY_TOLERANCE = 0.01
"""Maximum difference of an unfamiliarity, which is shown with two decimals."""


@dataclass(frozen=True, eq=False)
class Parity:
    """The differences between an exported file and the checkpoint in the probabilities of all images."""

    target: Target
    differences: NDArray[np.floating]
    """The largest difference of a probability of each image, ``(n,)``."""
    preds: NDArray[np.bool_]
    """Which classes the file predicts, ``(n, num_classes)``."""
    expected_preds: NDArray[np.bool_]
    """Which classes the checkpoint predicts."""
    unfamiliarity_difference: float | None = None
    """The maximum difference of the unfamiliarity, as a part of it where it is above 1; None: the model
    does not measure it."""
    latency: Mapping[str, float] = field(default_factory=dict)
    """As ``reload.measure`` returns."""

    @property
    def max_abs_difference(self) -> float:
        return float(self.differences.max())

    @property
    def agreement(self) -> float:
        """Fraction of the images, 0..1, with the same class or set of labels."""
        return float((self.preds == self.expected_preds).all(axis=1).mean())

    @property
    def bound(self) -> float:
        """See ``_bound``."""
        return _bound(self.max_abs_difference)

    def to_dict(self) -> dict[str, float]:
        """Return the entry in parity.json, which is the same on every machine."""
        entry = {
            "num_images": len(self.differences),
            "max_abs_difference_below": self.bound,
            WORDS[self.target].agreement: self.agreement,
        }
        if self.unfamiliarity_difference is not None:
            entry["unfamiliarity_difference_below"] = _bound(self.unfamiliarity_difference)
        return entry


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
    batches: Iterable[NDArray[np.uint8]],
    num_threads: int,
    tolerance: float,
    paths: Sequence[str] | None = None,
    smaller: Collection[str] = (),
) -> dict[str, Parity]:
    """Reload each file in a new process and compare it with ``model`` on all images.

    The files run in parallel, one batch at a time, so that the images need not fit into memory. Then
    the latency of each is measured by itself.

    Args:
        batches: images, uint8 ``(n, channels, height, width)`` each.
        tolerance: maximum difference of a probability.
        paths: the images' files, for messages.
        smaller: names of files with fewer bits, whose probabilities and unfamiliarity may differ.

    Returns:
        the differences by file name.

    Raises:
        UserError: a file does not load, or its outputs are not finite or differ by more than
            ``tolerance``; the message then names images.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(_Reloaded(file, num_threads)) for file in files]
        rows: list[list[NDArray[np.float32]]] = []
        for images in batches:
            for process in processes:
                process.send(images)
            with torch.inference_mode():
                logits, unfamiliarity = model.assess(torch.from_numpy(images))
                expected = probabilities_of(logits, spec).numpy()
            if unfamiliarity is not None:
                expected = np.column_stack([expected, unfamiliarity.numpy()])
            rows.append([expected, *(process.receive() for process in processes)])
        expected, *outcomes = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        names = paths or [f"image {index}" for index in range(len(expected))]
        check_finite(expected, names, "export: the checkpoint")
        parities = {}
        for file, outputs in zip(files, outcomes, strict=True):
            check_finite(outputs, names, f"export: {file.name}")
            parities[file.name] = _compare_outputs(spec, expected, outputs)
        for name, parity in parities.items():
            if name in smaller:
                continue
            if not parity.max_abs_difference <= tolerance:
                raise UserError(disagreement(name, parity, spec, tolerance, names))
            if not (parity.unfamiliarity_difference or 0.0) <= UNFAMILIARITY_TOLERANCE:
                raise UserError(
                    f"export: {name} differs from the checkpoint by "
                    f"{parity.unfamiliarity_difference:.2g} in an unfamiliarity; "
                    f"{UNFAMILIARITY_TOLERANCE:g} is allowed"
                )
        return {
            name: replace(parity, latency=process.finish())
            for (name, parity), process in zip(parities.items(), processes, strict=True)
        }


def _compare_outputs(
    spec: ModelSpec, expected: NDArray[np.float32], actual: NDArray[np.float32]
) -> Parity:
    """Return the differences between outputs, which are as those of ``reload.Run``."""
    num_classes = len(spec.class_names)
    (probabilities, expected_score), (others, score) = (
        np.split(outputs, [num_classes], axis=1) for outputs in (expected, actual)
    )
    parity = compare(spec.target, probabilities, others, spec.thresholds)
    if not expected_score.size:
        return parity
    relative = np.abs(expected_score - score) / np.maximum(expected_score, 1)
    return replace(parity, unfamiliarity_difference=float(relative.max()))


def compare(
    target: Target,
    expected: NDArray[np.float32],
    actual: NDArray[np.float32],
    thresholds: Sequence[float] | None = None,
) -> Parity:
    """Return the differences between probabilities, float32 ``(n, num_classes)`` each.

    Args:
        thresholds: those of the model.
    """
    decide = model_target(target).decide
    differences = np.abs(expected - actual).max(axis=1)
    return Parity(target, differences, decide(actual, thresholds), decide(expected, thresholds))


def disagreement(
    name: str, parity: Parity, spec: ModelSpec, tolerance: float, paths: Sequence[str]
) -> str:
    """Return a message that says what differs, with the images that differ most."""
    wrong = np.flatnonzero(~(parity.differences <= tolerance))
    worst = wrong[np.argsort(-parity.differences[wrong], kind="stable")]
    lines = [
        f"  {paths[index]}: the checkpoint predicts {_named(parity.expected_preds[index], spec)}, "
        f"{name} {_named(parity.preds[index], spec)}; difference {parity.differences[index]:.2g}"
        for index in worst[:MAX_NAMED].tolist()
    ]
    more = f"\n  and {len(worst) - MAX_NAMED:,} more" if len(worst) > MAX_NAMED else ""
    return (
        f"export: {name} differs from the checkpoint by {parity.max_abs_difference:.2g} in a "
        f"probability (the same {WORDS[parity.target].decision} for {parity.agreement:.1%} of "
        f"{counted(len(paths), 'image')}); export.parity_tolerance allows {tolerance:g}. Images that "
        "differ by more:\n" + "\n".join(lines) + more
    )


def _named(preds: NDArray[np.bool_], spec: ModelSpec) -> str:
    return listed(spec.class_names[index] for index in np.flatnonzero(preds).tolist()) or "none"


class _Reloaded:
    """An exported file in a process of its own, which classifies batches of images."""

    def __init__(self, file: Path, num_threads: int) -> None:
        self._file = file
        self._errors = TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", reload.__name__, file, f"{num_threads}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._images, self._answers = self._process.stdin, self._process.stdout

    def send(self, images: NDArray[np.uint8]) -> None:
        """Begin to classify images.

        Raises:
            UserError: the file does not load or run.
        """
        try:
            reload.write_array(images, self._images)
        except OSError:
            raise self._failure() from None

    def receive(self) -> NDArray[np.float32]:
        """Return the outputs for the images that were sent, as ``reload.Run``.

        Raises:
            UserError: the file does not load or run.
        """
        outputs = reload.read_array(self._answers, np.float32)
        if outputs is None:
            raise self._failure()
        return outputs

    def finish(self) -> dict[str, float]:
        """Return the latency.

        Raises:
            UserError: the file does not run.
        """
        self._images.close()
        answer = self._answers.read()
        if self._process.wait() != 0:
            raise self._failure()
        latency: dict[str, float] = json.loads(answer)
        return latency

    def _failure(self) -> UserError:
        self._process.wait()
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")
        return UserError(f"export: {self._file} does not load and run in a new process:\n{errors}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for file in (self._images, self._answers, self._errors):
            with suppress(BrokenPipeError):  # of images that were not sent
                file.close()

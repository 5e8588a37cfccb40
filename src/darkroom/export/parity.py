"""Compare exported files with the checkpoint on images, each reloaded in a new process."""

import json
import math
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError, counted
from darkroom.export import reload
from darkroom.export.targets.interface import Answers, exported_target
from darkroom.inputs import INPUT_WORDS
from darkroom.metrics.finite import check_finite
from darkroom.models.spec import ModelSpec
from darkroom.targets import WORDS

MAX_NAMED = 10
"""Maximum number of images that a message names."""

SMALLEST_BOUND = 1e-5
UNFAMILIARITY_TOLERANCE = 0.01
"""Maximum difference of an unfamiliarity, which is shown with two decimals."""


class Parity:
    """The differences between an exported file and the checkpoint, added batch by batch.

    Args:
        spec: that of the model.
    """

    answers: Answers
    """What both predict."""
    latency: Mapping[str, float]
    """As ``reload.measure`` returns; empty before the file was measured."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._differences = [np.zeros(0, np.float32)]
        self._unfamiliarity: list[float] = []
        self.answers = exported_target(spec.target).answers(spec)
        self.latency = {}

    def add(
        self, expected: NDArray[np.float32], actual: NDArray[np.float32], truth: NDArray[Any]
    ) -> None:
        """Add the outputs for a batch, which are as those of ``reload.Run``.

        Args:
            expected: of the checkpoint.
            actual: of the file.
            truth: as ``ExportedTarget.truth`` returns.
        """
        num_classes = len(self._spec.class_names)
        (probabilities, expected_score), (others, score) = (
            np.split(outputs, [num_classes], axis=1) for outputs in (expected, actual)
        )
        self._differences.append(np.abs(probabilities - others).reshape(len(others), -1).max(axis=1))
        self.answers.add(probabilities, others, truth)
        if score.size:
            relative = np.abs(expected_score - score) / np.maximum(expected_score, 1)
            self._unfamiliarity.append(float(relative.max()))

    @property
    def differences(self) -> NDArray[np.floating]:
        """The largest difference of a probability of each image, ``(n,)``."""
        return np.concatenate(self._differences)

    @property
    def max_abs_difference(self) -> float:
        return float(self.differences.max())

    @property
    def unfamiliarity_difference(self) -> float | None:
        """The maximum difference of the unfamiliarity, as a part of it where it is above 1; None: the
        model does not measure it."""
        return float(np.max(self._unfamiliarity)) if self._unfamiliarity else None

    @property
    def bound(self) -> float:
        """See ``_bound``."""
        return _bound(self.max_abs_difference)

    def to_dict(self) -> dict[str, float]:
        """Return the entry in parity.json, which is the same on every machine."""
        entry = {
            "num_images": len(self.differences),
            "max_abs_difference_below": self.bound,
            WORDS[self._spec.target].agreement: self.answers.agreement,
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
    model: reload.Assessor,
    spec: ModelSpec,
    files: Sequence[Path],
    batches: Iterable[tuple[NDArray[Any], NDArray[Any]]],
    num_threads: int,
    tolerance: float,
    paths: Sequence[str] | None = None,
    smaller: Collection[str] = (),
) -> dict[str, Parity]:
    """Reload each file in a new process and compare it with ``model`` on all images.

    The files run in parallel, one batch at a time, so that neither the images nor the outputs need fit
    into memory. Then the latency of each is measured by itself.

    Args:
        batches: images, uint8 ``(n, channels, height, width)``, or rows, and their
            ``ExportedTarget.truth``.
        tolerance: maximum difference of a probability.
        paths: the images' files, for messages.
        smaller: names of files with fewer bits, whose probabilities and unfamiliarity may differ.

    Returns:
        the differences by file name.

    Raises:
        UserError: a file does not load, or its outputs are not finite or differ by more than
            ``tolerance``; the message then names images.
    """
    parities = {file.name: Parity(spec) for file in files}
    sources = ["the checkpoint", *parities]
    checked: list[list[NDArray[np.float32]]] = [[] for _ in sources]
    run = reload.run_of(model, spec)
    with ExitStack() as stack:
        processes = [stack.enter_context(_Reloaded(file, num_threads)) for file in files]
        for images, truth in batches:
            for process in processes:
                process.send(images)
            expected = run(images)
            checked[0].append(_least_finite(expected))
            for process, parity, values in zip(processes, parities.values(), checked[1:], strict=True):
                outputs = process.receive()
                values.append(_least_finite(outputs))
                parity.add(expected, outputs, truth)
        for source, values in zip(sources, checked, strict=True):
            of_images = np.concatenate(values)
            noun = INPUT_WORDS[spec.input].one
            names = paths or [f"{noun} {index}" for index in range(len(of_images))]
            check_finite(of_images, names, f"export: {source}", noun)
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
        for parity, process in zip(parities.values(), processes, strict=True):
            parity.latency = process.finish()
    return parities


def _least_finite(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first output of each image that is not finite, or else its first, ``(n, 1)``."""
    rows = outputs.reshape(len(outputs), -1)
    return np.take_along_axis(rows, (~np.isfinite(rows)).argmax(axis=1)[:, None], axis=1)


def disagreement(
    name: str, parity: Parity, spec: ModelSpec, tolerance: float, paths: Sequence[str]
) -> str:
    """Return a message that says what differs, with the images that differ most."""
    differences = parity.differences
    wrong = np.flatnonzero(~(differences <= tolerance))
    worst = wrong[np.argsort(-differences[wrong], kind="stable")]
    lines = [
        f"  {paths[index]}: {parity.answers.compared(index, name)}; difference {differences[index]:.2g}"
        for index in worst[:MAX_NAMED].tolist()
    ]
    more = f"\n  and {len(worst) - MAX_NAMED:,} more" if len(worst) > MAX_NAMED else ""
    words = INPUT_WORDS[spec.input]
    share, inputs = f"{parity.answers.agreement:.1%}", counted(len(paths), words.one)
    return (
        f"export: {name} differs from the checkpoint by {parity.max_abs_difference:.2g} in a "
        f"probability ({WORDS[spec.target].agreed.format(share, inputs)}); export.parity_tolerance "
        f"allows {tolerance:g}. {words.several.capitalize()} that differ by more:\n"
        + "\n".join(lines)
        + more
    )


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

    def send(self, images: NDArray[Any]) -> None:
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
        outputs = reload.read_array(self._answers)
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

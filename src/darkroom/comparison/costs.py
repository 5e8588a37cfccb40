"""What the two models cost: parameters, and the time that one image or row takes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.comparison.side import Side
from darkroom.compute.latency import time_in_turn
from darkroom.errors import UserError
from darkroom.models.exported import DESCRIPTION
from darkroom.paths import EXPORT, REPORT_TRAIN

ONNX = "model.onnx"
SUMMARY = REPORT_TRAIN / "summary.txt"

Quartiles = tuple[float, float, float]
"""The median, and below and above it the first and third quartile."""


@dataclass(frozen=True)
class Latency:
    """The time for one image, by both models in turn, with ONNX Runtime on all cores of the CPU."""

    milliseconds: tuple[Quartiles, Quartiles]
    ratio: Quartiles
    """The time of the second model divided by that of the first, per round."""
    num_rounds: int

    def to_json(self) -> dict[str, Any]:
        """Return the values by name; the median comes first, then the quartiles."""
        return {
            "milliseconds": [list(one) for one in self.milliseconds],
            "ratio": list(self.ratio),
            "rounds": self.num_rounds,
        }


@dataclass(frozen=True)
class Costs:
    """What is known about the costs of two models."""

    parameters: tuple[int | None, int | None] = (None, None)
    latency: Latency | None = None
    not_measured: str = ""
    """Why there is no latency, if it was asked for."""


def costs_of(first: Side, second: Side, latency: bool = False) -> Costs:
    """Return the numbers of parameters, and measure the latency on request.

    Args:
        latency: classify an image with the exported ONNX models of both, in turn.
    """
    parameters = _num_parameters(first), _num_parameters(second)
    if not latency:
        return Costs(parameters)
    try:
        with TemporaryDirectory() as scratch:
            places = Path(scratch, "a"), Path(scratch, "b")
            models = [_load(*pair) for pair in zip((first, second), places, strict=True)]
        return Costs(parameters, measure(*models))
    except UserError as error:
        return Costs(parameters, None, f"{error}")


def _num_parameters(side: Side) -> int | None:
    """Return the number of parameters that summary.txt names; None if it is not available."""
    try:
        text = side.read_file(SUMMARY).decode(errors="replace")
    except UserError:
        return None
    found = re.search(r"([\d,]+) parameters", text)
    return int(found[1].replace(",", "")) if found else None


def _load(side: Side, folder: Path) -> Callable[[], object]:
    """Return a function that classifies an image or a row with the exported model of a side.

    Raises:
        UserError: the files of the model are not available, or damaged.
    """
    from darkroom.prediction.description import takes_rows
    from darkroom.prediction.predictor import Predictor
    from darkroom.prediction.rows import RowPredictor

    folder.mkdir()
    try:
        for name in (DESCRIPTION, ONNX):
            (folder / name).write_bytes(side.read_file(EXPORT / name))
        if takes_rows(folder):
            return RowPredictor(folder).run_blank
        predictor = Predictor(folder)
    except UserError as error:
        problem = f"{error}".replace(f"{folder}", f"{EXPORT}")
        raise UserError(f"{side.name}: {problem}") from None
    image = np.random.default_rng(0).integers(0, 256, (1, *predictor.input_shape), dtype=np.uint8)
    return lambda: predictor.probabilities(image)


def measure(first: Callable[[], object], second: Callable[[], object]) -> Latency:
    """Return the latency of two models that classify an image in turn."""
    times = time_in_turn((first, second))
    before, after = (_quartiles(1e3 * column) for column in times.T)
    return Latency((before, after), _quartiles(times[:, 1] / times[:, 0]), len(times))


def _quartiles(values: NDArray[np.float64]) -> Quartiles:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return median, low, high

"""The share of wrong answers if only the most confident images are answered."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.metrics.digits import DIGITS
from darkroom.metrics.selective import risk_coverage
from darkroom.reporting.figures import BLUE, new_figure, save_figure
from darkroom.reporting.tables import write_csv

RISK = "risk_coverage"
"""Name of the table and the picture."""


def write_risk(
    confidences: NDArray[np.float64], is_correct: NDArray[np.bool_], folder: Path, unit: str = "images"
) -> None:
    """Write the risk at each coverage, as a table and as a picture.

    Args:
        confidences, is_correct: of each image, ``(n,)``.
        unit: what the images are called.
    """
    risks = risk_coverage(confidences, is_correct)
    coverages = np.arange(1, 101) / 100
    shown = risks[np.ceil(coverages * len(risks)).astype(int) - 1]
    pairs = [(c, round(r, DIGITS)) for c, r in zip(coverages.tolist(), shown.tolist(), strict=True)]
    write_csv(("coverage", "risk"), pairs, folder / f"{RISK}.csv")
    figure, axes = new_figure(5.5, 4.0)
    axes.plot(coverages, shown, color=BLUE)
    axes.set(xlabel=f"coverage: share of the {unit} that are answered", xlim=(0, 1.01))
    axes.set(ylabel="risk: share of wrong answers", ylim=(0, max(shown.max() * 1.1, 0.01)))
    save_figure(figure, folder / f"{RISK}.png")

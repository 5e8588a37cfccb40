"""Calibration, abstention and prediction sets in the report: tables, pictures and sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.risk import RISK
from darkroom.inputs import words_of_metrics
from darkroom.metrics.calibration import Reliability
from darkroom.metrics.digits import DIGITS
from darkroom.reporting.figures import BLUE, GREY, ORANGE, blank_figure, save_figure
from darkroom.reporting.page import embed_png
from darkroom.reporting.scores import answer_sentences, calibration_scores
from darkroom.reporting.tables import write_csv
from darkroom.reporting.templates import number

RELIABILITY = "reliability"
"""Name of the table and the picture."""


def write_calibration(evaluation: Evaluation, folder: Path) -> None:
    """Write the reliability before and after calibration."""
    by_time = {
        "before": evaluation.reliability(evaluation.uncalibrated),
        "after": evaluation.reliability(evaluation.probabilities),
    }
    rows = [
        (time, *(np.round(value, DIGITS).item() for value in row))
        for time, bins in by_time.items()
        for row in zip(*bins, strict=True)
    ]
    write_csv(
        ("calibration", "confidence", "accuracy", "decisions"), rows, folder / f"{RELIABILITY}.csv"
    )
    _draw_reliability(by_time, folder / f"{RELIABILITY}.png")


def _draw_reliability(by_time: Mapping[str, Reliability], path: Path) -> None:
    figure = blank_figure(9, 4.2)
    for axes, (time, bins) in zip(figure.subplots(1, 2), by_time.items(), strict=True):
        axes.plot((0, 1), (0, 1), color=GREY, linewidth=1)
        for confidence, accuracy in zip(bins.confidence, bins.accuracy, strict=True):
            axes.plot((confidence, confidence), (confidence, accuracy), color=ORANGE, linewidth=2)
        axes.plot(bins.confidence, bins.accuracy, "o-", color=BLUE, markersize=4, linewidth=1)
        axes.set(xlabel="mean confidence", ylabel="share that is correct")
        axes.set(xlim=(-0.01, 1.02), ylim=(-0.01, 1.02))
        axes.set_title(f"{time} calibration", fontsize=10, y=1)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


@dataclass(frozen=True)
class CalibrationSection:
    """What ``calibration.html.j2`` shows."""

    rows: list[tuple[str, ...]]
    """(score, before, after)"""
    sentences: list[str]
    figures: list[tuple[str, str]]
    """(caption, data URL)"""


def calibration_section(metrics: Mapping[str, Any], plots: Path) -> CalibrationSection:
    """Return the section of the report.

    Args:
        plots: the folder with the pictures that ``write_plots`` wrote.
    """
    several = words_of_metrics(metrics).several
    captions = {
        RELIABILITY: "Decisions in 15 bins by their confidence: on the line, probabilities are right",
        RISK: f"Share of wrong answers if only the most confident {several} are answered",
    }
    return CalibrationSection(
        [(title, *map(number, scores)) for title, scores in calibration_scores(metrics).items()],
        list(answer_sentences(metrics)),
        [
            (caption, embed_png(plots / f"{name}.png"))
            for name, caption in captions.items()
            if name == RELIABILITY or "aurc" in metrics.get("abstention", {})
        ],
    )

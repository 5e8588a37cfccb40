"""The figures of a sweep: scores by trial, parallel coordinates, importances."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from darkroom.reporting.figures import (
    BLUE,
    GREY,
    ORANGE,
    blank_figure,
    drawable_name,
    new_figure,
    save_figure,
)
from darkroom.sweep.importance import Importance
from darkroom.sweep.space import Dimension, Range, label_of
from darkroom.sweep.summary import Summary, short_names

MAX_AXES = 12
"""Number of parameters that parallel coordinates show."""


def draw_scores(summary: Summary, path: Path) -> None:
    """Draw the score of each trial, and the best one so far."""
    figure, axes = new_figure(9, 3.6)
    marks: tuple[tuple[str, str, str], ...] = (("complete", "o", BLUE), ("pruned", "x", GREY))
    for state, mark, color in marks:
        of_state = [one for one in summary.trials if one.state == state]
        if of_state:
            axes.plot(
                [one.index for one in of_state],
                [one.score() for one in of_state],
                mark,
                color=color,
                label=f"{state}" if state == "complete" else "pruned, at its last comparison",
                markersize=5,
            )
    complete = [one for one in summary.trials if one.state == "complete"]
    highest = np.maximum.accumulate([one.score() for one in complete])
    axes.step([one.index for one in complete], highest, where="post", color=BLUE, alpha=0.4)
    best = summary.best
    axes.plot(
        best.index, best.score(), "o", color=ORANGE, label=f"best: trial {best.index}", markersize=8
    )
    low, high = best.score() - summary.noise, min(1.0, best.score() + summary.noise)
    axes.axhspan(low, high, color=ORANGE, alpha=0.12, linewidth=0, label="cannot be told from it")
    scores = [one.score() for one in summary.trials if one.scores]
    lowest = min(low, float(np.percentile(scores, 10)))
    margin = max(0.05 * (high - lowest), 0.002)  # all scores may be the same
    axes.set_ylim(lowest - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial (those far below are not shown)" if min(scores) < lowest else "trial")
    axes.set_title("validation macro F1", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    save_figure(figure, path)


def draw_parallel(summary: Summary, dimensions: Sequence[Dimension], path: Path) -> None:
    """Draw each trial as a line across the axes of its parameters and its score."""
    dimensions = dimensions[:MAX_AXES]
    figure = blank_figure(max(6.0, 1.3 * (len(dimensions) + 1)), 4.2)
    axes = figure.add_subplot()
    first = summary.sweep.rungs[0]
    trials = sorted(
        (one for one in summary.trials if first in one.scores), key=lambda one: one.score(first)
    )
    scores = np.array([one.score(first) for one in trials])
    low, high = float(np.percentile(scores, 5)), float(scores.max())
    heights = np.clip((scores - low) / max(high - low, 1e-9), 0, 1)
    for trial, height in zip(trials, heights, strict=True):
        values = summary.overlay(trial)
        line = [*(_height(one, values[one.name]) for one in dimensions), height]
        is_best = trial.index == summary.best.index
        color = ORANGE if is_best else BLUE
        alpha = 1.0 if is_best else 0.08 + 0.6 * height**2
        axes.plot(
            range(len(line)),
            line,
            color=color,
            alpha=alpha,
            linewidth=2.4 if is_best else 1.2,
            zorder=3 if is_best else 2,
        )
    names = [drawable_name(name) for name in short_names([one.name for one in dimensions])]
    for place, one in enumerate(dimensions):
        axes.axvline(place, color=GREY, linewidth=0.8, zorder=1)
        for height, text in _ticks(one):
            axes.text(place + 0.03, height, drawable_name(text), fontsize=7, va="center", zorder=4)
    axes.axvline(len(dimensions), color=GREY, linewidth=0.8, zorder=1)
    for height, score in ((0.0, low), (1.0, high)):
        axes.text(len(dimensions) + 0.03, height, f"{score:.3f}", fontsize=7, va="center", zorder=4)
    axes.set_xticks(range(len(names) + 1), [*names, "macro F1"], fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.2, 1.06)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    save_figure(figure, path)


OUTSIDE = -0.14
"""Height of values that are not in the space, such as that of a parameter that does not apply."""


def _height(dimension: Dimension, value: Any) -> float:
    """Return where a value is on its axis, 0..1."""
    values = dimension.values
    if isinstance(values, Range):
        if not isinstance(value, int | float) or isinstance(value, bool):
            return OUTSIDE
        ends = np.array([values.low, values.high, max(value, 1e-12 if values.log else value)], float)
        low, high, place = np.log(ends) if values.log else ends
        return float(np.clip((place - low) / (high - low), -0.05, 1.05))
    labels = [label_of(one) for one in values.values]
    if label_of(value) not in labels:
        return OUTSIDE
    return labels.index(label_of(value)) / (len(labels) - 1) if len(labels) > 1 else 0.5


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    """Return the heights and texts of the ends of an axis."""
    ticks = [(_height(dimension, value), label_of(value)) for value in dimension.values.ends()]
    if dimension.when:
        ticks.append((OUTSIDE, label_of(dimension.otherwise)))
    return ticks


def draw_importances(found: Sequence[Importance], path: Path) -> None:
    """Draw the shares of parameters with their intervals, the largest at the top."""
    figure, axes = new_figure(7, 0.9 + 0.32 * len(found))
    places = np.arange(len(found))[::-1]
    shares = np.array([one.share for one in found])
    axes.barh(places, shares, color=BLUE, alpha=0.75)
    ends = np.array([[one.share - one.low, one.high - one.share] for one in found]).T
    axes.errorbar(shares, places, xerr=np.maximum(ends, 0), fmt="none", color=ORANGE, capsize=3)
    axes.set_yticks(places, [drawable_name(one.name) for one in found], fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the variance of scores")
    save_figure(figure, path)

"""What a server predicted hour by hour, as one HTML page with a figure."""

import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from numpy.typing import NDArray

from darkroom.comparison.drift import Drift, Sample
from darkroom.comparison.drift_log import Log
from darkroom.prediction.hourly import EDGES
from darkroom.reporting.figures import BLUE, GREY, ORANGE, blank_figure, drawable_name, save_figure
from darkroom.reporting.page import embed_png, write_page

NUM_DRAWN = 6
"""Number of answers that have a colour of their own; the others share one."""

COLOURS = (BLUE, ORANGE, "#5a9367", "#8e5ea2", "#c2a83e", "#a44a3f")


def write_hours(log: Log, reference: Sample, drift: Drift, path: Path) -> None:
    """Write the page.

    Args:
        log: the hours that are shown.
        reference: what they are compared with, drawn as a dashed line.
        drift: the result of the comparison.
    """
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "hours.png"
        draw_hours(log, reference, picture)
        address = embed_png(picture)
    starts = sorted({hour.start for hour in log.hours})
    names = [change.name for change in drift.changed]
    write_page(
        Path(__file__).with_name("drift.html.j2"),
        path,
        title="Drift by hour",
        subtitle=f"{starts[0]:%Y-%m-%d %H:00} to {starts[-1]:%Y-%m-%d %H:59} UTC",
        headline=[
            ("predictions", f"{_size(log):,}"),
            ("hours with predictions", f"{len(starts):,}"),
            ("drift", " and ".join(names) or "none shown"),
            ("model", log.hours[0].model[:12]),
        ],
        remarks=[],
        picture=address,
        tests=[
            (
                one.name,
                *(f"{mean:.3f}" for mean in one.means or ()),
                *([""] * (0 if one.means else 2)),
                f"{one.distance:.3f}",
                f"{one.p_value:.4f}" if one.p_value >= 0.0001 else "< 0.0001",
            )
            for one in drift.changes
        ],
        classes=[
            (one.name, *(f"{share:.1%}" for share in one.shares), f"{100 * one.difference:+.1f}")
            for one in drift.classes
        ],
    )


def draw_hours(log: Log, reference: Sample, path: Path) -> None:
    """Draw counts, shares, confidence and unfamiliarity of each hour."""
    hours = sorted({hour.start for hour in log.hours})
    place = {start: at for at, start in enumerate(hours)}
    totals: Counter[str] = Counter()
    for hour in log.hours:
        totals[hour.answer] += hour.row.count
    drawn = [name for name, _ in totals.most_common(NUM_DRAWN)]
    others = "others" if len(totals) > len(drawn) else None
    counts = {name: np.zeros(len(hours)) for name in [*drawn, *([others] if others else [])]}
    for hour in log.hours:
        counts[hour.answer if hour.answer in drawn else others or ""][place[hour.start]] += (
            hour.row.count
        )
    numbers = [name for name in EDGES if any(hour.row.bins[name] for hour in log.hours)]
    figure = blank_figure(9, 2.2 * (2 + len(numbers)))
    axes = figure.subplots(2 + len(numbers), 1, sharex=True)
    whole = np.sum(list(counts.values()), axis=0)
    width = 1 / 24 * 0.9  # of a day
    axes[0].bar(hours, whole, width, color=GREY)
    axes[0].set_title("predictions", fontsize=10, loc="left")
    floor = np.zeros(len(hours))
    for (name, found), color in zip(counts.items(), (*COLOURS[: len(drawn)], GREY), strict=False):
        axes[1].bar(
            hours, found / whole, width, floor, color=color, label=drawable_name(name or "no label")
        )
        floor = floor + found / whole
    axes[1].set_title("share of each class", fontsize=10, loc="left")
    axes[1].set_ylim(0, 1)
    axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for one, name in zip(axes[2:], numbers, strict=True):
        _draw_number(one, name, log, hours, reference)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    locator = axes[-1].xaxis.get_major_locator()
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    save_figure(figure, path)


def _draw_number(axes: Axes, name: str, log: Log, hours: list[datetime], reference: Sample) -> None:
    """Draw the median and the middle 80 % of a number in each hour."""
    bins: dict[datetime, Counter[int]] = {start: Counter() for start in hours}
    for hour in log.hours:
        bins[hour.start].update(hour.row.bins[name])
    low, middle, high = (
        np.array([_quantile(name, bins[start], share) for start in hours]) for share in (0.1, 0.5, 0.9)
    )
    axes.errorbar(
        hours,  # type: ignore[arg-type]
        middle,
        [middle - low, high - middle],
        fmt="o",
        color=BLUE,
        markersize=3,
        elinewidth=1,
    )
    if name in reference.numbers:
        axes.axhline(
            float(np.median(reference.numbers[name])),
            color=ORANGE,
            linestyle="--",
            linewidth=1,
            label="median of the reference",
        )
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title(f"{name}: median, and 10 % to 90 %", fontsize=10, loc="left")


def _quantile(name: str, bins: Counter[int], share: float) -> float:
    """Return the lower edge of the bin in which a quantile is; NaN without values."""
    if not bins:
        return float("nan")
    places = sorted(bins)
    reached: NDArray[np.int64] = np.cumsum([bins[at] for at in places])
    return float(EDGES[name][places[int(np.searchsorted(reached, share * reached[-1]))]])


def _size(log: Log) -> int:
    return sum(hour.row.count for hour in log.hours)

"""The learning curve as a table, a picture and a page."""

import tempfile
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.learning_curve.curve import RATIO, TAILS, Curve
from darkroom.reporting.figures import BLUE, ORANGE, new_figure, save_figure
from darkroom.reporting.page import embed_png, write_page
from darkroom.reporting.tables import write_csv, write_json


def headings(curve: Curve) -> tuple[str, ...]:
    """Return the headings of ``rows`` after that of the percentage."""
    return f"training {curve.words.several}", "macro F1", "95 % interval", "single trainings"


def rows(curve: Curve) -> list[tuple[str, ...]]:
    """Return percent, images or rows, macro F1, interval and the scores of repeats of each size."""
    return [
        (
            f"{step.percent:g} %",
            f"{step.num_images:,}",
            f"{step.f1_macro:.4f}",
            f"{step.low:.4f} to {step.high:.4f}",
            " ".join(f"{score:.4f}" for score in step.repeats),
        )
        for step in curve.steps
    ]


def class_rows(curve: Curve) -> list[tuple[str, ...]]:
    """Return name, F1 and expected gain of each class, the largest gain first."""
    ordered = sorted(curve.classes.items(), key=lambda item: -item[1][1].rise)
    return [
        (
            name,
            f"{f1:.3f}",
            "unclear" if gain.verdict == "unclear" else f"+{gain.rise:.3f}",
            f"+{gain.low:.3f} to +{gain.high:.3f}",
        )
        for name, (f1, gain) in ordered
    ]


def table(curve: Curve) -> Table:
    """Return the sizes as a table for the terminal."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("")
    for heading in headings(curve)[: 4 if len(curve.steps[0].repeats) > 1 else 3]:
        shown.add_column(heading, justify="right")
    for row in rows(curve):
        shown.add_row(*row[: len(shown.columns)])
    return shown


def write_curve(curve: Curve, folder: Path) -> None:
    """Write learning_curve.csv, .json and .html into a folder."""
    columns = ("percent", "num_images", "repeat", "f1_macro")
    write_csv(
        columns,
        [
            (f"{step.percent:g}", step.num_images, number, f"{score:.6f}")
            for step in curve.steps
            for number, score in enumerate(step.repeats, 1)
        ],
        folder / "learning_curve.csv",
    )
    write_json(curve.to_json(), folder / "learning_curve.json")
    twice = curve.twice
    expected = "unclear"
    if curve.verdict != "unclear":
        expected = f"{twice.rise:.3f} ({twice.low:.3f} to {twice.high:.3f})"
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "curve.png"
        draw_curve(curve, picture)
        address = embed_png(picture)
    write_page(
        Path(__file__).with_name("curve.html.j2"),
        folder / "learning_curve.html",
        title="Learning curve",
        subtitle=curve.sentence,
        headline=[
            (f"training {curve.words.several}", f"{curve.steps[-1].num_images:,}"),
            ("macro F1, validation", f"{curve.steps[-1].f1_macro:.3f}"),
            ("expected of twice as many", expected),
        ],
        remarks=curve.remarks,
        picture=address,
        headings=headings(curve),
        words=curve.words,
        rows=rows(curve),
        classes=class_rows(curve),
        num_validation=f"{curve.num_validation:,}",
        num_sizes=len(curve.steps),
        falls=curve.falls,
    )


def draw_curve(curve: Curve, path: Path) -> None:
    """Draw macro F1 by number of images, and the fitted curve up to twice as many where it is clear."""
    figure, axes = new_figure(8, 4.2)
    sizes = np.array([step.num_images for step in curve.steps])
    scores = np.array([step.f1_macro for step in curve.steps])
    ends = np.array([[step.low, step.high] for step in curve.steps]).T
    ratios = np.geomspace(sizes[0] / sizes[-1], RATIO, 200)
    errors = curve.laws.errors(ratios)
    low, high = 1 - np.percentile(errors[1:], TAILS[::-1], axis=0)
    if not curve.falls:
        axes.fill_between(ratios * sizes[-1], low, high, color=ORANGE, alpha=0.15, linewidth=0)
        last = 1 if curve.verdict == "unclear" else RATIO
        for label, style, start, end in (("power law", "-", 0, 1), ("extrapolated", "--", 1, last)):
            part = (ratios >= start) & (ratios <= end)
            if part.any():
                axes.plot(
                    ratios[part] * sizes[-1], 1 - errors[0][part], style, color=ORANGE, label=label
                )
    for number, scores_of in enumerate(zip(*(step.repeats for step in curve.steps), strict=True)):
        if len(curve.steps[0].repeats) > 1:
            label = "" if number else "single trainings"
            axes.plot(sizes, scores_of, "o", color=BLUE, alpha=0.35, markersize=3, label=label)
    bars = np.maximum(np.abs(ends - scores), 0)
    axes.errorbar(
        sizes, scores, bars, fmt="o", color=BLUE, capsize=3, label=f"validation {curve.words.several}"
    )
    axes.set_xscale("log")
    places = [*sizes.tolist(), *([] if curve.falls else [RATIO * int(sizes[-1])])]
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.xaxis.minorticks_off()
    axes.set_xlabel(f"training {curve.words.several}")
    axes.set_title("macro F1", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    save_figure(figure, path)

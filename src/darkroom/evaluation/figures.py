"""Draw the pictures of the evaluation report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from darkroom.reporting.figures import (
    BLUE,
    GREY,
    MAX_TICKS,
    ORANGE,
    drawable_name,
    image_sheet,
    name_ticks,
    new_figure,
    place_image,
    save_figure,
)

SHEET_WIDTH = 10.2
"""Width in inches of a picture that shows many images."""


def draw_titled_images(images: Sequence[NDArray[np.uint8]], titles: Sequence[str], path: Path) -> None:
    """Draw images, each below its title: six per row, or fewer if they are wider than high.

    Args:
        images: uint8 ``(height, width, channels)``, 0..255.
    """
    shapes = [image.shape[:2] for image in images] or [(1, 1)]
    columns = max(round(6 / max(1, *(width / height for height, width in shapes))), 1)
    pitch = SHEET_WIDTH / columns
    side = pitch - 0.1
    title_height = 0.1 + 0.14 * max((len(title.splitlines()) for title in titles), default=1)
    row_height = (
        title_height + 0.05 + side * max(height / max(height, width) for height, width in shapes)
    )
    figure, axes = image_sheet(SHEET_WIDTH, row_height * max(-(-len(images) // columns), 1))
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(index, columns)
        left, top = pitch * column + 0.05, row_height * row + title_height
        lines = "\n".join(drawable_name(line) for line in title.splitlines())
        axes.text(left + side / 2, top - 0.05, lines, fontsize=8, ha="center", va="bottom")
        place_image(axes, image, left, top, side)
    save_figure(figure, path)


def draw_confusion_matrix(
    counts: NDArray[np.int64],
    row_names: Sequence[str],
    column_names: Sequence[str],
    path: Path,
    in_percent: bool = False,
) -> None:
    """Draw a confusion matrix, coloured by the share of the true class.

    Args:
        counts: int64 ``(rows, columns)``: rows are true classes, columns are predicted classes. Each row
            holds all images of its class.
        in_percent: write the shares into the cells instead of the counts.
    """
    side = min(3 + 0.45 * len(row_names), 18)
    figure, axes = new_figure(side + 0.8, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts > 0):
        color = "white" if shares[row, column] > 0.6 else "black"
        text = f"{100 * shares[row, column]:.0f}" if in_percent else f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    name_ticks(axes, "x", column_names)
    name_ticks(axes, "y", row_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(drawn, label="share of the true class", shrink=0.8)
    save_figure(figure, path)


def draw_label_counts(
    correct: Sequence[int],
    wrong: Sequence[int],
    missed: Sequence[int],
    class_names: Sequence[str],
    path: Path,
    unit: str = "images",
) -> None:
    """Draw one bar per label: its true positives, false negatives and false positives.

    True positives and false negatives are stacked, so their sum is the number of images with the label.
    False positives extend in the other direction.
    """
    positions = np.arange(len(class_names))
    figure, axes = new_figure(6.5, min(1.6 + 0.32 * len(class_names), 14))
    bars = (
        ("correct", correct, np.zeros(len(correct)), BLUE),
        ("missed", missed, np.array(correct), GREY),
        ("wrong", -np.array(wrong), np.zeros(len(wrong)), ORANGE),
    )
    for label, counts, starts, color in bars:
        if len(class_names) <= MAX_TICKS:
            axes.barh(positions, counts, left=starts, color=color, label=label)
        else:  # one shape, because matplotlib takes seconds for a thousand bars
            edges = np.arange(len(class_names) + 1) - 0.5
            ends = starts + counts
            axes.stairs(
                ends,
                edges,
                baseline=starts,
                orientation="horizontal",
                fill=True,
                color=color,
                label=label,
            )
    name_ticks(axes, "y", class_names)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_ylim(len(class_names) - 0.4, -0.6)
    axes.set_xlabel(unit)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    save_figure(figure, path)


def draw_curves(
    grid: NDArray[np.float64],
    curves: Mapping[str, NDArray[np.float64]],
    macro: NDArray[np.float64],
    labels: tuple[str, str],
    path: Path,
) -> None:
    """Draw one thin line per class and their mean in bold.

    Args:
        grid: horizontal positions of the values.
        labels: labels of the horizontal and the vertical axis.
    """
    figure, axes = new_figure(5.5, 4.5)
    few = len(curves) <= 10
    colors = matplotlib.color_sequences["tab10"]
    for index, (name, values) in enumerate(curves.items()):
        color = colors[index] if few else GREY
        axes.plot(grid, values, color=color, linewidth=1, label=_in_legend(name) if few else None)
    axes.plot(grid, macro, color="black", linewidth=2, label="mean over classes")
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    if few:
        axes.legend(frameon=False, fontsize=8)
    else:  # matplotlib would search for the best place among all lines
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    save_figure(figure, path)


def _in_legend(name: str) -> str:
    """Return a legend label that matplotlib does not skip for its leading underscore."""
    return f" {drawable_name(name)}" if name.startswith("_") else drawable_name(name)

"""Pictures, drawn with matplotlib: the same bytes for the same numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREY = "#2f6690", "#e07a1f", "#b8c0c8"
MAX_TICKS = 40
"""More classes than this are not named along an axis."""


def _blank(width: float, height: float, constrained: bool = True) -> Figure:
    """Makes an empty figure, sizes in inches, that ignores a user's matplotlibrc.

    Text is taken as it is: a class may be called ``$5``.
    """
    matplotlib.rcdefaults()
    matplotlib.rcParams["text.parse_math"] = False
    return Figure(figsize=(width, height), dpi=110, layout="constrained" if constrained else None)


def _new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Makes a figure with one pair of axes."""
    figure = _blank(width, height)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})


def draw_class_histogram(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draws the number of images by class, stacked by split.

    Args:
        counts: split -> class -> images.
    """
    class_names = list(next(iter(counts.values())))
    figure, axes = _new_figure(min(4 + 0.35 * len(class_names), 18), 4)
    below = np.zeros(len(class_names))
    positions = np.arange(len(class_names))
    for (split, by_class), color in zip(counts.items(), (BLUE, ORANGE, GREY), strict=False):
        heights = np.array([by_class[name] for name in class_names])
        axes.bar(positions, heights, bottom=below, label=split, color=color)
        below += heights
    _name_ticks(axes, "x", class_names)
    axes.set_ylabel("images")
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.12))
    _save(figure, path)


def draw_image_grid(
    images: Sequence[Sequence[NDArray[np.uint8]]], row_titles: Sequence[str], path: Path
) -> None:
    """Draws rows of images, each row with a title.

    Args:
        images: rows of uint8 ``(height, width, channels)``, 0..255.
    """
    columns = max(len(row) for row in images)
    figure = _blank(1.6 + 0.8 * columns, 0.25 + 0.8 * len(images), constrained=False)
    grid = figure.subplots(len(images), columns, squeeze=False)
    for row, (title, row_images) in enumerate(zip(row_titles, images, strict=True)):
        for column in range(columns):
            axes = grid[row, column]
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if column < len(row_images):
                _show(axes, row_images[column])
        grid[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    width = figure.get_figwidth()
    figure.subplots_adjust(1.5 / width, 0.01, 0.995, 0.99, wspace=0.06, hspace=0.06)
    _save(figure, path)


def draw_titled_images(images: Sequence[NDArray[np.uint8]], titles: Sequence[str], path: Path) -> None:
    """Draws images, six in a row, each below its own title.

    Args:
        images: uint8 ``(height, width, channels)``, 0..255.
    """
    columns = 6
    rows = max(-(-len(images) // columns), 1)
    figure = _blank(1.7 * columns, 2.0 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        _show(axes, image)
        axes.set_title(title, fontsize=8)
    _save(figure, path)


def draw_history(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draws loss and validation scores by epoch; a dot marks the epoch that was kept.

    Args:
        history: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy``, ``val_f1_macro``,
            and ``is_best``, a value an epoch each.
    """
    figure = _blank(10, 3.6)
    losses, scores = figure.subplots(1, 2)
    kept = max(index for index, best in enumerate(history["is_best"]) if best)
    for axes, columns, title in (
        (losses, ("train_loss", "val_loss"), "cross entropy"),
        (scores, ("val_accuracy", "val_f1_macro"), "validation"),
    ):
        for column, color in zip(columns, (GREY, BLUE), strict=True):
            axes.plot(history["epoch"], history[column], color=color, label=column)
        axes.plot(history["epoch"][kept], history[columns[1]][kept], "o", color=ORANGE, label="kept")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_confusion_matrix(
    counts: Sequence[Sequence[int]], class_names: Sequence[str], path: Path
) -> None:
    """Draws the confusion matrix, coloured by the share of the true class.

    Args:
        counts: rows are true, columns predicted classes.
    """
    num_classes = len(class_names)
    side = min(3 + 0.45 * num_classes, 14)
    figure, axes = _new_figure(side + 0.8, side)
    matrix = np.array(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if num_classes <= 20:
        for row, column in np.argwhere(matrix > 0):
            color = "white" if shares[row, column] > 0.6 else "black"
            text = f"{matrix[row, column]}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    _name_ticks(axes, "x", class_names)
    _name_ticks(axes, "y", class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(drawn, label="share of the true class", shrink=0.8)
    _save(figure, path)


def draw_curves(
    grid: NDArray[np.float64],
    curves: Mapping[str, NDArray[np.float64]],
    macro: NDArray[np.float64],
    labels: tuple[str, str],
    path: Path,
) -> None:
    """Draws one thin line a class and their mean in bold.

    Args:
        grid: where on the horizontal axis the values lie.
        labels: of the horizontal and the vertical axis.
    """
    figure, axes = _new_figure(5.5, 4.5)
    few = len(curves) <= 10
    colors = matplotlib.color_sequences["tab10"]
    for index, (name, values) in enumerate(curves.items()):
        color = colors[index] if few else GREY
        axes.plot(grid, values, color=color, linewidth=1, label=_legible(name) if few else None)
    axes.plot(grid, macro, color="black", linewidth=2, label="mean of the classes")
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _legible(label: str) -> str:
    """Keeps matplotlib from leaving a label with a leading underscore out of the legend."""
    return f" {label}" if label.startswith("_") else label


def _show(axes: Axes, image: NDArray[np.uint8]) -> None:
    grey = image.shape[2] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)


def _name_ticks(axes: Axes, axis: Literal["x", "y"], names: Sequence[str]) -> None:
    if len(names) > MAX_TICKS:
        return
    turned = axis == "x" and max(len(name) for name in names) > 3
    axes.set(**{f"{axis}ticks": range(len(names)), f"{axis}ticklabels": names})
    axes.tick_params(axis=axis, rotation=60 if turned else 0, labelsize=8)

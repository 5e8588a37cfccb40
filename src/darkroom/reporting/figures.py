"""What all figures share, and the figures of a training: the same bytes for the same numbers.

Text is drawn in DejaVu Sans, the font that matplotlib ships, because fonts of the machine would change
the bytes. Characters that it lacks, such as Chinese ones, are drawn as ``\\u4e2d``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

BLUE, ORANGE, GREY = "#2f6690", "#e07a1f", "#b8c0c8"
MAX_TICKS = 40
"""Number of classes up to which an axis shows their names."""
MAX_ROWS = 80
"""Number of layers up to which an axis names each."""
MAX_LETTERS = 24
"""Length of a name above which its middle is cut."""


def blank_figure(width: float, height: float, constrained: bool = True) -> Figure:
    """Return an empty figure of a size in inches, independent of the user's matplotlibrc.

    Text is drawn literally, not as mathematics: a class may be called ``$5``.
    """
    matplotlib.rcdefaults()
    matplotlib.rcParams["text.parse_math"] = False
    return Figure(figsize=(width, height), dpi=110, layout="constrained" if constrained else None)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches with one pair of axes."""
    figure = blank_figure(width, height)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def image_sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches with one pair of axes for many images and their captions.

    A pair of axes per image would take seconds. Coordinates are inches from the upper left corner.
    """
    figure = blank_figure(width, height, constrained=False)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG without matplotlib's version in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})


def show_image(axes: Axes, image: NDArray[np.uint8], extent: tuple[float, float, float, float]) -> None:
    """Draw an image, uint8 ``(height, width, channels)``, into a part of ``axes``.

    Args:
        extent: left, right, bottom and top of that part, in the coordinates of ``axes``.
    """
    grey = image.shape[2] == 1
    pixels, cmap = (image[..., 0], "gray") if grey else (image, None)
    axes.imshow(pixels, cmap=cmap, vmin=0, vmax=255, extent=extent)


def place_image(axes: Axes, image: NDArray[np.uint8], left: float, top: float, side: float) -> None:
    """Draw an image, uint8 ``(height, width, channels)``, into a square of an ``image_sheet``."""
    height, width = side * np.array(image.shape[:2]) / max(image.shape[:2])
    middle = left + side / 2
    show_image(axes, image, extent=(middle - width / 2, middle + width / 2, top + height, top))


def name_ticks(axes: Axes, axis: Literal["x", "y"], names: Sequence[str], most: int = MAX_TICKS) -> None:
    """Write the names of classes along an axis, unless there are more than ``most``."""
    if len(names) > most:
        return
    labels = [drawable_name(name) for name in names]
    turned = axis == "x" and max(len(label) for label in labels) > 3
    axes.set(**{f"{axis}ticks": range(len(names)), f"{axis}ticklabels": labels})
    axes.tick_params(axis=axis, labelsize=8)
    if turned:  # so that each name ends at its tick
        for label in axes.get_xticklabels():
            label.set(rotation=60, horizontalalignment="right", rotation_mode="anchor")


def drawable_name(name: str) -> str:
    """Return a name as it is drawn: with escapes for missing characters, and shortened in the middle."""
    drawn = with_escapes(name)
    if len(drawn) <= MAX_LETTERS:
        return drawn
    half = MAX_LETTERS // 2
    return f"{drawn[:half]}…{drawn[1 - half :]}"


def with_escapes(text: str) -> str:
    """Return text with escapes for the characters that the font lacks."""
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return "".join(
        letter
        if letter.isprintable() and font.get_char_index(ord(letter))
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def draw_history(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw losses and validation scores over the epochs.

    A dot marks the kept epoch and a ring the best one. A band covers one standard error below the best
    score; the kept epoch is the last one within the band.

    Args:
        history: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy``, ``val_f1_macro``,
            ``val_f1_standard_error``, ``is_best`` and ``is_kept``, one value per epoch each.
    """
    figure = blank_figure(10, 3.6)
    losses, scores = figure.subplots(1, 2)
    kept, best = (
        max(index for index, flag in enumerate(history[column]) if flag)
        for column in ("is_kept", "is_best")
    )
    highest = history["val_f1_macro"][best]
    lowest = highest - history["val_f1_standard_error"][best]
    scores.axhspan(lowest, highest, color=ORANGE, alpha=0.15, linewidth=0, label="one standard error")
    for axes, columns, title in (
        (losses, ("train_loss", "val_loss"), "loss"),
        (scores, ("val_accuracy", "val_f1_macro"), "validation"),
    ):
        for column, color in zip(columns, (GREY, BLUE), strict=True):
            axes.plot(history["epoch"], history[column], color=color, label=column)
        for epoch, label, fill, size in ((best, "best", "none", 9), (kept, "kept", "full", 5)):
            axes.plot(
                history["epoch"][epoch],
                history[columns[1]][epoch],
                "o",
                color=ORANGE,
                fillstyle=fill,
                markersize=size,
                label=f"{label}: epoch {history['epoch'][epoch]}",
            )
        axes.set_title(title, fontsize=10, y=1)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_gradients(
    layers: Sequence[str], epochs: Sequence[int], norms: NDArray[np.float64], path: Path
) -> None:
    """Draw the gradient norm of each layer and epoch as a colour, the first layer at the top.

    Args:
        norms: ``(layers, epochs)``; NaN, drawn as white, for a layer that was frozen, and 0 as the
            darkest colour.
    """
    figure, axes = new_figure(9, min(1.6 + 0.18 * len(layers), 16))
    positive = norms[norms > 0]
    lowest, highest = (positive.min(), positive.max()) if positive.size else (1.0, 1.0)
    scale = LogNorm(lowest, max(highest, 1.001 * lowest))
    edges = [epochs[0] - 0.5, *(epoch + 0.5 for epoch in epochs)]
    rows = np.arange(len(layers) + 1) - 0.5
    mesh = axes.pcolormesh(edges, rows, np.where(norms == 0, lowest, norms), norm=scale)
    axes.invert_yaxis()
    step = -(-len(layers) // MAX_ROWS)
    axes.set(yticks=range(0, len(layers), step), yticklabels=list(layers)[::step], xlabel="epoch")
    axes.tick_params(axis="y", labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("L2 norm of the gradient, mean over the steps", fontsize=10, y=1)
    bar = figure.colorbar(mesh, ax=axes)
    bar.ax.yaxis.set_major_formatter("{x:g}")  # the default needs mathematics
    bar.ax.yaxis.set_minor_formatter("")
    save_figure(figure, path)


def draw_range_test(
    lrs: Sequence[float], losses: Sequence[float], suggestion: float, path: Path
) -> None:
    """Draw the loss over the learning rate; a line marks the suggested rate."""
    figure, axes = new_figure(6, 3.6)
    axes.plot(lrs, losses, color=BLUE)
    axes.axvline(suggestion, color=ORANGE, label=f"suggested: {suggestion:g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")  # the default needs mathematics
    axes.set_ylim(0, 1.1 * max(losses[0], min(losses) * 2))
    axes.set_xlabel("learning rate")
    axes.set_title("smoothed loss of a rising learning rate", fontsize=10, y=1)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)

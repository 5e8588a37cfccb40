"""Draw the pictures of prepare's report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from darkroom.reporting.figures import (
    BLUE,
    GREY,
    ORANGE,
    blank_figure,
    drawable_name,
    image_sheet,
    name_ticks,
    new_figure,
    place_image,
    save_figure,
    show_image,
    with_escapes,
)

MAX_BARS = 60
"""Number of classes up to which each class gets a bar."""
MAX_PATH_LETTERS = 44
"""Length of a path above which its beginning is cut."""


def draw_class_histogram(
    counts: Mapping[str, Mapping[str, int]], path: Path, unit: str = "images"
) -> None:
    """Draw the number of images per class, stacked by split.

    Up to ``MAX_BARS`` classes get one named bar each, in their order. More classes are drawn as one
    shape, sorted by size, and only the largest and the smallest class are named.

    Args:
        counts: number of images by split and class.
        unit: what is counted.
    """
    class_names = list(next(iter(counts.values())))
    if len(class_names) > MAX_BARS:
        _draw_class_sizes(counts, class_names, path, unit)
        return
    figure, axes = new_figure(9, 1.2 + 0.22 * len(class_names))
    starts = np.zeros(len(class_names))
    positions = np.arange(len(class_names))
    for (split, by_class), color in zip(counts.items(), (BLUE, ORANGE, GREY), strict=False):
        lengths = np.array([by_class[name] for name in class_names])
        axes.barh(positions, lengths, left=starts, label=split, color=color)
        starts = starts + lengths
    name_ticks(axes, "y", class_names, MAX_BARS)
    axes.set_ylim(len(class_names) - 0.4, -0.6)
    _finish_class_histogram(figure, axes, "x", path, unit)


def _draw_class_sizes(
    counts: Mapping[str, Mapping[str, int]], class_names: Sequence[str], path: Path, unit: str
) -> None:
    by_split = np.array([[of_split[name] for name in class_names] for of_split in counts.values()])
    order = np.argsort(-by_split.sum(axis=0), kind="stable")
    figure, axes = new_figure(9, 4)
    below = np.zeros(len(class_names))
    edges = np.arange(len(class_names) + 1)
    for split, of_split, color in zip(counts, by_split[:, order], (BLUE, ORANGE, GREY), strict=False):
        # one shape, because matplotlib takes seconds for a thousand bars
        axes.stairs(below + of_split, edges, baseline=below, fill=True, label=split, color=color)
        below = below + of_split
    axes.set_xlim(0, len(class_names))
    largest, smallest = (drawable_name(class_names[index]) for index in order[[0, -1]])
    axes.set_xlabel(
        f"{len(class_names):,} classes, from the largest ({largest}) to the smallest ({smallest})"
    )
    _finish_class_histogram(figure, axes, "y", path, unit)


def _finish_class_histogram(
    figure: Figure, axes: Axes, axis: Literal["x", "y"], path: Path, unit: str
) -> None:
    axes.set(**{f"{axis}label": unit})
    (axes.xaxis if axis == "x" else axes.yaxis).set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    save_figure(figure, path)


def draw_image_grid(
    images: Sequence[Sequence[NDArray[np.uint8]]], row_titles: Sequence[str], path: Path
) -> None:
    """Draw rows of images, each row with a title.

    Args:
        images: rows of uint8 ``(height, width, channels)``, 0..255.
    """
    columns = max(len(row) for row in images)
    width, height = 1.95 + 0.8 * columns, 0.15 + 0.8 * len(images)
    figure = blank_figure(width, height, constrained=False)
    # one pair of axes for all images, because one pair per image takes seconds
    axes = figure.add_axes(
        (1.9 / width, 0.08 / height, 0.8 * columns / width, 0.8 * len(images) / height)
    )
    for row, row_images in enumerate(images):
        for column, image in enumerate(row_images):
            sides = np.array(image.shape[:2])
            down, right = 0.47 * sides / sides.max()
            show_image(axes, image, extent=(column - right, column + right, row + down, row - down))
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(len(images) - 0.5, -0.5), xticks=[])
    axes.set_yticks(range(len(images)), [drawable_name(title) for title in row_titles], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save_figure(figure, path)


def draw_pairs(
    pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    captions: Sequence[tuple[str, str, str]],
    path: Path,
) -> None:
    """Draw pairs of images side by side, three pairs per row, each below its caption.

    Args:
        pairs: two images each, uint8 ``(height, width, channels)``, 0..255.
        captions: the path of the first image, the path of the second, and a line about both.
    """
    columns = 3
    figure, axes = image_sheet(3.4 * columns, 2.2 * max(-(-len(pairs) // columns), 1))
    for index, (images, (first, second, about)) in enumerate(zip(pairs, captions, strict=True)):
        row, column = divmod(index, columns)
        left, top = 3.4 * column + 0.05, 2.2 * row + 0.05
        lines = (_drawable_path(first), _drawable_path(second), drawable_name(about))
        axes.text(left, top, "\n".join(lines), fontsize=7.5, va="top")
        for place, image in enumerate(images):
            place_image(axes, image, left + 1.7 * place, top + 0.45, side=1.6)
    save_figure(figure, path)


def _drawable_path(path: str) -> str:
    """Return a path as it is drawn: with escapes for missing characters, and shortened at its start."""
    drawn = with_escapes(path)
    return drawn if len(drawn) <= MAX_PATH_LETTERS else f"…{drawn[1 - MAX_PATH_LETTERS :]}"


def draw_sizes(
    widths: NDArray[np.int32], heights: NDArray[np.int32], prepared: tuple[int, int], path: Path
) -> None:
    """Draw the distribution of image sizes; similar sizes share one dot, whose area shows their number.

    Args:
        widths: widths of the files in pixels.
        heights: heights of the files in pixels.
        prepared: height and width of the prepared images.
    """
    cells, counts = np.unique(
        np.rint(8 * np.stack([_doublings(widths), _doublings(heights)])), axis=1, return_counts=True
    )
    figure, axes = new_figure(5.5, 5.2)
    areas = 8 + 500 * np.sqrt(counts / counts.sum())
    axes.scatter(cells[0] / 8, cells[1] / 8, areas, color=BLUE, alpha=0.5, linewidth=0)
    axes.plot([], [], "o", color=BLUE, alpha=0.5, label="images: larger, more")
    height, width = _doublings(np.array(prepared))
    axes.plot(
        width, height, "s", color=ORANGE, markersize=11, fillstyle="none", mew=2, label="prepared size"
    )
    lowest = np.floor(min(cells.min() / 8, height, width) - 0.25)
    highest = np.ceil(max(cells.max() / 8, height, width) + 0.25)
    axes.axline((lowest, lowest), slope=1, color=GREY, linewidth=1, zorder=0)
    ticks = np.arange(lowest, highest + 1)
    names = [f"{2**tick:g}" for tick in ticks.tolist()]
    axes.set(xlim=(lowest, highest), ylim=(lowest, highest), xlabel="width", ylabel="height", aspect=1)
    axes.set(xticks=ticks, xticklabels=names, yticks=ticks, yticklabels=names)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    save_figure(figure, path)


def _doublings(sides: NDArray) -> NDArray[np.float64]:
    """Return a piecewise linear logarithm to base 2: 1, 2, 3, 4 give 0, 1, 1.5, 2.

    A true logarithm's last digit depends on the processor.
    """
    mantissas, exponents = np.frexp(sides)
    return exponents + 2 * mantissas - 2


def draw_note(text: str, path: Path) -> None:
    """Draw a line of text, for when there is nothing else to show."""
    figure = blank_figure(6, 1)
    figure.text(0.5, 0.5, text, ha="center", va="center", color="grey")
    save_figure(figure, path)

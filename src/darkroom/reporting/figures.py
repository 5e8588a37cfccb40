"""Pictures, drawn with matplotlib: the same bytes for the same numbers.

Names are drawn with the one font that matplotlib brings along, DejaVu Sans, because fonts of the machine
would change the bytes. It lacks Chinese, for one: such characters are drawn as ``\\u4e2d``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

BLUE, ORANGE, GREY = "#2f6690", "#e07a1f", "#b8c0c8"
MAX_TICKS = 40
"""More classes than this are not named along an axis."""
MAX_BARS = 60
"""More classes than this get no bar each."""
MAX_LETTERS = 24
"""Of a longer name the middle is left out."""
MAX_PATH_LETTERS = 44
"""Of a longer path the beginning is left out."""


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

    Up to ``MAX_BARS`` classes get a bar each with their name beside it, in their order. More are drawn
    as one shape, from the largest to the smallest, and only these two are named.

    Args:
        counts: split -> class -> images.
    """
    class_names = list(next(iter(counts.values())))
    if len(class_names) > MAX_BARS:
        _draw_class_sizes(counts, class_names, path)
        return
    figure, axes = _new_figure(9, 1.2 + 0.22 * len(class_names))
    starts = np.zeros(len(class_names))
    positions = np.arange(len(class_names))
    for (split, by_class), color in zip(counts.items(), (BLUE, ORANGE, GREY), strict=False):
        lengths = np.array([by_class[name] for name in class_names])
        axes.barh(positions, lengths, left=starts, label=split, color=color)
        starts = starts + lengths
    _name_ticks(axes, "y", class_names, MAX_BARS)
    axes.set_ylim(len(class_names) - 0.4, -0.6)
    _finish_class_histogram(figure, axes, "x", path)


def _draw_class_sizes(
    counts: Mapping[str, Mapping[str, int]], class_names: Sequence[str], path: Path
) -> None:
    by_split = np.array([[of_split[name] for name in class_names] for of_split in counts.values()])
    order = np.argsort(-by_split.sum(axis=0), kind="stable")
    figure, axes = _new_figure(9, 4)
    below = np.zeros(len(class_names))
    edges = np.arange(len(class_names) + 1)
    for split, of_split, color in zip(counts, by_split[:, order], (BLUE, ORANGE, GREY), strict=False):
        # as one shape; matplotlib takes seconds for a thousand bars
        axes.stairs(below + of_split, edges, baseline=below, fill=True, label=split, color=color)
        below = below + of_split
    axes.set_xlim(0, len(class_names))
    largest, smallest = (_drawable(class_names[index]) for index in order[[0, -1]])
    axes.set_xlabel(
        f"{len(class_names):,} classes, from the largest ({largest}) to the smallest ({smallest})"
    )
    _finish_class_histogram(figure, axes, "y", path)


def _finish_class_histogram(figure: Figure, axes: Axes, axis: Literal["x", "y"], path: Path) -> None:
    axes.set(**{f"{axis}label": "images"})
    (axes.xaxis if axis == "x" else axes.yaxis).set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    _save(figure, path)


def draw_image_grid(
    images: Sequence[Sequence[NDArray[np.uint8]]], row_titles: Sequence[str], path: Path
) -> None:
    """Draws rows of images, each row with a title.

    Args:
        images: rows of uint8 ``(height, width, channels)``, 0..255.
    """
    columns = max(len(row) for row in images)
    width, height = 1.95 + 0.8 * columns, 0.15 + 0.8 * len(images)
    figure = _blank(width, height, constrained=False)
    # one pair of axes for all: a pair for each image takes seconds
    axes = figure.add_axes(
        (1.9 / width, 0.08 / height, 0.8 * columns / width, 0.8 * len(images) / height)
    )
    for row, row_images in enumerate(images):
        for column, image in enumerate(row_images):
            sides = np.array(image.shape[:2])
            down, right = 0.47 * sides / sides.max()
            _show(axes, image, extent=(column - right, column + right, row + down, row - down))
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(len(images) - 0.5, -0.5), xticks=[])
    axes.set_yticks(range(len(images)), [_drawable(title) for title in row_titles], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
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
        axes.set_title("\n".join(_drawable(line) for line in title.splitlines()), fontsize=8)
    _save(figure, path)


def draw_pairs(
    pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    captions: Sequence[tuple[str, str, str]],
    path: Path,
) -> None:
    """Draws pairs of images side by side, three pairs in a row, each below its caption.

    Args:
        pairs: two of uint8 ``(height, width, channels)`` each, 0..255.
        captions: the path of the first, that of the second, and a line about both.
    """
    columns = 3
    rows = max(-(-len(pairs) // columns), 1)
    figure = _blank(3.4 * columns, 2.3 * rows)
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (images, (first, second, about)) in enumerate(zip(pairs, captions, strict=True)):
        row, column = divmod(index, columns)
        sides = grid[row, 2 * column : 2 * column + 2]
        for axes, image in zip(sides, images, strict=True):
            _show(axes, image)
        lines = (_drawable_path(first), _drawable_path(second), _drawable(about))
        sides[0].set_title("\n".join(lines), fontsize=7.5, loc="left")
    _save(figure, path)


def draw_sizes(
    widths: NDArray[np.int32], heights: NDArray[np.int32], prepared: tuple[int, int], path: Path
) -> None:
    """Draws how many images are how wide and high, a dot for sizes that are about the same.

    Args:
        widths: of the files, in pixels.
        heights: of the files, in pixels.
        prepared: height and width that all are brought to.
    """
    cells, counts = np.unique(
        np.rint(8 * np.stack([_doublings(widths), _doublings(heights)])), axis=1, return_counts=True
    )
    figure, axes = _new_figure(5.5, 5.2)
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
    _save(figure, path)


def _doublings(sides: NDArray) -> NDArray[np.float64]:
    """Returns how often 1 doubles to reach each side, linear in between: 1, 2, 3, 4 are 0, 1, 1.5, 2.

    A logarithm would do as well, but its last digit depends on the processor.
    """
    mantissas, exponents = np.frexp(sides)
    return exponents + 2 * mantissas - 2


def draw_note(text: str, path: Path) -> None:
    """Draws a line of text, where there is nothing else to draw."""
    figure = _blank(6, 1)
    figure.text(0.5, 0.5, text, ha="center", va="center", color="grey")
    _save(figure, path)


def draw_history(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draws loss and validation scores by epoch.

    A dot marks the epoch that was kept, a ring the best one, and a band one standard error below it:
    the kept epoch is the latest in the band.

    Args:
        history: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy``, ``val_f1_macro``,
            ``val_f1_standard_error``, ``is_best`` and ``is_kept``, one value per epoch each.
    """
    figure = _blank(10, 3.6)
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
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_range_test(
    lrs: Sequence[float], losses: Sequence[float], suggestion: float, path: Path
) -> None:
    """Draws the loss over the learning rate; a line marks the rate that is suggested."""
    figure, axes = _new_figure(6, 3.6)
    axes.plot(lrs, losses, color=BLUE)
    axes.axvline(suggestion, color=ORANGE, label=f"suggested: {suggestion:g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")  # the usual one writes mathematics, which is not parsed here
    axes.set_ylim(0, 1.1 * max(losses[0], min(losses) * 2))
    axes.set_xlabel("learning rate")
    axes.set_title("smoothed loss of a rising learning rate", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_confusion_matrix(
    counts: NDArray[np.int64], row_names: Sequence[str], column_names: Sequence[str], path: Path
) -> None:
    """Draws a confusion matrix, coloured by the share of the true class.

    Args:
        counts: ``(rows, columns)``: rows are true, columns predicted classes; a row has all images of
            its class.
    """
    side = min(3 + 0.45 * len(row_names), 18)
    figure, axes = _new_figure(side + 0.8, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts > 0):
        color = "white" if shares[row, column] > 0.6 else "black"
        text = f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    _name_ticks(axes, "x", column_names)
    _name_ticks(axes, "y", row_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(drawn, label="share of the true class", shrink=0.8)
    _save(figure, path)


def draw_label_counts(
    right: Sequence[int],
    wrong: Sequence[int],
    missed: Sequence[int],
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Draws of each label how many images have it rightly, wrongly, and lack it: a bar a label.

    What is missed continues what is right, so that both together are the images with the label; what is
    wrong goes the other way.
    """
    positions = np.arange(len(class_names))
    figure, axes = _new_figure(6.5, min(1.6 + 0.32 * len(class_names), 14))
    bars = (
        ("right", right, np.zeros(len(right)), BLUE),
        ("missed", missed, np.array(right), GREY),
        ("wrong", -np.array(wrong), np.zeros(len(wrong)), ORANGE),
    )
    for label, counts, starts, color in bars:
        if len(class_names) <= MAX_TICKS:
            axes.barh(positions, counts, left=starts, color=color, label=label)
        else:  # as one shape; matplotlib takes seconds for a thousand bars
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
    _name_ticks(axes, "y", class_names)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_ylim(len(class_names) - 0.4, -0.6)
    axes.set_xlabel("images")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
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
        axes.plot(grid, values, color=color, linewidth=1, label=_in_legend(name) if few else None)
    axes.plot(grid, macro, color="black", linewidth=2, label="mean of the classes")
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    if few:
        axes.legend(frameon=False, fontsize=8)
    else:  # matplotlib would look for the best place among all lines
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    _save(figure, path)


def _in_legend(name: str) -> str:
    """Keeps matplotlib from leaving a label with a leading underscore out of the legend."""
    return f" {_drawable(name)}" if name.startswith("_") else _drawable(name)


def _drawable(name: str) -> str:
    """Writes what the font lacks as escapes, and leaves the middle of a long name out."""
    drawn = _with_escapes(name)
    if len(drawn) <= MAX_LETTERS:
        return drawn
    half = MAX_LETTERS // 2
    return f"{drawn[:half]}…{drawn[1 - half :]}"


def _drawable_path(path: str) -> str:
    """Writes what the font lacks as escapes, and leaves the beginning of a long path out."""
    drawn = _with_escapes(path)
    return drawn if len(drawn) <= MAX_PATH_LETTERS else f"…{drawn[1 - MAX_PATH_LETTERS :]}"


def _with_escapes(text: str) -> str:
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return "".join(
        letter
        if letter.isprintable() and font.get_char_index(ord(letter))
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _show(
    axes: Axes, image: NDArray[np.uint8], extent: tuple[float, float, float, float] | None = None
) -> None:
    grey = image.shape[2] == 1
    pixels, cmap = (image[..., 0], "gray") if grey else (image, None)
    axes.imshow(pixels, cmap=cmap, vmin=0, vmax=255, extent=extent)


def _name_ticks(
    axes: Axes, axis: Literal["x", "y"], names: Sequence[str], most: int = MAX_TICKS
) -> None:
    if len(names) > most:
        return
    labels = [_drawable(name) for name in names]
    turned = axis == "x" and max(len(label) for label in labels) > 3
    axes.set(**{f"{axis}ticks": range(len(names)), f"{axis}ticklabels": labels})
    axes.tick_params(axis=axis, labelsize=8)
    if turned:  # so that each name ends at its tick
        for label in axes.get_xticklabels():
            label.set(rotation=60, horizontalalignment="right", rotation_mode="anchor")

"""The report of ``prepare``: the data set on one page, to look at before training."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.collection.labels import LabelSets
from darkroom.dataset.info import DatasetInfo
from darkroom.errors import counted
from darkroom.preparation.curation import Duplicates
from darkroom.preparation.figures import (
    draw_image_grid,
    draw_note,
    draw_pairs,
    draw_sizes,
)
from darkroom.preparation.prepared_page import write_prepared_page
from darkroom.preparation.remarks import remarks
from darkroom.preparation.survey import OUTCOMES, Survey, load_survey
from darkroom.preparation.targets.interface import prepared_target
from darkroom.reporting.page import embed_png
from darkroom.reporting.palette import hex_colour
from darkroom.reporting.samples import equal_shares, lowest, most_doubtful, spread
from darkroom.reporting.shown import Shown, thumbnail

MAX_CLASSES = 50
"""Maximum number of classes with a row of samples."""
SAMPLES_OF_CLASS = 12
MAX_TILES = 1_000
"""Maximum number of classes with one image, if there are too many for rows."""
NUM_EXTREMES = 12
MAX_PAIRS = 24
"""Maximum number of pairs of each kind."""
MAX_FILES = 1_000
"""Maximum number of unused files in the list."""
NUM_SIZES = 10

READ_AS = {
    **dict.fromkeys(("LA", "La", "PA", "RGBA", "RGBa"), "composited on white"),
    **dict.fromkeys(("I", "I;16", "I;16B", "I;16L"), "16 bits, reduced to 8"),
    **dict.fromkeys(("CMYK", "HSV", "LAB", "YCbCr"), "colours converted, profile not applied"),
    "F": "fractions from 0 to 1, converted to 8 bits",
    "P": "palette converted to colours",
}
"""How pixels are converted, by Pillow's mode."""


@dataclass(frozen=True)
class Extremes:
    """The most extreme images by one measure, the most extreme first."""

    name: str
    about: str
    images: list[tuple[Shown, float]]


@dataclass(frozen=True)
class Pairs:
    """Pairs of duplicates of one kind."""

    name: str
    about: str
    total: int
    shown: list[tuple[Shown, Shown, float]]
    """``(first, second, difference)`` of the most doubtful pairs."""


@dataclass(frozen=True)
class NotUsed:
    """Files with the same outcome, other than ``used``."""

    outcome: str
    total: int
    listed: list[dict[str, Any]]
    """Path, label and reason of the first files."""


def write_preparation_report(
    manifest: Path,
    info: DatasetInfo,
    duplicates: Duplicates,
    pixels: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    folder: Path,
    sets: LabelSets,
    more_remarks: Iterable[str] = (),
    pictures: Callable[[NDArray[np.int64]], NDArray[np.uint8]] | None = None,
) -> list[str]:
    """Write report.html and its pictures as PNG into ``folder``, and return its remarks.

    Args:
        manifest: a file of ``write_manifest``. Candidates are its rows with a ``pixel_sha256``.
        duplicates: pairs of candidates.
        pixels: returns prepared images of candidates, uint8 ``(n, height, width, channels)``.
        sets: the sets of labels.
        more_remarks: further remarks.
        pictures: like ``pixels``, for the samples of classes, such as images with masks over them; None:
            ``pixels``.
    """
    survey = load_survey(manifest, sets)
    show = partial(_show, survey, pixels)
    num_classes = len(info.class_names)
    sample = partial(_show, survey, pictures or pixels)
    samples = _of_classes(survey, info, sample, MAX_CLASSES, SAMPLES_OF_CLASS)
    tiles = _of_classes(survey, info, sample, MAX_TILES, 1) if num_classes > MAX_CLASSES else {}
    extremes = list(_extremes(survey, show))
    pairs = list(_pairs(survey, duplicates, show))
    remarked = [*remarks(survey, info, duplicates), *more_remarks]

    draw_sizes(survey.widths, survey.heights, info.input_size, folder / "sizes.png")
    _draw_grid(samples, folder / "samples.png")
    _draw_grid(
        {group.name: [image for image, _ in group.images] for group in extremes}, folder / "extremes.png"
    )
    _draw_pairs(pairs, folder / "duplicates.png")

    height, width = info.input_size
    num_files, num_used = len(survey.outcomes), len(survey.used)
    write_prepared_page(
        "report.html.j2",
        folder,
        info,
        title=f"{num_used:,} images of {len(info.class_names):,} classes",
        subtitle=f"From {counted(num_files, 'file')}, resized to {height} x {width} x {info.channels}. "
        "Look at the data before training.",
        totals={
            "files found": num_files,
            "files not used": num_files - num_used,
            "pairs of duplicates": len(duplicates),
        },
        remarks=remarked,
        pixels=_shares_of_pixels(info),
        labels_per_image=prepared_target(info.target).labels_per_image(info),
        sizes_picture=embed_png(folder / "sizes.png"),
        survey=survey,
        sizes=survey.commonest_sizes(NUM_SIZES),
        num_smaller=int(((survey.widths < width) & (survey.heights < height)).sum()),
        read_as=READ_AS,
        samples=samples,
        tiles=tiles,
        extremes=extremes,
        fates=_pairs_by_fate(survey, duplicates),
        pairs=pairs,
        not_used=list(_not_used(survey)),
    )
    return remarked


def _shares_of_pixels(info: DatasetInfo) -> list[tuple[str, str, list[int], float]]:
    """Return name, colour, pixels by split and share of all pixels of each class, if there are masks."""
    if not info.pixels:
        return []
    rows = [[info.pixels[split][name] for split in SPLITS] for name in info.class_names]
    total = sum(map(sum, rows))
    return [
        (name, hex_colour(code), row, sum(row) / total)
        for code, (name, row) in enumerate(zip(info.class_names, rows, strict=True))
    ]


def _of_classes(
    survey: Survey,
    info: DatasetInfo,
    show: Callable[[NDArray[np.int64]], list[Shown]],
    most_classes: int,
    most_images: int,
) -> dict[str, list[Shown]]:
    """Return images of each class, or of ``most_classes`` evenly spaced classes."""
    labels = spread(np.arange(len(info.class_names)), most_classes).tolist()
    chosen = [spread(survey.used_of_class(label), most_images) for label in labels]
    images = iter(show(np.concatenate(chosen)))
    return {
        info.class_names[label]: list(islice(images, len(of_class)))
        for label, of_class in zip(labels, chosen, strict=True)
    }


def _show(
    survey: Survey,
    pixels: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    candidates: NDArray[np.int64],
) -> list[Shown]:
    about = survey.describe(survey.rows[candidates])
    # one by one, because hundreds of large images would fill the memory
    thumbnails = [thumbnail(pixels(candidates[i : i + 1])[0]) for i in range(len(candidates))]
    return [
        Shown(thumbnail, row["path"], row["label"], row["split"], row["outcome"])
        for thumbnail, row in zip(thumbnails, about, strict=True)
    ]


def _extremes(survey: Survey, show: Callable[[NDArray[np.int64]], list[Shown]]) -> Iterator[Extremes]:
    for name, about, values, sign in (
        ("darkest", "mean grey of the prepared pixels, 0 to 255", survey.brightness, 1),
        ("brightest", "mean grey of the prepared pixels, 0 to 255", survey.brightness, -1),
        (
            "blurriest",
            "variance of the Laplacian of the prepared pixels; 0: a single colour",
            survey.sharpness,
            1,
        ),
    ):
        chosen = survey.used[lowest(sign * values[survey.used], NUM_EXTREMES)]
        yield Extremes(name, about, list(zip(show(chosen), values[chosen].tolist(), strict=True)))


def _pairs(
    survey: Survey, duplicates: Duplicates, show: Callable[[NDArray[np.int64]], list[Shown]]
) -> Iterator[Pairs]:
    same_label = survey.labels[duplicates.first] == survey.labels[duplicates.second]
    same_pixels = duplicates.difference == 0
    for name, about, of_kind in (
        ("Same pixels, different labels", "At least one label is wrong.", same_pixels & ~same_label),
        (
            "Nearly the same pixels",
            "Different labels first, then the largest differences, which are the most doubtful.",
            ~same_pixels,
        ),
        ("Same pixels, same label", "", same_pixels & same_label),
    ):
        indices = np.flatnonzero(of_kind)
        differences = duplicates.difference[indices]
        chosen = indices[most_doubtful(differences, same_label[indices], MAX_PAIRS)]
        sides = (show(duplicates.first[chosen]), show(duplicates.second[chosen]))
        yield Pairs(
            name,
            about,
            len(indices),
            list(zip(*sides, duplicates.difference[chosen].tolist(), strict=True)),
        )


def _pairs_by_fate(survey: Survey, duplicates: Duplicates) -> dict[str, int]:
    """Return the number of pairs by what was done with them."""
    first, second = survey.splits[duplicates.first], survey.splits[duplicates.second]
    both_used = (first >= 0) & (second >= 0)
    return {
        "kept in one split": int((both_used & (first == second)).sum()),
        "with one or both images excluded": int((~both_used).sum()),
        "in different splits": int((both_used & (first != second)).sum()),
    }


def _not_used(survey: Survey) -> Iterator[NotUsed]:
    totals = [(outcome, total) for outcome, total in survey.num_files.items() if outcome != "used"]
    shares = equal_shares([total for _, total in totals], MAX_FILES)
    for (outcome, total), share in zip(totals, shares, strict=True):
        rows = np.flatnonzero(survey.outcomes == OUTCOMES.index(outcome))[:share]
        yield NotUsed(outcome, total, survey.describe(rows))


def _draw_grid(rows: Mapping[str, Sequence[Shown]], path: Path) -> None:
    draw_image_grid([[image.pixels for image in row] for row in rows.values()], list(rows), path)


def _draw_pairs(pairs: Sequence[Pairs], path: Path) -> None:
    """Draw the first pairs of all kinds, with the two images side by side."""
    shown = [pair for of_kind in pairs for pair in of_kind.shown][:MAX_PAIRS]
    if not shown:
        draw_note("No two images have the same or nearly the same pixels.", path)
        return
    draw_pairs(
        [(first.pixels, second.pixels) for first, second, _ in shown],
        [
            (first.path, second.path, f"difference {difference:.4f}" if difference else "same pixels")
            for first, second, difference in shown
        ],
        path,
    )

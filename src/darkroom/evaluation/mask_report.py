"""Write the plots and the report of a model that predicts masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.errors import counted
from darkroom.evaluation.confusions import frequent_confusions, shown_matrix
from darkroom.evaluation.figures import draw_confusion_matrix, draw_titled_images
from darkroom.evaluation.overlays import WorstImage
from darkroom.metrics.pixels import PixelCounts
from darkroom.models.spec import ModelSpec
from darkroom.reporting.figures import draw_history
from darkroom.reporting.page import embed_png, write_page
from darkroom.reporting.palette import hex_colour
from darkroom.reporting.scores import definition, macro_scores, overall_scores, score_cards
from darkroom.reporting.tables import write_csv
from darkroom.targets import WORDS

PARTS = 100
"""Rows per class in confusion.csv: DVC's plots count rows, and the pixels would be millions."""


def write_mask_plots(
    metrics: Mapping[str, Any],
    counts: PixelCounts,
    worst: Sequence[WorstImage],
    spec: ModelSpec,
    folder: Path,
) -> None:
    """Write scores per class, confusions of pixels, the worst images and the training's history."""
    rows, names = metrics["per_class"], list(spec.class_names)
    columns = list(next(iter(rows.values())))
    write_csv(
        ("class", *columns),
        ((name, *(row[column] for column in columns)) for name, row in rows.items()),
        folder / "classes.csv",
    )
    confusion = counts.confusion.numpy()
    write_csv(
        ("actual \\ predicted", *names),
        ((name, *row) for name, row in zip(names, confusion.tolist(), strict=True)),
        folder / "confusion_matrix.csv",
    )
    matrix = shown_matrix(confusion, names)
    write_csv(
        ("actual", "predicted"),
        (
            (true, predicted)
            for true, shares in zip(matrix.row_names, matrix.shares.tolist(), strict=True)
            for predicted, share in zip(matrix.column_names, shares, strict=True)
            for _ in range(round(PARTS * share))
        ),
        folder / "confusion.csv",
    )
    draw_confusion_matrix(
        matrix.counts, matrix.row_names, matrix.column_names, folder / "confusion.png", in_percent=True
    )
    draw_titled_images(
        [image.strip for image in worst], [image.title for image in worst], folder / "hardest.png"
    )
    if "history" in spec.training:
        draw_history(spec.training["history"], folder / "training.png")


def write_mask_report(
    metrics: Mapping[str, Any],
    counts: PixelCounts,
    worst: Sequence[WorstImage],
    spec: ModelSpec,
    remarks: Sequence[str],
    plots: Path,
    path: Path,
) -> None:
    """Write the report: one HTML file with its pictures inside, which needs no network.

    Args:
        remarks: as ``all_remarks`` returns.
        plots: the folder with the pictures that ``write_mask_plots`` wrote.
    """
    confusion, names = counts.confusion.numpy(), list(spec.class_names)
    height, width = spec.input_size
    write_page(
        Path(__file__).with_name("mask_report.html.j2"),
        path,
        title=f"{spec.name} on {counted(metrics['num_images'], 'test image')}",
        subtitle=f"{counted(len(names), 'class')}, one per pixel; images of {height} x {width} pixels, "
        f"{'grey' if spec.channels == 1 else 'RGB'}. The test images were not used in training.",
        headline=[
            *score_cards(metrics, {**overall_scores(metrics), **macro_scores(metrics)}),
            ("test images", f"{metrics['num_images']:,}"),
            ("pixels with a class", f"{metrics['num_pixels']:,}"),
        ],
        per_class=sorted(metrics["per_class"].items(), key=_worst_first),
        colours={name: hex_colour(code) for code, name in enumerate(names)},
        boundary=metrics["boundary"],
        matrix=shown_matrix(confusion, names),
        confusions=frequent_confusions(confusion, names),
        worst=worst,
        definition=definition(metrics),
        words=WORDS[spec.target],
        remarks=remarks,
        training=embed_png(plots / "training.png") if "history" in spec.training else None,
    )


def _worst_first(row: tuple[str, Mapping[str, Any]]) -> tuple[bool, float]:
    iou = row[1]["iou"]
    return iou is None, iou or 0.0

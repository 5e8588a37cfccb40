"""Write the plots of an evaluation: tables for DVC's plots, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from darkroom.evaluation.calibration import write_calibration
from darkroom.evaluation.confusions import shown_matrix
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.figures import draw_confusion_matrix, draw_curves, draw_titled_images
from darkroom.evaluation.hardest import HardImage
from darkroom.evaluation.slices import write_slices
from darkroom.evaluation.tables import write_classes, write_confusions, write_curves
from darkroom.metrics.curves import precision_recall_curves, roc_curves
from darkroom.reporting.figures import draw_history


def write_plots(
    evaluation: Evaluation,
    hardest: Sequence[HardImage],
    history: Mapping[str, Sequence[float]] | None,
    folder: Path,
) -> None:
    """Write scores, confusions, curves, calibration, the hardest images and the training's history.

    Args:
        history: as ``draw_history`` takes it; None for a model file of an earlier version.
    """
    write_classes(evaluation, folder / "classes.csv")
    write_confusions(evaluation, folder)
    shown = shown_matrix(evaluation.confusion, evaluation.confused_names)
    draw_confusion_matrix(shown.counts, shown.row_names, shown.column_names, folder / "confusion.png")
    evaluation.write_own_plots(folder)
    for name, curves_of, labels in (
        ("precision_recall", precision_recall_curves, ("recall", "precision")),
        ("roc", roc_curves, ("false_positive_rate", "true_positive_rate")),
    ):
        targets = evaluation.indicators(evaluation.targets)
        curves = curves_of(targets, evaluation.probabilities, evaluation.class_names)
        write_curves(curves, labels, folder / f"{name}.csv")
        across, upward = (label.replace("_", " ") for label in labels)
        draw_curves(curves.grid, curves.values, curves.macro, (across, upward), folder / f"{name}.png")
    write_calibration(evaluation, folder)
    if "slices" in evaluation.metrics:
        write_slices(evaluation.metrics["slices"], folder / "slices.csv")
    draw_titled_images(
        [image.pixels for image in hardest], [image.title for image in hardest], folder / "hardest.png"
    )
    if history is not None:
        draw_history(history, folder / "training.png")

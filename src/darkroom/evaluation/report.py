"""Write the evaluation report: one HTML file with its pictures inside, which needs no network."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.errors import counted
from darkroom.evaluation.calibration import calibration_section
from darkroom.evaluation.confusions import frequent_confusions, most_mistaken, shown_matrix
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.explorer import Explorer
from darkroom.evaluation.hardest import HardImage
from darkroom.evaluation.multi_label import MultiLabelEvaluation
from darkroom.evaluation.slices import sorted_slices
from darkroom.models.spec import ModelSpec
from darkroom.reporting.advice import OVERFITTING_ADVICE
from darkroom.reporting.page import embed_png, write_page
from darkroom.reporting.scores import (
    baseline_scores,
    definition,
    intervals,
    macro_scores,
    overall_scores,
)
from darkroom.reporting.templates import number

Figures = Sequence[tuple[str, Path]]
"""(caption, PNG file)"""


def write_report(
    evaluation: Evaluation,
    hardest: Sequence[HardImage],
    explorer: Explorer,
    spec: ModelSpec,
    remarks: Sequence[str],
    plots: Path,
    path: Path,
) -> None:
    """Write the report.

    Args:
        explorer: what the script of the page shows.
        remarks: as ``all_remarks`` returns.
        plots: the folder with the pictures that ``write_plots`` wrote.
    """
    metrics = evaluation.metrics
    height, width = spec.input_size
    cards = {
        **macro_scores(metrics),
        **overall_scores(metrics),
        **{f"macro F1 of {title}": value for title, value in baseline_scores(metrics).items()},
    }
    ranges = {name: f", 95 %: {interval}" for name, interval in intervals(metrics).items()}
    write_page(
        Path(__file__).with_name("report.html.j2"),
        path,
        title=f"{spec.name} on {counted(metrics['num_images'], 'test image')}",
        subtitle=f"{evaluation.target_description}; images of {height} x {width} pixels, "
        f"{'grey' if spec.channels == 1 else 'RGB'}. The test images were not used in training.",
        headline=[
            *((f"{name}{ranges.get(name, '')}", number(value)) for name, value in cards.items()),
            ("test images", f"{metrics['num_images']:,}"),
        ],
        per_class=_worst_first(metrics["per_class"]),
        matrix=shown_matrix(evaluation.confusion, evaluation.confused_names),
        confusions=frequent_confusions(evaluation.confusion, evaluation.confused_names),
        confusion_caption=evaluation.confusion_caption,
        label_counts=_label_counts(evaluation),
        hardest=hardest,
        explorer=explorer,
        hardest_caption=evaluation.hardest_caption,
        definition=definition(metrics),
        calibration=calibration_section(metrics, plots),
        slices=sorted_slices(metrics.get("slices", [])),
        remarks=[*remarks, *_remarks_on_training(spec.training)],
        sections=[
            (heading, [(caption, embed_png(file)) for caption, file in figures])
            for heading, figures in _sections(evaluation, spec.training, plots)
        ],
    )


def _worst_first(per_class: Mapping[str, Any]) -> dict[str, Any]:
    """Return the classes with the lowest F1 first, and those without test images last."""

    def key(row: tuple[str, Any]) -> tuple[bool, float]:
        f1 = row[1]["f1"]
        return f1 is None, f1 or 0.0

    return dict(sorted(per_class.items(), key=key))


def _label_counts(evaluation: Evaluation) -> list[tuple[str, int, int, int]]:
    """Return name and number of correct, missed and wrong predictions of each label, if any."""
    if not isinstance(evaluation, MultiLabelEvaluation):
        return []
    counts = evaluation.label_counts
    cases = (counts.true_positives, counts.false_negatives, counts.false_positives)
    return list(zip(evaluation.class_names, *(case.tolist() for case in cases), strict=True))


def _remarks_on_training(training: Mapping[str, Any]) -> list[str]:
    remarks = list(training.get("kept", {}).get("remarks", []))
    since = training.get("overfits_since_epoch")
    if since is not None:
        remarks.insert(0, f"the training overfits from epoch {since} on: {OVERFITTING_ADVICE}")
    return [f"{_capitalized(remark)}." for remark in remarks]


def _sections(
    evaluation: Evaluation, training: Mapping[str, Any], plots: Path
) -> Iterator[tuple[str, Figures]]:
    """Yield headings with captioned figures."""
    if isinstance(evaluation, MultiLabelEvaluation):
        num_shown, num_labels = len(most_mistaken(evaluation.label_counts)), len(evaluation.class_names)
        which = (
            "All labels" if num_shown == num_labels else f"The {num_shown} labels with the most mistakes"
        )
        caption = f"{which}: number of images with correct, missed and wrong predictions"
        yield "Correct, missed and wrong labels", [(caption, plots / "labels.png")]
    yield (
        "Curves over all thresholds",
        [
            ("Precision-recall curves, interpolated", plots / "precision_recall.png"),
            ("Receiver operating characteristic (ROC) curves", plots / "roc.png"),
        ],
    )
    if "history" in training:  # model files of earlier versions have none
        yield "Training", [(_capitalized(training["kept"]["reason"]), plots / "training.png")]


def _capitalized(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}"

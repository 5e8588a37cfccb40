"""Write the evaluation report: one HTML file with its pictures inside, which needs no network."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.errors import counted
from darkroom.evaluation.calibration import calibration_section
from darkroom.evaluation.confusions import frequent_confusions, shown_matrix
from darkroom.evaluation.evaluation import Evaluation, Figures
from darkroom.evaluation.explorer import Explorer
from darkroom.evaluation.hardest import HardImage
from darkroom.evaluation.importance import IMPORTANCE, Importance
from darkroom.evaluation.slices import sorted_slices
from darkroom.evaluation.unfamiliarity import UnfamiliarImage
from darkroom.inputs import INPUT_WORDS
from darkroom.models.spec import ModelSpec
from darkroom.reporting.advice import OVERFITTING_ADVICE
from darkroom.reporting.page import embed_png, write_page
from darkroom.reporting.scores import (
    definition,
    macro_scores,
    overall_scores,
    score_cards,
    unfamiliar_sentence,
)
from darkroom.targets import WORDS


def write_report(
    evaluation: Evaluation,
    hardest: Sequence[HardImage],
    explorer: Explorer,
    spec: ModelSpec,
    remarks: Sequence[str],
    plots: Path,
    path: Path,
    unfamiliar: Sequence[UnfamiliarImage] = (),
    importance: Sequence[Importance] = (),
) -> None:
    """Write the report.

    Args:
        explorer: what the script of the page shows.
        remarks: as ``all_remarks`` returns.
        plots: the folder with the pictures that ``write_plots`` wrote.
        unfamiliar: the test images that are most unlike the training images.
        importance: of the columns of a table, as ``column_importance`` returns it.
    """
    metrics, words = evaluation.metrics, INPUT_WORDS[spec.input]
    write_page(
        Path(__file__).with_name("report.html.j2"),
        path,
        title=f"{spec.name} on {counted(metrics['num_images'], f'test {words.one}')}",
        subtitle=f"{evaluation.target_description}; {_inputs(spec)}. The test {words.several} were not"
        " used in training.",
        headline=[
            *score_cards(metrics, {**macro_scores(metrics), **overall_scores(metrics)}),
            (f"test {words.several}", f"{metrics['num_images']:,}"),
        ],
        per_class=_worst_first(metrics["per_class"]),
        matrix=shown_matrix(evaluation.confusion, evaluation.confused_names),
        confusions=frequent_confusions(evaluation.confusion, evaluation.confused_names),
        confusion_caption=evaluation.confusion_caption,
        label_counts=evaluation.label_counts_rows,
        hardest=hardest,
        unfamiliar=unfamiliar,
        importance=importance,
        importance_picture=embed_png(plots / f"{IMPORTANCE}.png") if importance else "",
        unfamiliar_sentence=unfamiliar_sentence(metrics),
        explorer=explorer,
        hardest_caption=evaluation.hardest_caption,
        explained=evaluation.explained_description,
        words=WORDS[spec.target],
        inputs=words,
        definition=definition(metrics),
        calibration=calibration_section(metrics, plots),
        slices=sorted_slices(metrics.get("slices", [])),
        remarks=[*remarks, *_remarks_on_training(spec.training)],
        sections=[
            (heading, [(caption, embed_png(file)) for caption, file in figures])
            for heading, figures in _sections(evaluation, spec.training, plots)
        ],
    )


def _inputs(spec: ModelSpec) -> str:
    if spec.encoding is not None:
        return f"rows of {counted(spec.encoding.size, 'value')}"
    height, width = spec.input_size
    return f"images of {height} x {width} pixels, {'grey' if spec.channels == 1 else 'RGB'}"


def _worst_first(per_class: Mapping[str, Any]) -> dict[str, Any]:
    """Return the classes with the lowest F1 first, and those without test images last."""

    def key(row: tuple[str, Any]) -> tuple[bool, float]:
        f1 = row[1]["f1"]
        return f1 is None, f1 or 0.0

    return dict(sorted(per_class.items(), key=key))


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
    yield from evaluation.own_sections(plots)
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

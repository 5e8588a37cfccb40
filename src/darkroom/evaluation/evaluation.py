"""What evaluate leaves behind: predictions, plots for DVC and for people, and the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.dataset.shards import Shards
from darkroom.evaluation.confusions import MAX_CLASSES, frequent_confusions, shown_matrix
from darkroom.evaluation.figures import (
    draw_confusion_matrix,
    draw_curves,
    draw_label_counts,
    draw_titled_images,
)
from darkroom.evaluation.hardest import HardImage, hardest
from darkroom.evaluation.report import write_report
from darkroom.metrics.classification import classification_metrics, metrics_file
from darkroom.metrics.confusion import confusion_matrix
from darkroom.metrics.counts import counts_of_labels
from darkroom.metrics.curves import Curves, precision_recall_curves, roc_curves
from darkroom.metrics.finite import check_finite
from darkroom.metrics.multi_label import labels_at
from darkroom.metrics.multi_label_classification import confused_labels, multi_label_metrics
from darkroom.metrics.remarks import remarks_on
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.reporting.advice import OVERFITTING_ADVICE
from darkroom.reporting.figures import draw_history
from darkroom.reporting.scores import baseline_scores, macro_scores, overall_scores
from darkroom.reporting.tables import write_csv
from darkroom.reporting.templates import number

NO_LABEL = "no label"
CLASS_COLUMNS = (
    "threshold",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "average_precision",
    "support",
    "predicted",
)
"""Of classes.csv; ``threshold`` only if an image may have several labels."""


@dataclass(frozen=True)
class Evaluation:
    """A model's outcome on one split, where each image has one label.

    ``targets`` is int64 ``(n,)`` and ``probabilities`` float64 ``(n, num_classes)``, in the order
    of ``shards``; ``metrics`` is as ``classification_metrics`` returns.
    """

    spec: ModelSpec
    shards: Shards
    targets: Tensor
    probabilities: Tensor
    metrics: dict[str, Any]

    @cached_property
    def preds(self) -> Tensor:
        """int64 ``(n,)``, the most probable classes."""
        return self.probabilities.argmax(dim=1)

    @property
    def class_names(self) -> list[str]:
        return list(self.spec.class_names)

    def write_predictions(self, path: Path) -> None:
        """Writes a row an image: path, label, pred, correct, probability, probabilities."""
        table = pd.DataFrame(
            {
                "path": self.shards.paths,
                **self._columns(),
                "probabilities": list(self.probabilities.float().numpy()),
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False, compression="zstd")

    def write_plots(self, folder: Path) -> None:
        """Writes scores by class, confusions, both curves and the hardest images, as CSV and PNG."""
        self._write_classes(folder / "classes.csv")
        self._write_confusions(folder)
        for curves, stem, labels in (
            (precision_recall_curves, "precision_recall", ("recall", "precision")),
            (roc_curves, "roc", ("false_positive_rate", "true_positive_rate")),
        ):
            drawn = curves(self.targets, self.probabilities, self.class_names)
            _write_curves(drawn, folder / stem, labels)
        images = self.hardest
        draw_titled_images(
            [image.pixels for image in images], [image.title for image in images], folder / "hardest.png"
        )
        if "history" in self.spec.training:  # older files have none
            draw_history(self.spec.training["history"], folder / "training.png")

    def write_report(self, plots: Path, path: Path) -> None:
        """Writes the report, with the pictures that ``write_plots`` made."""
        height, width = self.spec.input_size
        write_report(
            title=f"{self.spec.name} on {self.metrics['num_images']:,} test images",
            subtitle=f"{self._about_classes()}, images of {height} x {width} x "
            f"{self.spec.channels} pixels. The test images were not seen in training.",
            metrics=self.metrics,
            remarks=self._remarks(),
            matrix=shown_matrix(self.confusion, self.confused_names),
            confusions=frequent_confusions(self.confusion, self.confused_names),
            about_confusions=self._about_confusions(),
            hardest=self.hardest,
            about_hardest=self._about_hardest(),
            sections=[
                *self._sections(plots),
                (
                    "Over all thresholds",
                    [
                        ("Precision over recall, interpolated", plots / "precision_recall.png"),
                        ("Receiver operating characteristic", plots / "roc.png"),
                    ],
                ),
                *self._training(plots / "training.png"),
            ],
            path=path,
        )

    def summary(self) -> str:
        """Describes the outcome in a line."""
        scores = {**macro_scores(self.metrics), **overall_scores(self.metrics)}
        baselines = baseline_scores(self.metrics)
        beside = f"; macro F1 of {_enumerated(baselines)}" if baselines else ""
        return f"{len(self.shards):,} test images, {_enumerated(scores)}{beside}"

    def remarks(self) -> list[str]:
        """Return why not to take the scores as they stand, a sentence or two each."""
        return remarks_on(metrics_file(self.metrics))

    def _about_classes(self) -> str:
        return f"{len(self.class_names)} classes"

    def _about_confusions(self) -> str:
        return "Rows are true classes, columns what they were taken for, in images."

    def _about_hardest(self) -> str:
        return "The true class with its probability, and what the image was taken for."

    def _sections(self, plots: Path) -> list[tuple[str, list[tuple[str, Path]]]]:
        """Return headings with captioned figures that only this kind of evaluation has."""
        return []

    def _columns(self) -> dict[str, Any]:
        names = np.array(self.class_names, dtype=object)
        return {
            "label": names[self.targets.numpy()],
            "pred": names[self.preds.numpy()],
            "correct": (self.preds == self.targets).numpy(),
            "probability": self.probabilities.amax(dim=1).float().numpy(),
        }

    @property
    def confused_names(self) -> list[str]:
        """Names of the rows and columns of ``confusion``."""
        return self.class_names

    @cached_property
    def confused_pairs(self) -> list[tuple[int, int]]:
        """Pairs of a true and a predicted class, by which the confusion matrix counts."""
        return list(zip(self.targets.tolist(), self.preds.tolist(), strict=True))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """int64 ``(num_classes, num_classes)``: rows are true, columns predicted classes."""
        targets, preds = (
            torch.tensor(self.confused_pairs, dtype=torch.int64).reshape(-1, 2).unbind(dim=1)
        )
        return confusion_matrix(targets, preds, len(self.confused_names)).numpy()

    @cached_property
    def hardest(self) -> list[HardImage]:
        """The images whose truth got the lowest probability, the hardest first, a few of each class."""
        indices = hardest(self._of_truth(), self._groups())
        pixels = self.shards.gather(np.array(indices, dtype=np.int64))
        paths = self.shards.paths
        return [
            HardImage(image, paths[index], *self._told(index))
            for index, image in zip(indices, pixels, strict=True)
        ]

    def _of_truth(self) -> Tensor:
        """Return the probability of each image's true class."""
        return self.probabilities.gather(1, self.targets[:, None])[:, 0]

    def _groups(self) -> NDArray[np.int64]:
        return self.targets.numpy()

    def _told(self, index: int) -> tuple[str, list[str]]:
        """Return an image's truth with its probability, and the mistakes."""
        names, target, pred = self.class_names, self.targets[index], self.preds[index]
        mistakes = [] if pred == target else [f"taken for {names[pred]}"]
        return f"{names[target]}: {self._of_truth()[index]:.2f}", mistakes

    def _write_classes(self, path: Path) -> None:
        """Write a row per class; cells of what is not measured are empty."""
        rows = self.metrics["per_class"]
        columns = [name for name in CLASS_COLUMNS if name in next(iter(rows.values()))]
        write_csv(
            ("class", *columns),
            ((name, *(row[column] for column in columns)) for name, row in rows.items()),
            path,
        )

    def _write_confusions(self, folder: Path) -> None:
        """Write a row per confusion, for DVC's plots, and the matrix; draw what can be read of it."""
        names = self.confused_names
        write_csv(
            ("actual", "predicted"),
            ((names[target], names[pred]) for target, pred in self.confused_pairs),
            folder / "confusion.csv",
        )
        write_csv(
            ("actual \\ predicted", *names),
            ((name, *row) for name, row in zip(names, self.confusion.tolist(), strict=True)),
            folder / "confusion_matrix.csv",
        )
        shown = shown_matrix(self.confusion, names)
        draw_confusion_matrix(
            shown.counts, shown.row_names, shown.column_names, folder / "confusion.png"
        )

    def _remarks(self) -> list[str]:
        remarks = list(self.spec.training.get("kept", {}).get("remarks", []))
        since = self.spec.training.get("overfits_since_epoch")
        if since is not None:
            remarks.insert(0, f"the training overfits since epoch {since}: {OVERFITTING_ADVICE}")
        return [*self.remarks(), *(f"{remark[0].upper()}{remark[1:]}." for remark in remarks)]

    def _training(self, picture: Path) -> list[tuple[str, list[tuple[str, Path]]]]:
        """Returns the section of the report that shows the epochs; none for an older model file."""
        if "history" not in self.spec.training:
            return []
        reason = self.spec.training["kept"]["reason"]
        return [("How it was trained", [(f"{reason[0].upper()}{reason[1:]}", picture)])]


@dataclass(frozen=True)
class MultiLabelEvaluation(Evaluation):
    """A model's outcome on one split, where an image may have several labels, or none.

    ``targets`` is float32 ``(n, num_classes)`` of 0 and 1; ``metrics`` is as ``multi_label_metrics``
    returns.
    """

    @property
    def thresholds(self) -> tuple[float, ...]:
        assert self.spec.thresholds is not None  # train sees to it
        return self.spec.thresholds

    @cached_property
    def preds(self) -> Tensor:
        """bool ``(n, num_classes)``, the labels whose probability reaches their threshold."""
        return labels_at(self.thresholds, self.probabilities)

    def write_predictions(self, path: Path) -> None:
        """Writes a row an image: path, labels, preds, correct, probabilities."""
        super().write_predictions(path)

    def write_plots(self, folder: Path) -> None:
        """Writes confusions, counts by label, both curves and the hardest images, as CSV and PNG."""
        super().write_plots(folder)
        counts = counts_of_labels(self.targets, self.preds)
        columns = {name: count.tolist() for name, count in counts._asdict().items()}
        write_csv(
            ("label", "threshold", *columns),
            zip(self.class_names, self.thresholds, *columns.values(), strict=True),
            folder / "labels.csv",
        )
        shown = self._drawn_labels()
        draw_label_counts(
            right=[columns["true_positives"][label] for label in shown],
            wrong=[columns["false_positives"][label] for label in shown],
            missed=[columns["false_negatives"][label] for label in shown],
            class_names=[self.class_names[label] for label in shown],
            path=folder / "labels.png",
        )

    def _drawn_labels(self) -> list[int]:
        """Return all labels, or the 40 with the most mistakes, in their order."""
        counts = counts_of_labels(self.targets, self.preds)
        mistakes = counts.false_positives + counts.false_negatives
        return sorted(mistakes.argsort(descending=True, stable=True)[:MAX_CLASSES].tolist())

    def _about_classes(self) -> str:
        return f"{len(self.class_names)} labels, of which an image may have several or none"

    def _about_confusions(self) -> str:
        return (
            "Rows are true labels. A missed label stands against each that was predicted wrongly "
            f"for the same image, or against {self.confused_names[-1]!r}."
        )

    def _about_hardest(self) -> str:
        return "The true labels, the probability of just these, and the mistakes."

    def _sections(self, plots: Path) -> list[tuple[str, list[tuple[str, Path]]]]:
        num_drawn, num_labels = len(self._drawn_labels()), len(self.class_names)
        which = (
            "Each label" if num_drawn == num_labels else f"The {num_drawn} labels with the most mistakes"
        )
        caption = f"{which}: images that rightly have it, have it wrongly, and miss it"
        return [("Right, wrong and missed", [(caption, plots / "labels.png")])]

    def _columns(self) -> dict[str, Any]:
        return {
            "labels": [self._names_of(row) for row in self.targets],
            "preds": [self._names_of(row) for row in self.preds],
            "correct": (self.preds == self.targets.bool()).all(dim=1).numpy(),
        }

    def _names_of(self, labels: Tensor) -> list[str]:
        return [self.class_names[index] for index in labels.nonzero()[:, 0].tolist()]

    @cached_property
    def confused_names(self) -> list[str]:
        """The labels, and a name for no label that none of them has."""
        names = self.class_names
        no_label = NO_LABEL
        while no_label in names:
            no_label = f"({no_label})"
        return [*names, no_label]

    @cached_property
    def confused_pairs(self) -> list[tuple[int, int]]:
        """As ``confused_labels`` returns."""
        return confused_labels(self.targets, self.preds)

    def _of_truth(self) -> Tensor:
        """Return the probability of each image's true set of labels."""
        true = self.targets.bool()
        return torch.where(true, self.probabilities, 1 - self.probabilities).prod(dim=1)

    def _groups(self) -> NDArray[np.int64]:
        return np.unique(self.targets.numpy(), axis=0, return_inverse=True)[1].reshape(-1)

    def _told(self, index: int) -> tuple[str, list[str]]:
        true, pred = self.targets[index].bool(), self.preds[index]
        truth = "|".join(self._names_of(true)) or NO_LABEL
        mistakes = {
            "misses": "|".join(self._names_of(true & ~pred)),
            "has wrongly": "|".join(self._names_of(~true & pred)),
        }
        told = [f"{what} {names}" for what, names in mistakes.items() if names]
        return f"{truth}: {self._of_truth()[index]:.2f}", told


def make_evaluation(
    spec: ModelSpec,
    shards: Shards,
    targets: Tensor,
    logits: Tensor,
    baseline: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Measures a model on one split.

    Args:
        targets: as in ``Batch``, in the order of ``shards``; on the CPU, as the logits.
        logits: float32 ``(n, num_classes)``.
        baseline: scores of baselines on the same images, as metrics.json has them.

    Raises:
        UserError: a logit is no finite number.
    """
    check_finite(logits.numpy(), shards.paths, "evaluate: the model")
    beside = {} if baseline is None else {"baseline": baseline}
    probabilities = probabilities_of(logits.double(), spec.multi_label)
    names = list(spec.class_names)
    if spec.multi_label:
        assert spec.thresholds is not None
        metrics = multi_label_metrics(targets, probabilities, spec.thresholds, names)
        return MultiLabelEvaluation(spec, shards, targets, probabilities, {**metrics, **beside})
    metrics = classification_metrics(targets, probabilities, names)
    return Evaluation(spec, shards, targets, probabilities, {**metrics, **beside})


def _enumerated(scores: Mapping[str, float | None]) -> str:
    return ", ".join(f"{title} {number(score)}" for title, score in scores.items())


def _write_curves(curves: Curves, stem: Path, labels: tuple[str, str]) -> None:
    names = list(curves.values)
    write_csv(
        (labels[0], labels[1], *(f"{labels[1]} {name}" for name in names)),
        zip(curves.grid, curves.macro, *curves.values.values(), strict=True),
        stem.with_suffix(".csv"),
    )
    spaced = (labels[0].replace("_", " "), labels[1].replace("_", " "))
    draw_curves(curves.grid, curves.values, curves.macro, spaced, stem.with_suffix(".png"))

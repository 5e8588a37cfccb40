"""What evaluate leaves behind: predictions, plots for DVC and for people, and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from darkroom.data.shards import Shards
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
from darkroom.reporting.figures import (
    draw_confusion_matrix,
    draw_curves,
    draw_history,
    draw_label_counts,
    draw_titled_images,
)
from darkroom.reporting.report import write_report
from darkroom.reporting.scores import baseline_scores, macro_scores, overall_scores
from darkroom.reporting.tables import write_csv
from darkroom.reporting.templates import number

NUM_HARDEST = 30
NO_LABEL = "no label"


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
        """Writes the confusion matrix, both curves and the hardest images, as CSV and PNG."""
        self._write_confusions(folder / "confusion")
        for curves, stem, labels in (
            (precision_recall_curves, "precision_recall", ("recall", "precision")),
            (roc_curves, "roc", ("false_positive_rate", "true_positive_rate")),
        ):
            drawn = curves(self.targets, self.probabilities, self.class_names)
            _write_curves(drawn, folder / stem, labels)
        self._draw_hardest(folder / "hardest.png")
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
            sections=[
                (
                    "Where it errs",
                    [(caption, plots / file) for file, caption in self._errors().items()],
                ),
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

    def _errors(self) -> dict[str, str]:
        """Returns captions of the pictures that show where the model errs, by file."""
        return {
            "confusion.png": "Rows are true classes",
            "hardest.png": "The hardest images: true class, its probability, what it was taken for",
        }

    def _columns(self) -> dict[str, Any]:
        names = np.array(self.class_names, dtype=object)
        return {
            "label": names[self.targets.numpy()],
            "pred": names[self.preds.numpy()],
            "correct": (self.preds == self.targets).numpy(),
            "probability": self.probabilities.amax(dim=1).float().numpy(),
        }

    def _write_confusions(self, stem: Path) -> None:
        pairs = list(zip(self.targets.tolist(), self.preds.tolist(), strict=True))
        _write_confusions(pairs, self.class_names, stem)

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

    def _draw_hardest(self, path: Path) -> None:
        """Draws the images whose true class got the lowest probability: mistakes first."""
        of_true_class = self.probabilities.gather(1, self.targets[:, None])[:, 0]
        hardest = of_true_class.argsort(stable=True)[:NUM_HARDEST]
        names = self.class_names
        titles = [
            f"{names[self.targets[i]]}: {of_true_class[i]:.2f}"
            + ("" if self.preds[i] == self.targets[i] else f"\ntaken for {names[self.preds[i]]}")
            for i in hardest.tolist()
        ]
        draw_titled_images(list(self.shards.gather(hardest.numpy())), titles, path)


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
        draw_label_counts(
            right=columns["true_positives"],
            wrong=columns["false_positives"],
            missed=columns["false_negatives"],
            class_names=self.class_names,
            path=folder / "labels.png",
        )

    def _about_classes(self) -> str:
        return f"{len(self.class_names)} labels, of which an image may have several or none"

    def _errors(self) -> dict[str, str]:
        return {
            "labels.png": "Each label: images that rightly have it, have it wrongly, and miss it",
            "confusion.png": "Rows are true labels: what is missed, with what was predicted instead",
            "hardest.png": "The hardest images: true labels, the probability of just these, mistakes",
        }

    def _columns(self) -> dict[str, Any]:
        return {
            "labels": [self._names_of(row) for row in self.targets],
            "preds": [self._names_of(row) for row in self.preds],
            "correct": (self.preds == self.targets.bool()).all(dim=1).numpy(),
        }

    def _names_of(self, labels: Tensor) -> list[str]:
        return [self.class_names[index] for index in labels.nonzero()[:, 0].tolist()]

    def _write_confusions(self, stem: Path) -> None:
        names = self.class_names
        no_label = NO_LABEL
        while no_label in names:
            no_label = f"({no_label})"
        _write_confusions(confused_labels(self.targets, self.preds), [*names, no_label], stem)

    def _draw_hardest(self, path: Path) -> None:
        """Draws the images whose true set of labels got the lowest probability."""
        true = self.targets.bool()
        of_true_set = torch.where(true, self.probabilities, 1 - self.probabilities).prod(dim=1)
        hardest = of_true_set.argsort(stable=True)[:NUM_HARDEST]
        titles = []
        for i in hardest.tolist():
            lines = {
                "": f"{'|'.join(self._names_of(true[i])) or NO_LABEL}: {of_true_set[i]:.2f}",
                "misses ": "|".join(self._names_of(true[i] & ~self.preds[i])),
                "has wrongly ": "|".join(self._names_of(~true[i] & self.preds[i])),
            }
            titles.append("\n".join(what + names for what, names in lines.items() if names))
        draw_titled_images(list(self.shards.gather(hardest.numpy())), titles, path)


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


def _write_confusions(pairs: Sequence[tuple[int, int]], names: Sequence[str], stem: Path) -> None:
    """Writes pairs of true and predicted class, and draws their matrix."""
    write_csv(
        ("actual", "predicted"),
        ((names[target], names[pred]) for target, pred in pairs),
        stem.with_suffix(".csv"),
    )
    targets, preds = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(dim=1)
    counts = confusion_matrix(targets, preds, len(names)).tolist()
    draw_confusion_matrix(counts, names, stem.with_suffix(".png"))


def _write_curves(curves: Curves, stem: Path, labels: tuple[str, str]) -> None:
    names = list(curves.values)
    write_csv(
        (labels[0], labels[1], *(f"{labels[1]} {name}" for name in names)),
        zip(curves.grid, curves.macro, *curves.values.values(), strict=True),
        stem.with_suffix(".csv"),
    )
    spaced = (labels[0].replace("_", " "), labels[1].replace("_", " "))
    draw_curves(curves.grid, curves.values, curves.macro, spaced, stem.with_suffix(".png"))

"""Precision, recall, F1 and friends where an image may have several labels, from exact counts."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from darkroom.metrics.multi_label import exact_matches, labels_at

_RANKED = {"roc_auc": binary_auroc, "average_precision": binary_average_precision}
DIGITS = 6
"""To which values are rounded; torchmetrics divides in float32, whose seventh is noise."""


class LabelCounts(NamedTuple):
    """What became of each label, in images: int64 ``(num_labels,)`` each, on the CPU."""

    true_positives: Tensor
    false_positives: Tensor
    false_negatives: Tensor
    true_negatives: Tensor

    @property
    def support(self) -> Tensor:
        """Images that have the label."""
        return self.true_positives + self.false_negatives


def count_labels(targets: Tensor, preds: Tensor) -> LabelCounts:
    """Counts each label by itself.

    Args:
        targets, preds: ``(n, num_labels)`` of 0 and 1.
    """
    has_it, said_so = targets.bool().cpu(), preds.bool().cpu()
    cases = (has_it & said_so, ~has_it & said_so, has_it & ~said_so, ~has_it & ~said_so)
    return LabelCounts(*(case.sum(dim=0) for case in cases))


def confused_labels(targets: Tensor, preds: Tensor) -> list[tuple[int, int]]:
    """Returns pairs of a true and a predicted label, by which a confusion matrix counts.

    Of each image: every label that is right with itself; every label that is missed with every one that
    is wrong. ``num_labels`` stands for no label: what is missed where nothing is wrong has it for its
    partner, and what is wrong where nothing is missed; an image that rightly got no label is one pair of
    it. Where every image has one label and gets one, these are the pairs of the usual confusion matrix.

    Args:
        targets, preds: ``(n, num_labels)`` of 0 and 1.
    """
    none = targets.shape[1]
    pairs: list[tuple[int, int]] = []
    # numpy, whose operations on a few numbers take a tenth of torch's time
    rows = (labels.bool().cpu().numpy() for labels in (targets, preds))
    for its, said in zip(*rows, strict=True):
        right, missed, wrong = (
            np.flatnonzero(case).tolist() for case in (its & said, its & ~said, ~its & said)
        )
        pairs += [(label, label) for label in right]
        if missed or wrong or not right:
            pairs += product(missed or [none], wrong or [none])
    return pairs


def multi_label_metrics(
    targets: Tensor, probabilities: Tensor, thresholds: Sequence[float], class_names: list[str]
) -> dict[str, Any]:
    """Measures a classifier on one split.

    Names and rules are those of ``classification_metrics``: labels that are neither in the targets nor
    predicted are left out of macro averages, ratios without a denominator are 0, and what cannot be
    ranked, because all images have the label or none has, is ``None``. Values are rounded to six digits.

    Args:
        targets: ``(n, num_labels)`` of 0 and 1.
        probabilities: float64 ``(n, num_labels)``, 0..1.
        thresholds: one a label.

    Returns:
        ``precision_macro``, ``f1_weighted``, ... in 0..1, ``exact_match`` (share of the images of which
        every label is right), ``hamming_loss`` (share of the labels of all images that are wrong),
        ``num_images``, and ``per_class``: for each label precision, recall, f1, roc_auc,
        average_precision, support, threshold.
    """
    preds = labels_at(thresholds, probabilities)
    counts = count_labels(targets, preds)
    rows = zip(counts.support.tolist(), thresholds, strict=True)
    per_class: dict[str, dict[str, Any]] = {
        name: {"support": support, "threshold": threshold}
        for name, (support, threshold) in zip(class_names, rows, strict=True)
    }
    num_wrong = int((counts.false_positives + counts.false_negatives).sum())
    metrics: dict[str, Any] = {
        "num_images": len(targets),
        "exact_match": round(exact_matches(targets, preds), DIGITS),
        "hamming_loss": round(num_wrong / targets.numel(), DIGITS),
    }
    for metric, (numerators, denominators) in _ratios(counts).items():
        values = _divided(numerators, denominators)
        for row, value in zip(per_class.values(), values.tolist(), strict=True):
            row[metric] = round(value, DIGITS)
        for average, value in _averages(counts, numerators, denominators).items():
            metrics[f"{metric}_{average}"] = round(float(value), DIGITS)

    for metric, areas in _areas(targets, probabilities).items():
        for row, area in zip(per_class.values(), areas, strict=True):
            row[metric] = area
        defined = [area for area in areas if area is not None]
        mean = round(sum(defined) / len(defined), DIGITS) if defined else None
        metrics[f"{metric}_macro"] = mean
    return {**metrics, "per_class": per_class}


def _ratios(counts: LabelCounts) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns numerators and denominators, int64 ``(num_labels,)`` each."""
    hits, wrong, missed, _ = counts
    return {
        "precision": (hits, hits + wrong),
        "recall": (hits, hits + missed),
        "f1": (2 * hits, 2 * hits + wrong + missed),
    }


def _averages(counts: LabelCounts, numerators: Tensor, denominators: Tensor) -> dict[str, Tensor]:
    values = _divided(numerators, denominators)
    present = counts.true_negatives < sum(counts)  # in the targets or predicted
    return {
        "macro": _divided(values[present].sum(), present.sum()),
        "weighted": _divided((values * counts.support).sum(), counts.support.sum()),
        "micro": _divided(numerators.sum(), denominators.sum()),
    }


def _divided(numerators: Tensor, denominators: Tensor) -> Tensor:
    """Returns float64; 0 where the denominator is 0."""
    return numerators.double() / denominators.double().clamp(min=1)


def _areas(targets: Tensor, probabilities: Tensor) -> dict[str, list[float | None]]:
    """Returns the areas of each label; None where it cannot be ranked."""
    positive = targets.long()
    num_positives = positive.sum(dim=0).tolist()
    return {
        metric: [
            round(float(function(probabilities[:, label], positive[:, label])), DIGITS)
            if 0 < num_positives[label] < len(targets)
            else None
            for label in range(targets.shape[1])
        ]
        for metric, function in _RANKED.items()
    }

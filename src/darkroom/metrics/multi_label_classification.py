"""Precision, recall, F1 and friends where an image may have several labels, from exact counts."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor

from darkroom.metrics.classification import rows_by_class
from darkroom.metrics.counts import DIGITS, averaged_scores, counts_of_labels, scores_by_class
from darkroom.metrics.multi_label import exact_matches, labels_at
from darkroom.metrics.ranking import mean_area, ranking_areas


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
    """Measure a classifier on one split.

    Names and rules are those of ``classification_metrics``: macro averages are over the labels that at
    least one image has, a label with images that is never predicted has a precision of 0, and what
    cannot be measured is None.

    Args:
        targets: ``(n, num_labels)`` of 0 and 1.
        probabilities: float64 ``(n, num_labels)``, 0..1.
        thresholds: one per label.

    Returns:
        ``precision_macro``, ``f1_weighted``, ... in 0..1, ``exact_match`` (share of the images of which
        every label is right), ``hamming_loss`` (share of the labels of all images that are wrong),
        ``num_images``, and ``per_class``: for each label precision, recall, f1, roc_auc,
        average_precision, support, predicted, threshold.
    """
    preds = labels_at(thresholds, probabilities)
    counts = counts_of_labels(targets, preds)
    areas = ranking_areas(targets.bool(), probabilities)
    columns: dict[str, list[Any]] = {
        **scores_by_class(counts),
        **areas,
        "support": counts.support.tolist(),
        "predicted": counts.num_predicted.tolist(),
        "threshold": list(thresholds),
    }
    num_wrong = int((counts.false_positives + counts.false_negatives).sum())
    return {
        "num_images": len(targets),
        "exact_match": round(exact_matches(targets, preds), DIGITS),
        "hamming_loss": round(num_wrong / targets.numel(), DIGITS),
        **averaged_scores(counts),
        **{f"{metric}_macro": mean_area(values) for metric, values in areas.items()},
        "per_class": rows_by_class(class_names, columns),
    }

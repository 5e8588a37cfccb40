"""Scores and confusions of a model that predicts any number of labels per image."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor

from darkroom.metrics.classification import rows_by_class
from darkroom.metrics.counts import averaged_scores, counts_of_labels, scores_by_class
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.multi_label import exact_matches, labels_at
from darkroom.metrics.ranking import mean_area, ranking_areas


def confused_labels(targets: Tensor, preds: Tensor) -> list[tuple[int, int]]:
    """Return the pairs of a true and a predicted label that a confusion matrix counts.

    For each image, every correct label is paired with itself, and every missed label with every wrong
    one. ``num_labels`` stands for "no label": missed labels are paired with it if no label is wrong,
    wrong labels if none is missed, and an image that correctly has no label is one pair of it. If every
    image has one label and one prediction, these are the pairs of the usual confusion matrix.

    Args:
        targets, preds: ``(n, num_labels)`` of 0 and 1.
    """
    none = targets.shape[1]
    pairs: list[tuple[int, int]] = []
    # NumPy takes a tenth of PyTorch's time for a few numbers
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
    """Return the scores of a classifier on one split.

    Names and rules are those of ``classification_metrics``: macro averages are over the labels that at
    least one image has, a label with images that is never predicted has a precision of 0, and scores
    that cannot be measured are None.

    Args:
        targets: ``(n, num_labels)`` of 0 and 1.
        probabilities: float64 ``(n, num_labels)``, 0..1.
        thresholds: one per label.

    Returns:
        ``precision_macro``, ``f1_weighted``, ... in 0..1, ``exact_match`` (fraction of the images with
        every label correct), ``hamming_loss`` (fraction of all labels of all images that are wrong),
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

"""F1 and thresholds of labels, if an image may have several."""

from collections.abc import Sequence

import torch
from torch import Tensor


def label_f1(targets: Tensor, preds: Tensor) -> Tensor:
    """Return ``2 TP / (2 TP + FP + FN)`` of each label.

    Args:
        targets, preds: ``(n, num_labels)`` of 0 and 1.

    Returns:
        float64 ``(num_labels,)`` on the CPU; NaN for a label that no image has.
    """
    has_it, said_so = targets.bool(), preds.bool()
    hits = (has_it & said_so).sum(dim=0).cpu().double()
    support = has_it.sum(dim=0).cpu()
    f1 = 2 * hits / (support + said_so.sum(dim=0).cpu())
    return f1.where(support > 0, torch.nan)


def macro_f1_of_labels(targets: Tensor, preds: Tensor) -> float:
    """Return the mean of ``label_f1`` over the labels that at least one image has; 0 if there are none.

    This is scikit-learn's ``f1_score(targets, preds, labels=numpy.flatnonzero(targets.any(axis=0)),
    average="macro", zero_division=0)``.
    """
    f1 = label_f1(targets, preds)
    present = ~f1.isnan()
    return float(f1[present].mean()) if present.any() else 0.0


def exact_matches(targets: Tensor, preds: Tensor) -> float:
    """Return the fraction of the images with every label correct."""
    return float((targets.bool() == preds.bool()).all(dim=1).cpu().double().mean())


def labels_at(thresholds: Sequence[float], probabilities: Tensor) -> Tensor:
    """Return the predicted labels: those whose probability is at least their threshold.

    The comparison is in float64, because a threshold of four digits changes its value in float32.

    Args:
        probabilities: float ``(n, num_labels)``.

    Returns:
        bool ``(n, num_labels)``.
    """
    wanted = torch.tensor(thresholds, dtype=torch.float64, device=probabilities.device)
    return probabilities.double() >= wanted


def best_thresholds(targets: Tensor, probabilities: Tensor) -> list[float]:
    """Return the threshold of each label with the highest F1; among equals, the one closest to 0.5.

    A label is predicted if its probability is at least the threshold. Candidates are halfway between
    neighbouring probabilities, and between 0 and the lowest one, rounded to four digits so that small
    changes of the weights do not move them.

    Args:
        targets: ``(n, num_labels)`` of 0 and 1.
        probabilities: float ``(n, num_labels)``.

    Returns:
        one threshold per label, 0..1; 0.5 for a label that no image has.
    """
    targets, probabilities = targets.cpu().long(), probabilities.cpu().double()
    return [
        _best_threshold(targets[:, label], probabilities[:, label]) for label in range(targets.shape[1])
    ]


def _best_threshold(targets: Tensor, probabilities: Tensor) -> float:
    if not targets.any():
        return 0.5
    # the lowest candidate predicts the label for every image, the best guess of an untrained model
    values = torch.cat((torch.zeros(1, dtype=torch.float64), torch.unique(probabilities)))
    halfway = ((values[1:] + values[:-1]) / 2 * 1e4).round() / 1e4
    candidates = torch.unique(torch.cat((halfway, torch.tensor([0.5], dtype=torch.float64))))
    order = probabilities.argsort(descending=True, stable=True)
    hits = torch.cat((torch.zeros(1, dtype=torch.int64), targets[order].cumsum(0)))
    # probabilities at or above the threshold
    num_predicted = len(probabilities) - torch.searchsorted(
        probabilities.sort().values, candidates, side="left"
    )
    f1 = 2 * hits[num_predicted].double() / (num_predicted + targets.sum())
    best = candidates[f1 == f1.max()]
    return float(best[(best - 0.5).abs().argmin()])

"""The confusion matrix as exact counts, and accuracy and F1 computed from it."""

import torch
from torch import Tensor


def confusion_matrix(targets: Tensor, preds: Tensor, num_classes: int) -> Tensor:
    """Return how often each class was predicted as each class.

    Integer counts do not depend on the order of images or on the device.

    Args:
        targets: int64 ``(n,)``, true classes.
        preds: int64 ``(n,)``, predicted classes.

    Returns:
        int64 ``(num_classes, num_classes)``: rows are true, columns predicted classes.
    """
    counts = torch.zeros(num_classes**2, dtype=torch.int64, device=targets.device)
    counts.scatter_add_(0, targets * num_classes + preds, torch.ones_like(targets))
    return counts.reshape(num_classes, num_classes)


def macro_f1(confusion: Tensor) -> float:
    """Return the mean of ``2 TP / (2 TP + FP + FN)`` over the classes that have images.

    A class without images cannot be measured and is excluded; an image wrongly predicted as such a class
    still counts as a miss of its true class. This is scikit-learn's ``f1_score(targets, preds,
    labels=numpy.unique(targets), average="macro", zero_division=0)``.
    """
    counts = confusion.cpu().double()
    hits = counts.diagonal()
    support = counts.sum(dim=1)
    either = support + counts.sum(dim=0)  # 2 TP + FP + FN
    present = support > 0
    return float((2 * hits[present] / either[present]).mean())


def accuracy(confusion: Tensor) -> float:
    """Return the fraction of images on the diagonal."""
    return float(confusion.diagonal().sum()) / float(confusion.sum())

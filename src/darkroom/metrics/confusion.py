"""The confusion matrix, counted exactly on the device, and F1 from it."""

import torch
from torch import Tensor


def confusion_matrix(targets: Tensor, preds: Tensor, num_classes: int) -> Tensor:
    """Counts how often each class was taken for each.

    Integer counts are the same in any order and on any device.

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
    """Returns the mean over classes of ``2 TP / (2 TP + FP + FN)``.

    Classes that are neither in the targets nor predicted are left out, as in scikit-learn.
    """
    counts = confusion.cpu().double()
    hits = counts.diagonal()
    either = counts.sum(dim=0) + counts.sum(dim=1)  # 2 TP + FP + FN
    present = either > 0
    return float((2 * hits[present] / either[present]).mean())


def accuracy(confusion: Tensor) -> float:
    """Returns the share of samples on the diagonal."""
    return float(confusion.diagonal().sum()) / float(confusion.sum())

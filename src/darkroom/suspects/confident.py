"""Confident learning: which labels are probably wrong, by predictions of models that did not see them.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70, 2021. The threshold of a class is the mean probability that images
with this label get for it. An image is confidently of a class if its probability reaches the threshold;
if it reaches several, the most probable class counts. The *confident joint* counts images by label and
confident class; its off-diagonal estimates the wrong labels.

Two choices are ours, because a weak model is confidently wrong about many images: a suspect is off the
diagonal, and its label is also less probable than by chance; and images are ranked by the probability of
their label, not by its margin to the suggestion (``benchmarks/suspects.py``).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
"""``(n, num_classes)``, 0..1, of models that were not trained on the image."""


@dataclass(frozen=True)
class Doubts:
    """What speaks against each label. Arrays have the shape ``(n,)``."""

    suggested: NDArray[np.int64]
    """The most probable other class; with several labels, the most doubtful label."""
    p_label: NDArray[np.float64]
    """Probability of the label; with several labels, that the most doubtful one is as given."""
    p_suggested: NDArray[np.float64]
    """Probability of the suggestion."""
    is_suspect: NDArray[np.bool_]
    """Whether the image is off the diagonal, and its label less probable than by chance."""
    rank: NDArray[np.int64]
    """Images in ascending order of ``p_label``, the self-confidence."""
    estimate: int
    """Number of images, or of labels of images, off the diagonal of the confident joint."""


def doubts_about(labels: NDArray[np.int64], probabilities: Probabilities) -> Doubts:
    """Return the doubts about images with one label each.

    Args:
        labels: int64 ``(n,)``, classes.
    """
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1
    suggested = others.argmax(axis=1)
    _, is_off = confident_joint(labels, probabilities)
    p_label, p_suggested = probabilities[rows, labels], others[rows, suggested]
    is_suspect = is_off & (p_label < 1 / probabilities.shape[1])
    return _doubts(suggested, p_label, p_suggested, is_suspect, int(is_off.sum()))


def doubts_about_labels(
    labels: NDArray[np.uint8], probabilities: Probabilities
) -> tuple[Doubts, NDArray[np.uint8]]:
    """Return the doubts about images with several labels each, and the suggested labels.

    Each label is judged on its own, as present or absent. An image is ranked by its most doubtful label.
    The suggestion changes all labels that are suspects, or the most doubtful one if none is.

    Args:
        labels: uint8 ``(n, num_classes)`` of 0 and 1.

    Returns:
        The doubts, and labels like ``labels``.
    """
    as_given = np.where(labels == 1, probabilities, 1 - probabilities)
    rows, worst = np.arange(len(labels)), as_given.argmin(axis=1)
    is_off = np.zeros(labels.shape, bool)
    for label in range(labels.shape[1]):
        column = probabilities[:, label]
        both = np.stack([1 - column, column], axis=1)
        is_off[:, label] = confident_joint(labels[:, label].astype(np.int64), both)[1]
    is_wrong = is_off & (as_given < 1 / 2)
    is_suspect: NDArray[np.bool_] = np.asarray(is_wrong.any(axis=1))
    is_wrong[rows[~is_suspect], worst[~is_suspect]] = True
    p_label = as_given[rows, worst]
    doubts = _doubts(worst, p_label, 1 - p_label, is_suspect, int(is_off.sum()))
    return doubts, labels ^ is_wrong


def confident_joint(
    labels: NDArray[np.int64], probabilities: Probabilities
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the confident joint, and which images are off its diagonal.

    Returns:
        Counts ``(num_classes, num_classes)``: row is the label, column the confident class; and bool
        ``(n,)``.
    """
    num_classes = probabilities.shape[1]
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    # no image can be confidently of a class that no image has
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    found, is_sure = confident.argmax(axis=1), confident.max(axis=1) >= 0
    joint = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(joint, (labels[is_sure], found[is_sure]), 1)
    return joint, is_sure & (found != labels)


def _doubts(
    suggested: NDArray[np.int64],
    p_label: NDArray[np.float64],
    p_suggested: NDArray[np.float64],
    is_suspect: NDArray[np.bool_],
    estimate: int,
) -> Doubts:
    return Doubts(suggested, p_label, p_suggested, is_suspect, p_label.argsort(kind="stable"), estimate)

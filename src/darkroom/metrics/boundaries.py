"""How well the boundaries between classes are predicted, from exact counts of pixels.

A pixel is on the boundary of its class if one of its four neighbours has another class. Two measures:

- *Boundary F1* (Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic
  segmentation?", BMVC 2013): precision is the share of the predicted boundary of a class that lies close
  to its true boundary, recall the share of the true boundary close to the predicted one. Close means at
  most 0.75 % of the image's diagonal. Counts are summed over all images before they are divided, as for
  all scores of masks; the paper averages over images.
- *Errors by distance* (trimaps; Kohli, Ladický and Torr, "Robust higher order potentials for enforcing
  label consistency", IJCV 2009): the share of wrong pixels among those at a certain distance from the
  closest true boundary of any class.
"""

import math
from typing import Any

import torch
from torch import Tensor

from darkroom.metrics.digits import DIGITS
from darkroom.void import VOID

TOLERANCE = 0.0075
"""Distance at which boundaries count as equal, as a share of the image's diagonal."""

DISTANCES = (1, 2, 4, 8, 16)
"""Limits of the ranges of distances, in pixels. Pixels of the boundary itself have the distance 0."""


def tolerance_of(height: int, width: int) -> int:
    """Return the distance, in whole pixels, at which boundaries count as equal; at least 1."""
    return max(1, round(TOLERANCE * math.hypot(height, width)))


class BoundaryCounter:
    """Counts the pixels of boundaries of one batch after another.

    Pixels that are void have no class: they are on no boundary, make none, and are not counted.
    """

    def __init__(self, num_classes: int) -> None:
        self._tolerance = 0
        self._by_class = torch.zeros(4, num_classes, dtype=torch.int64)
        """Boundary pixels: predicted, of these close to the true ones; true, close to predicted ones."""
        self._by_distance = torch.zeros(2, len(DISTANCES) + 1, dtype=torch.int64)
        """All pixels, and the wrong ones, up to each distance, and beyond."""

    def add(self, targets: Tensor, preds: Tensor) -> None:
        """Count a batch.

        Args:
            targets: any integer type, ``(n, h, w)``, true classes or ``VOID``.
            preds: any integer type, ``(n, h, w)``, predicted classes.
        """
        self._tolerance = tolerance_of(*targets.shape[1:])
        # one image at a time, because there is a map per class
        for target, pred in zip(targets.long(), preds.long(), strict=True):
            is_void = target == VOID
            self._add_image(target, torch.where(is_void, VOID, pred))

    def _add_image(self, target: Tensor, pred: Tensor) -> None:
        num_classes = self._by_class.shape[1]
        is_true, is_predicted = (_boundaries(mask, num_classes) for mask in (target, pred))
        found = is_predicted & within(is_true, self._tolerance)
        reached = is_true & within(is_predicted, self._tolerance)
        counts = [part.sum(dim=(1, 2)) for part in (is_predicted, found, is_true, reached)]
        self._by_class += torch.stack(counts).cpu()

        boundary, rest = is_true.any(dim=0), target != VOID
        for place, distance in enumerate((*DISTANCES, None)):
            here = rest if distance is None else rest & within(boundary, distance)
            rest = rest & ~here
            self._by_distance[0, place] += int(here.sum())
            self._by_distance[1, place] += int((here & (target != pred)).sum())

    def f1(self) -> list[float | None]:
        """Return the boundary F1 of each class, 0..1, rounded to six digits; None: no true boundary."""
        scores = (_f1(*counts) for counts in self._by_class.T.tolist())
        return [None if score is None else round(score, DIGITS) for score in scores]

    def scores(self) -> dict[str, Any]:
        """Return the scores over all classes.

        Returns:
            ``tolerance_pixels``; ``f1_macro``, the mean over the classes that have a true boundary; and
            ``wrong``, the share of wrong pixels by the range of distances, such as ``3_to_4``. The
            last two are in 0..1, rounded to six digits; None if there is nothing to measure.
        """
        scores = (_f1(*counts) for counts in self._by_class.T.tolist())
        measured = [score for score in scores if score is not None]
        ranges = zip((-1, *DISTANCES), (*DISTANCES, None), strict=True)
        shares = zip(ranges, *self._by_distance.tolist(), strict=True)
        return {
            "tolerance_pixels": self._tolerance,
            "f1_macro": _rounded(sum(measured), len(measured)),
            "wrong": {
                _range_name(low + 1, high): _rounded(num_wrong, num_pixels)
                for (low, high), num_pixels, num_wrong in shares
            },
        }


def within(is_set: Tensor, distance: int) -> Tensor:
    """Return which pixels are at most a distance from the closest one that is set.

    Args:
        is_set: bool ``(..., h, w)``.
        distance: Euclidean, between the centres of pixels.

    Returns:
        bool ``(..., h, w)``.
    """
    height, width = is_set.shape[-2:]
    # how many pixels of the row are set on the left, so that a window of any width is a difference
    before = torch.nn.functional.pad(is_set.to(torch.int32).cumsum(dim=-1), (1, 0))
    columns = torch.arange(width, device=is_set.device)
    result = torch.zeros_like(is_set)
    for rows in range(min(distance, height - 1) + 1):
        reach = math.isqrt(distance**2 - rows**2)
        right, left = (columns + reach + 1).clamp(max=width), (columns - reach).clamp(min=0)
        in_row = before[..., right] > before[..., left]
        result[..., rows:, :] |= in_row[..., : height - rows, :]
        result[..., : height - rows, :] |= in_row[..., rows:, :]
    return result


def _boundaries(mask: Tensor, num_classes: int) -> Tensor:
    """Return the boundary of each class: int64 ``(h, w)`` -> bool ``(num_classes, h, w)``."""
    is_boundary = torch.zeros_like(mask, dtype=torch.bool)
    for dim in (0, 1):
        size = mask.shape[dim] - 1
        one, other = mask.narrow(dim, 0, size), mask.narrow(dim, 1, size)
        differ = (one != other) & (one != VOID) & (other != VOID)
        is_boundary.narrow(dim, 0, size).logical_or_(differ)
        is_boundary.narrow(dim, 1, size).logical_or_(differ)
    classes = torch.arange(num_classes, device=mask.device)[:, None, None]
    return is_boundary & (mask == classes)


def _f1(num_predicted: int, num_found: int, num_true: int, num_reached: int) -> float | None:
    if not num_true:
        return None
    if not num_found or not num_reached:
        return 0.0
    precision, recall = num_found / num_predicted, num_reached / num_true
    return 2 * precision * recall / (precision + recall)


def _range_name(low: int, high: int | None) -> str:
    if high is None:
        return f"over_{low - 1}"
    return f"{low}" if low == high else f"{low}_to_{high}"


def _rounded(total: float, number: int) -> float | None:
    return round(total / number, DIGITS) if number else None

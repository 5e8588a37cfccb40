"""Precision, recall and F1 from exact counts, for classes and for labels."""

from typing import NamedTuple

from torch import Tensor

from darkroom.metrics.digits import DIGITS


class Counts(NamedTuple):
    """The outcomes of each class in images, int64 ``(num_classes,)`` each, on the CPU."""

    true_positives: Tensor
    false_positives: Tensor
    false_negatives: Tensor
    true_negatives: Tensor

    @property
    def support(self) -> Tensor:
        """The number of images of each class."""
        return self.true_positives + self.false_negatives

    @property
    def num_predicted(self) -> Tensor:
        """The number of predictions of each class, correct or not."""
        return self.true_positives + self.false_positives


def counts_of_classes(confusion: Tensor) -> Counts:
    """Return the counts of each class against the rest.

    Args:
        confusion: int64 ``(num_classes, num_classes)``: rows are true, columns predicted classes.
    """
    counts = confusion.cpu()
    hits = counts.diagonal()
    wrong, missed = counts.sum(dim=0) - hits, counts.sum(dim=1) - hits
    return Counts(hits, wrong, missed, counts.sum() - hits - wrong - missed)


def counts_of_labels(targets: Tensor, preds: Tensor) -> Counts:
    """Return the counts of each label.

    Args:
        targets, preds: ``(n, num_labels)`` of 0 and 1.
    """
    true, predicted = targets.bool().cpu(), preds.bool().cpu()
    cases = (true & predicted, ~true & predicted, true & ~predicted, ~true & ~predicted)
    return Counts(*(case.sum(dim=0) for case in cases))


def scores_by_class(counts: Counts) -> dict[str, list[float | None]]:
    """Return ``precision``, ``recall`` and ``f1`` of each class, 0..1, rounded to six digits.

    The scores of a class without images are None, because they cannot be measured. The precision of a
    class with images that is never predicted is 0, as in scikit-learn and torchmetrics.
    """
    measurable = (counts.support > 0).tolist()
    return {
        metric: [
            round(value, DIGITS) if is_measurable else None
            for value, is_measurable in zip(_divided(*ratio).tolist(), measurable, strict=True)
        ]
        for metric, ratio in _ratios(counts).items()
    }


def averaged_scores(counts: Counts) -> dict[str, float | None]:
    """Return ``f1_macro``, ``precision_weighted`` and so on, 0..1, rounded to six digits.

    ``macro`` is the mean over the classes with images; ``weighted`` is weighted by their number of
    images; ``micro`` counts all decisions together, including those on classes without images. All are
    None if no class has images.
    """
    support = counts.support
    measurable = support > 0
    averages: dict[str, float | None] = {}
    for metric, (numerators, denominators) in _ratios(counts).items():
        values = _divided(numerators, denominators)
        for average, value in {
            "macro": values[measurable].mean(),
            "weighted": (values * support).sum() / support.sum(),
            "micro": _divided(numerators.sum(), denominators.sum()),
        }.items():
            averages[f"{metric}_{average}"] = round(float(value), DIGITS) if measurable.any() else None
    return averages


def _ratios(counts: Counts) -> dict[str, tuple[Tensor, Tensor]]:
    """Return numerators and denominators, int64 ``(num_classes,)`` each."""
    hits, wrong, missed, _ = counts
    return {
        "precision": (hits, hits + wrong),
        "recall": (hits, hits + missed),
        "f1": (2 * hits, 2 * hits + wrong + missed),
    }


def _divided(numerators: Tensor, denominators: Tensor) -> Tensor:
    """Return float64; 0 where the denominator is 0."""
    return numerators.double() / denominators.double().clamp(min=1)

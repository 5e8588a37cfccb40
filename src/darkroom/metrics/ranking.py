"""Areas under the ROC and precision-recall curves, computed by torchmetrics."""

from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from darkroom.metrics.digits import DIGITS

_RANKED = {"roc_auc": binary_auroc, "average_precision": binary_average_precision}


def ranking_areas(positive: Tensor, probabilities: Tensor) -> dict[str, list[float | None]]:
    """Return ROC AUC and average precision of each class against the rest.

    Args:
        positive: bool ``(n, num_classes)``, whether an image has the class.
        probabilities: float ``(n, num_classes)``, 0..1.

    Returns:
        ``roc_auc`` and ``average_precision``: a value in 0..1 per class, rounded to six digits; None
        for a class that all images or no images have, because there is nothing to rank.
    """
    num_positives = positive.sum(dim=0).tolist()
    return {
        metric: [
            round(float(function(probabilities[:, index], positive[:, index].long())), DIGITS)
            if 0 < num_positives[index] < len(positive)
            else None
            for index in range(positive.shape[1])
        ]
        for metric, function in _RANKED.items()
    }


def mean_area(areas: list[float | None]) -> float | None:
    """Return the mean of the areas that are defined, rounded to six digits; None if none is."""
    defined = [area for area in areas if area is not None]
    return round(sum(defined) / len(defined), DIGITS) if defined else None

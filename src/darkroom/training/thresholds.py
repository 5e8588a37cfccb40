"""From which probability on a label is predicted, where an image may have several."""

from collections.abc import Iterable

from torch import nn

from darkroom.compute.inference import compute_logits
from darkroom.loading.batches import Batch
from darkroom.metrics.multi_label import best_thresholds
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec


def choose_thresholds(
    spec: ModelSpec, model: nn.Module, val_batches: Iterable[Batch]
) -> tuple[float, ...] | None:
    """Returns for each label the threshold with the best F1 on the validation images.

    Args:
        model: the one that is kept.
        val_batches: as in training.

    Returns:
        as many as labels, each 0..1; None where an image has one label.
    """
    if not spec.multi_label:
        return None
    logits, targets = compute_logits(model, val_batches, "train.batch_size")
    probabilities = probabilities_of(logits.cpu().double(), spec.multi_label)
    return tuple(best_thresholds(targets, probabilities))

"""Runs a model over batches without learning."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from darkroom.data.batches import Batch


@torch.inference_mode()
def predict(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Computes the logits of every image.

    Returns:
        logits float32 ``(n, num_classes)`` and targets int64 ``(n,)``, on the model's device.
    """
    model.eval()
    logits, targets = [], []
    for images, batch_targets in batches:
        logits.append(model(images))
        targets.append(batch_targets)
    return torch.cat(logits), torch.cat(targets)

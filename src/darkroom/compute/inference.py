"""Runs a model over batches without learning."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from darkroom.compute.device import is_out_of_memory
from darkroom.errors import UserError
from darkroom.loading.batches import Batch


@torch.inference_mode()
def compute_logits(
    model: nn.Module, batches: Iterable[Batch], batch_size: str = "evaluate.batch_size"
) -> tuple[Tensor, Tensor]:
    """Computes the logits of every image.

    Args:
        batch_size: the parameter that says how many images are in a batch.

    Returns:
        logits float32 ``(n, num_classes)`` and targets int64 ``(n,)``, on the model's device.

    Raises:
        UserError: a batch does not fit into memory.
    """
    model.eval()
    logits, targets = [], []
    for images, batch_targets in batches:
        try:
            logits.append(model(images))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"{len(images)} images of {images.shape[2]} x {images.shape[3]} pixels at once do not "
                f"fit into the memory of {images.device}, even without learning; lower {batch_size}"
            ) from None
        targets.append(batch_targets)
    return torch.cat(logits), torch.cat(targets)

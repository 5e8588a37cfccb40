"""A model's logits or features of every image, without training."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from darkroom.compute.device import is_out_of_memory
from darkroom.compute.precision import Precision, autocast
from darkroom.errors import UserError
from darkroom.loading.batches import Batch

Outputs = tuple[Tensor, Tensor]
"""Logits, float32 ``(n, num_classes)``, and targets as in ``Batch``."""


@torch.inference_mode()
def logits_by_batch(
    model: nn.Module,
    batches: Iterable[Batch],
    batch_size: str = "evaluate.batch_size",
    precision: Precision = "float32",
) -> Iterator[Outputs]:
    """Yield the logits and targets of each batch, on the model's device.

    Args:
        batch_size: name of the parameter that sets the number of images per batch, for messages.

    Raises:
        UserError: a batch does not fit into memory.
    """
    model.eval()
    for images, targets in batches:
        try:
            with autocast(images.device, precision):
                # a copy, because a recorded CUDA graph returns the same memory each time
                logits = model(images).clone()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"{len(images)} images of {images.shape[2]} x {images.shape[3]} pixels at once do not "
                f"fit into the memory of {images.device}, even without training; lower {batch_size}"
            ) from None
        yield logits if precision == "float32" else logits.float(), targets


def compute_logits(
    model: nn.Module,
    batches: Iterable[Batch],
    batch_size: str = "evaluate.batch_size",
) -> Outputs:
    """Return the logits and targets of all images at once; see ``logits_by_batch``."""
    return joined(logits_by_batch(model, batches, batch_size))


def joined(outputs: Iterable[Outputs]) -> Outputs:
    """Return the outputs of several batches as those of one."""
    logits, targets = zip(*outputs, strict=True)
    return torch.cat(logits), torch.cat(targets)


def mirrored(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches with the mirror image of each image."""
    for images, targets in batches:
        # in the layout of the images, because kernels depend on it
        yield images.permute(0, 2, 3, 1).flip(2).permute(0, 3, 1, 2), targets

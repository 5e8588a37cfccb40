"""Features of a frozen backbone, computed once instead of in every epoch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darkroom.compute.inference import compute_features
from darkroom.loading.batches import Batch, Batches
from darkroom.models.classifier import Classifier
from darkroom.progress import progress_bar

MAX_BYTES = 2**30
"""Features of a split that take more memory are computed anew in each epoch."""

Watch = Callable[[Iterable[Batch]], Iterable[Batch]]


class Head(nn.Module):
    """The head of a classifier as a module that shares its weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        assert isinstance(model, Classifier)
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        """features ``(n, C, h, w)`` -> logits ``(n, num_classes)``."""
        return self.model.network.head(features)


@dataclass(frozen=True)
class Features:
    """Batches of features instead of images."""

    train: Batches | None
    """None if the images differ between epochs, or their features take too much memory."""
    val: Batches


def precompute_features(
    model: Classifier, train: Batches, val: Batches, changes_images: bool, watch: Watch
) -> Features | None:
    """Return the features of a backbone that stays frozen for the whole training.

    They are the ones that the backbone would compute in each epoch, because a frozen backbone works in
    evaluation mode (see ``set_trainable``).

    Args:
        changes_images: whether training images are augmented.
        watch: receives the batches of images and yields them unchanged.

    Returns:
        None if the features of the validation images would take more than ``MAX_BYTES``.

    Raises:
        UserError: a batch does not fit into memory.
    """
    bytes_per_image = _bytes_per_image(model, next(iter(val))[0][:1])
    if bytes_per_image * val.num_images > MAX_BYTES:
        return None
    has_train = not changes_images and bytes_per_image * train.num_images <= MAX_BYTES
    num_images = val.num_images + has_train * train.num_images
    with progress_bar("train: features", num_images) as bar:

        def computed(batches: Batches) -> Batches:
            features = compute_features(model, bar.count(watch(batches)), "train.batch_size")
            return batches.with_features(features.clone())  # inference tensors cannot be trained on

        return Features(computed(train) if has_train else None, computed(val))


def _bytes_per_image(model: Classifier, image: Tensor) -> int:
    model.eval()
    with torch.no_grad():
        return model.features(image).nbytes

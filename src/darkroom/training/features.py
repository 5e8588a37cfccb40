"""Features of a backbone that does not learn: computed once, instead of once per epoch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darkroom.compute.inference import compute_logits
from darkroom.loading.batches import Batch, Batches
from darkroom.models.classifier import Classifier
from darkroom.progress import progress_bar

LARGEST_BYTES = 2**30
"""Features of a split that take more memory are computed anew in each epoch."""

Watch = Callable[[Iterable[Batch]], Iterable[Batch]]


class Body(nn.Module):
    """A classifier without its head, with which it shares its weights."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """uint8 ``(n, channels, height, width)`` -> features ``(n, C, h, w)`` or ``(n, C)``."""
        return self.model.features(images)


class Head(nn.Module):
    """The head of a classifier, with which it shares its weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        assert isinstance(model, Classifier)
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        """features ``(n, C, h, w)`` -> logits ``(n, num_classes)``."""
        return self.model.network.head(features)


@dataclass(frozen=True)
class Features:
    """Batches with features in place of images."""

    train: Batches | None
    """None: the images differ from epoch to epoch, or their features take too much memory."""
    val: Batches


def compute_features(
    model: Classifier, train: Batches, val: Batches, changes_images: bool, watch: Watch
) -> Features | None:
    """Computes the features of a backbone that is frozen for the whole training.

    They are those that the backbone would give in each epoch, since it works in training as it does when
    the model is used (``set_trainable``).

    Args:
        changes_images: whether training images are augmented.
        watch: passes on the batches of images.

    Returns:
        None if the features of the validation images would take more than ``LARGEST_BYTES``.

    Raises:
        UserError: a batch does not fit into memory.
    """
    bytes_per_image = _bytes_per_image(model, next(iter(val))[0][:1])
    if bytes_per_image * val.num_images > LARGEST_BYTES:
        return None
    has_train = not changes_images and bytes_per_image * train.num_images <= LARGEST_BYTES
    num_images = val.num_images + has_train * train.num_images
    with progress_bar("train: features", num_images) as bar:

        def computed(batches: Batches) -> Batches:
            seen = bar.count(watch(batches))
            features, _ = compute_logits(Body(model), seen, "train.batch_size")
            return batches.with_features(features.clone())  # a tensor that a head can learn from

        return Features(computed(train) if has_train else None, computed(val))


def _bytes_per_image(model: Classifier, image: Tensor) -> int:
    model.eval()
    with torch.no_grad():
        return model.features(image).nbytes

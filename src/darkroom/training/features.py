"""Training on the features of a frozen backbone instead of on images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from darkroom.features.extractor import Extractor, View, Wanted
from darkroom.loading.batches import Batches
from darkroom.loading.placement import Features
from darkroom.models.classifier import Classifier
from darkroom.models.network import Network

SHARED_FROM = 5_000_000
"""Floating-point operations of a step from which a second thread makes it faster (decision 69)."""


class OnFeatures(nn.Module):
    """A classifier that takes features in place of images, too, and shares its weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        assert isinstance(model, Classifier)
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Images, or float32 features ``(n, num_features)`` -> logits ``(n, num_classes)``."""
        if inputs.ndim == 4:
            return self.model(inputs)
        return self.model.network.head.classify(inputs)


def head_alone(model: Classifier) -> Classifier:
    """Return a classifier with the same head and no backbone, whose weights need not be copied."""
    mean, std = (buffer.flatten().tolist() for buffer in (model.mean, model.std))
    network = Network(nn.Identity(), model.network.head)
    return Classifier(network, mean, std).to(model.mean.device)


def useful_threads(head: nn.Module, batch_size: int, num_threads: int) -> int:
    """Return the number of threads, at most ``num_threads``, for training steps of a head alone.

    Each weight takes part in six operations per image: two forward and four backward.
    """
    num_weights = sum(parameter.numel() for parameter in head.parameters())
    return num_threads if 6 * num_weights * batch_size >= SHARED_FROM else 1


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of features, which replace images while the backbone is frozen."""

    train: list[Batches]
    """One per view; epoch ``e`` uses view ``e mod len(train)``. Empty if images differ in each epoch."""
    val: Batches
    tables: list[Features]
    """The features of the training images, one table per view."""

    def of_part(self, train: Batches, rows: NDArray[np.int64]) -> "FeatureBatches":
        """Return the features of ``train``, whose images are those at ``rows``."""
        tables = [table[rows] for table in self.tables]
        return FeatureBatches([train.with_features(table) for table in tables], self.val, tables)


def load_features(
    extractor: Extractor, train: Batches, val: Batches, train_views: list[View]
) -> FeatureBatches:
    """Return the features of both splits, computed if they are not in the cache.

    Raises:
        UserError, OSError: see ``Extractor.features``.
    """
    wanted = [Wanted(val), *(Wanted(train, view) for view in train_views)]
    of_val, *of_train = extractor.features(wanted, "train")
    batches = [train.with_features(rows) for rows in of_train]
    return FeatureBatches(batches, val.with_features(of_val), of_train)

"""Heads, which compute logits from features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.models.backbones.layers import BatchNorm1d, Dropout

HIDDEN_UNITS = 512


def average(features: Tensor) -> Tensor:
    """float ``(n, C, h, w)`` or ``(n, C)`` -> ``(n, C)``."""
    # AdaptiveAvgPool2d has no deterministic backward on CUDA
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


class Head(nn.Module, ABC):
    """Computes logits from features in two parts, of which only the second has weights."""

    pooling: ClassVar[str]
    """The name of what ``pool`` does."""

    @property
    @abstractmethod
    def num_inputs(self) -> int:
        """The length of the vectors that ``pool`` returns."""

    @abstractmethod
    def pool(self, features: Tensor) -> Tensor:
        """float ``(n, C, h, w)`` or ``(n, C)`` -> ``(n, num_inputs)``."""

    @abstractmethod
    def classify(self, vectors: Tensor) -> Tensor:
        """float ``(n, num_inputs)`` -> logits ``(n, num_classes)``."""

    def forward(self, features: Tensor) -> Tensor:
        """float ``(n, C, h, w)`` or ``(n, C)`` -> logits ``(n, num_classes)``."""
        return self.classify(self.pool(features))


class AveragingHead(Head):
    """A head whose pooling is the average over positions."""

    pooling = "average"

    def pool(self, features: Tensor) -> Tensor:
        return average(features)


class LinearHead(AveragingHead):
    """Average pooling, dropout and a linear layer."""

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)

    @property
    def num_inputs(self) -> int:
        return self.linear.in_features

    def classify(self, vectors: Tensor) -> Tensor:
        return self.linear(self.dropout(vectors))


class MLPHead(AveragingHead):
    """Average pooling and a hidden layer with as many units as there are features."""

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, num_features)
        self.relu = nn.ReLU()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)

    @property
    def num_inputs(self) -> int:
        return self.hidden.in_features

    def classify(self, vectors: Tensor) -> Tensor:
        return self.linear(self.dropout(self.relu(self.hidden(vectors))))


class ConcatPoolHead(Head):
    """Average and maximum pooling, concatenated, then two layers with batch normalisation.

    The head of fast.ai's vision learners (Howard and Gugger, "fastai: A Layered API for Deep
    Learning", 2020).
    """

    pooling = "average and maximum"

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            BatchNorm1d(2 * num_features),
            Dropout(dropout),
            nn.Linear(2 * num_features, HIDDEN_UNITS),
            nn.ReLU(),
            BatchNorm1d(HIDDEN_UNITS),
            Dropout(dropout),
            nn.Linear(HIDDEN_UNITS, num_classes),
        )

    @property
    def num_inputs(self) -> int:
        return self.layers[0].num_features  # type: ignore[return-value]

    def pool(self, features: Tensor) -> Tensor:
        return torch.cat([average(features), features.amax(dim=(2, 3))], dim=1)

    def classify(self, vectors: Tensor) -> Tensor:
        return self.layers(vectors)


class PixelHead(AveragingHead):
    """Dropout and a linear layer for each pixel of a map, as a 1 x 1 convolution.

    Logits of maps that are ``factor`` times smaller than the image are enlarged to its size (bilinear,
    as in torchvision's networks for masks). Of a vector, which averages the pixels of an image, it
    computes the logits of that average.
    """

    def __init__(self, num_features: int, num_classes: int, dropout: float, factor: int = 1) -> None:
        super().__init__()
        self.factor = factor
        self.dropout = nn.Dropout2d(dropout)
        self.linear = nn.Conv2d(num_features, num_classes, kernel_size=1)

    @property
    def num_inputs(self) -> int:
        return self.linear.in_channels

    def classify(self, vectors: Tensor) -> Tensor:
        return self.linear(vectors[:, :, None, None])[:, :, 0, 0]

    def forward(self, features: Tensor) -> Tensor:
        """float ``(n, C, h, w)`` -> logits ``(n, num_classes, factor * h, factor * w)``."""
        logits = self.linear(self.dropout(features))
        if self.factor == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.factor, mode="bilinear", align_corners=False)


HEADS: dict[str, type[Head]] = {
    "linear": LinearHead,
    "mlp": MLPHead,
    "concat_pool": ConcatPoolHead,
}


def make_head(
    name: str, model_name: str, feature_shape: Sequence[int], num_classes: int, dropout: float
) -> Head:
    """Return the head called ``name`` for features of shape ``(C, h, w)`` or ``(C,)``.

    Raises:
        UserError: the head pools a map of features, and the model has none.
    """
    if name == "concat_pool" and len(feature_shape) != 3:
        raise no_map(model_name)
    return HEADS[name](feature_shape[0], num_classes, dropout)


def no_map(model_name: str) -> UserError:
    """Return the error for a head that pools maps, which ``model_name`` does not have."""
    return UserError(
        f"model.head: concat_pool pools maps of features, and {model_name} has none; take linear or mlp"
    )

"""Heads, which compute logits from features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.models.backbones.layers import BatchNorm1d

HIDDEN_UNITS = 512


def average(features: Tensor) -> Tensor:
    """float ``(n, C, h, w)`` or ``(n, C)`` -> ``(n, C)``."""
    # AdaptiveAvgPool2d has no deterministic backward on CUDA
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


class LinearHead(nn.Module):
    """Average pooling, dropout and a linear layer."""

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """float ``(n, C, h, w)`` or ``(n, C)`` -> logits ``(n, num_classes)``."""
        return self.linear(self.dropout(average(features)))


class MLPHead(nn.Module):
    """Average pooling and a hidden layer with as many units as there are features."""

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, num_features)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """float ``(n, C, h, w)`` or ``(n, C)`` -> logits ``(n, num_classes)``."""
        return self.linear(self.dropout(self.relu(self.hidden(average(features)))))


class ConcatPoolHead(nn.Module):
    """Average and maximum pooling, concatenated, then two layers with batch normalisation.

    The head of fast.ai's vision learners (Howard and Gugger, "fastai: A Layered API for Deep
    Learning", 2020).
    """

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            BatchNorm1d(2 * num_features),
            nn.Dropout(dropout),
            nn.Linear(2 * num_features, HIDDEN_UNITS),
            nn.ReLU(),
            BatchNorm1d(HIDDEN_UNITS),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN_UNITS, num_classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """float ``(n, C, h, w)`` -> logits ``(n, num_classes)``."""
        return self.layers(torch.cat([average(features), features.amax(dim=(2, 3))], dim=1))


HEADS: dict[str, type[nn.Module]] = {
    "linear": LinearHead,
    "mlp": MLPHead,
    "concat_pool": ConcatPoolHead,
}


def make_head(
    name: str, model_name: str, feature_shape: Sequence[int], num_classes: int, dropout: float
) -> nn.Module:
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

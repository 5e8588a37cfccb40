"""A classifier from raw pixels to logits, with the normalisation inside."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from darkroom.models.network import Network
from darkroom.models.spec import ModelSpec
from darkroom.models.targets.interface import model_target
from darkroom.models.unfamiliarity import Unfamiliarity


class Classifier(nn.Module):
    """Normalise raw pixels and pass them to a network. Rows of a table are normalised by the network.

    ``mean`` and ``std`` have one value per channel, or three for grey images if the network was trained
    on RGB images, and none for rows. Train, evaluate and every exported format run this module, so
    their preprocessing cannot differ.
    """

    unfamiliarity: Unfamiliarity | None
    """How much an image differs from the training images; None before the training has ended, or if
    there are too few validation images to choose the threshold."""

    def __init__(self, network: Network, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.unfamiliarity = None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images.

        Args:
            images: uint8 or float ``(n, channels, height, width)``, 0..255.

        Returns:
            float ``(n, num_classes)``.
        """
        return self.network(self._normalised(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the features from which the head computes logits.

        Args:
            images: as in ``forward``.

        Returns:
            float, a map ``(n, C, h, w)`` or a vector ``(n, C)``.
        """
        return self.network.features(self._normalised(images))

    def vectors(self, images: Tensor) -> Tensor:
        """Return the features as vectors: pooled by the head, float ``(n, num_inputs of the head)``."""
        return self.network.head.pool(self.features(images))

    def assess(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits of images and their unfamiliarity, in one pass.

        Args:
            images: as in ``forward``.

        Returns:
            float ``(n, num_classes)``; float ``(n,)``, or None if the model does not measure it.
        """
        features = self.features(images)
        logits = self.network.head(features)
        if self.unfamiliarity is None:
            return logits, None
        return logits, self.unfamiliarity(self.network.head.pool(features))

    def _normalised(self, images: Tensor) -> Tensor:
        if not self.mean.numel():
            return images
        return (images.float() / 255 - self.mean) / self.std


def probabilities_of(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Return the calibrated probabilities that a model's logits stand for.

    Args:
        logits: float ``(n, num_classes)``.
        spec: has the kind of target and the temperature of the logits.

    Returns:
        float ``(n, num_classes)`` in 0..1: independent probabilities of labels, or probabilities of
        classes, which sum to 1 in each row.
    """
    if any(value != 1 for value in spec.temperature):
        logits = logits / torch.tensor(spec.temperature, dtype=logits.dtype, device=logits.device)
    return model_target(spec.target).probabilities(logits)

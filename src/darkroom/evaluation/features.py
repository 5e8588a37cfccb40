"""What a baseline is fitted on: a vector per image, of small grey pixels or of a frozen backbone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darkroom.models.classifier import Classifier
from darkroom.models.heads import average
from darkroom.models.trainable import in_head, parameters_by_name, trainable_in

SIDE = 16
"""Maximum side of a grey picture, in pixels."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


class Features(Protocol):
    """Makes a vector of each image."""

    @property
    def name(self) -> str:
        """As in metrics.json: a key of ``metrics.remarks.FEATURES``."""
        ...

    def of(self, images: Tensor) -> Tensor:
        """Return vectors of images.

        Args:
            images: uint8 ``(n, channels, height, width)``, 0..255, on the model's device.

        Returns:
            float32 ``(n, num_features)``.
        """
        ...

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        """Hand the vectors of each batch that the model classifies within the block to ``take``."""
        ...


class GreyPixels:
    """The image in grey, 0..1, reduced to at most 16 x 16 pixels by averaging."""

    name = "pixels"

    def __init__(self, model: Classifier) -> None:
        self._model = model

    @torch.inference_mode()
    def of(self, images: Tensor) -> Tensor:
        pixels = images.float() / 255
        if pixels.shape[1] == 3:
            weights = torch.tensor(LUMA, device=images.device).reshape(1, 3, 1, 1)
            pixels = (pixels * weights).sum(dim=1, keepdim=True)
        height, width = pixels.shape[2:]
        return F.adaptive_avg_pool2d(pixels, (min(height, SIDE), min(width, SIDE))).flatten(1)

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        with _on_inputs_of(self._model, lambda images: take(self.of(images))):
            yield


class BackboneFeatures:
    """What the model's backbone makes of an image; a map of features is averaged over its places."""

    name = "backbone"

    def __init__(self, model: Classifier) -> None:
        self._model = model

    @torch.inference_mode()
    def of(self, images: Tensor) -> Tensor:
        return average(self._model.features(images))

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        head = self._model.get_submodule("network.head")
        with _on_inputs_of(head, lambda features: take(average(features))):
            yield


def features_of(model: Classifier, training: Mapping[str, Any]) -> Features:
    """Return the backbone's features if the training never changed the backbone, else grey pixels.

    Args:
        model: on its device, in evaluation mode.
        training: what the model file records of its training.
    """
    kind = BackboneFeatures if _is_frozen(model, training) else GreyPixels
    return kind(model)


def _is_frozen(model: nn.Module, training: Mapping[str, Any]) -> bool:
    """Whether only the head learned in every epoch; what has begun to learn never stops."""
    freeze = training.get("train.freeze", "none")
    if freeze == "none":
        return False
    unfreeze = [(entry["epoch"], entry["layers"]) for entry in training.get("train.unfreeze", [])]
    last_epoch = training["train.epochs"]
    return all(map(in_head, trainable_in(last_epoch, parameters_by_name(model), freeze, unfreeze)))


@contextmanager
def _on_inputs_of(module: nn.Module, take: Callable[[Tensor], None]) -> Iterator[None]:
    hook = module.register_forward_pre_hook(lambda _, inputs: take(inputs[0]))
    try:
        yield
    finally:
        hook.remove()

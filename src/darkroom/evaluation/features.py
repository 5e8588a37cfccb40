"""Feature vectors for the baseline: small grey pixels, rows, or the features of a frozen backbone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darkroom.compute.environment import describe_environment
from darkroom.dataset.shards import Shards
from darkroom.features.extractor import Extractor, Wanted
from darkroom.features.store import Store
from darkroom.loading.batches import Batches
from darkroom.loading.placement import Features
from darkroom.models.classifier import Classifier
from darkroom.models.heads import AveragingHead, average
from darkroom.models.rows import row_input
from darkroom.models.spec import ModelSpec
from darkroom.models.trainable import in_head, parameters_by_name, trainable_in

SIDE = 16
"""Maximum side of the reduced grey image in pixels."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


class FeatureExtractor(Protocol):
    """Computes a feature vector per image."""

    @property
    def name(self) -> str:
        """The name in metrics.json, a key of ``metrics.remarks.FEATURES``."""
        ...

    def extract(self, images: Tensor) -> Tensor:
        """Return the feature vectors of images.

        Args:
            images: uint8 ``(n, channels, height, width)``, 0..255, on the model's device.

        Returns:
            float32 ``(n, num_features)``.
        """
        ...

    def of_splits(self, splits: Sequence[Shards]) -> list[Features] | None:
        """Return the feature vectors of whole splits, or None if they are not kept in the cache."""
        ...

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        """Pass the vectors of each batch that the model classifies in the block to ``take``."""
        ...


class GreyPixels:
    """The image in grey, 0..1, averaged down to at most 16 x 16 pixels."""

    name = "pixels"

    def __init__(self, model: Classifier) -> None:
        self._model = model

    @torch.inference_mode()
    def extract(self, images: Tensor) -> Tensor:
        pixels = images.float() / 255
        if pixels.shape[1] == 3:
            weights = torch.tensor(LUMA, device=images.device).reshape(1, 3, 1, 1)
            pixels = (pixels * weights).sum(dim=1, keepdim=True)
        height, width = pixels.shape[2:]
        return F.adaptive_avg_pool2d(pixels, (min(height, SIDE), min(width, SIDE))).flatten(1)

    def of_splits(self, splits: Sequence[Shards]) -> None:
        return None

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        with on_inputs_of(self._model, lambda images: take(self.extract(images))):
            yield


class RowValues:
    """The values of rows as the model's first layer standardises them."""

    name = "row"

    def __init__(self, model: Classifier, spec: ModelSpec) -> None:
        assert spec.encoding is not None
        self._model = model
        self._standardise = row_input(spec.encoding, one_hot=True).to(model.mean.device)

    @torch.inference_mode()
    def extract(self, images: Tensor) -> Tensor:
        return self._standardise(images)

    def of_splits(self, splits: Sequence[Shards]) -> None:
        return None

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        with on_inputs_of(self._model, lambda rows: take(self.extract(rows))):
            yield


class BackboneFeatures:
    """The features of the model's backbone; feature maps are averaged over their positions.

    Args:
        cached: computes such features, or reads those that train has computed.
    """

    name = "backbone"

    def __init__(self, model: Classifier, cached: Extractor | None = None) -> None:
        self._model = model
        self._cached = cached

    @torch.inference_mode()
    def extract(self, images: Tensor) -> Tensor:
        return average(self._model.features(images))

    def of_splits(self, splits: Sequence[Shards]) -> list[Features] | None:
        if self._cached is None:
            return None
        device = self._model.mean.device
        wanted = [Wanted(Batches(split, device, batch_size=1)) for split in splits]
        return self._cached.features(wanted, "evaluate")

    @contextmanager
    def passed_to(self, take: Callable[[Tensor], None]) -> Iterator[None]:
        head = self._model.get_submodule("network.head")
        with on_inputs_of(head, lambda features: take(average(features))):
            yield


def make_extractor(model: Classifier, spec: ModelSpec, store: Store) -> FeatureExtractor:
    """Return the extractor of backbone features if training left the backbone unchanged, else of pixels.

    Of rows, it is that of their values.

    Args:
        model: on its device, in evaluation mode.
        spec: of the model file.
        store: of features that were computed before.
    """
    if spec.encoding is not None:
        return RowValues(model, spec)
    if not _is_frozen(model, spec.training):
        return GreyPixels(model)
    if not isinstance(model.network.head, AveragingHead):
        return BackboneFeatures(model)  # the cache has what the head's own pooling returns
    environment = describe_environment(model.mean.device)
    return BackboneFeatures(model, Extractor(model, spec, environment, store))


def _is_frozen(model: nn.Module, training: Mapping[str, Any]) -> bool:
    """Whether only the head was trained; layers that are unfrozen once stay unfrozen to the end."""
    freeze = training.get("train.freeze", "none")
    if freeze == "none":
        return False
    unfreeze = [(entry["epoch"], entry["layers"]) for entry in training.get("train.unfreeze", [])]
    last_epoch = training["train.epochs"]
    return all(map(in_head, trainable_in(last_epoch, parameters_by_name(model), freeze, unfreeze)))


@contextmanager
def on_inputs_of(module: nn.Module, take: Callable[[Tensor], None]) -> Iterator[None]:
    """Pass the input of each call of a module in the block to ``take``."""
    hook = module.register_forward_pre_hook(lambda _, inputs: take(inputs[0]))
    try:
        yield
    finally:
        hook.remove()

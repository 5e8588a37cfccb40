"""Training with masks: targets are uint8 ``(n, h, w)``, the class of each pixel, or ``VOID``."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from darkroom.compute.inference import Outputs
from darkroom.errors import UserError
from darkroom.metrics.confusion import accuracy, macro_f1
from darkroom.metrics.pixels import PixelCounter
from darkroom.metrics.temperature import fit_temperature
from darkroom.models.spec import ModelSpec
from darkroom.training.losses import LossFunction
from darkroom.training.mask_losses import dice, mean_over_pixels, summed
from darkroom.training.scores import Scores
from darkroom.training.targets import one_class
from darkroom.training.uncertainty import standard_error_of_pixels
from darkroom.void import VOID

if TYPE_CHECKING:
    from darkroom.config.augment import Augment
    from darkroom.config.train import Train

measures_unfamiliarity = False

MAX_PIXELS = 1024
"""Maximum number of pixels of an image that the temperature is fitted to; neighbours tell the same."""


def check(options: "Train", num_classes: int) -> None:
    if options.loss == "bce" and num_classes != 2:
        raise UserError(
            f"train.loss: bce needs two classes, and these masks have {num_classes}; use cross_entropy, "
            "focal or dice"
        )
    if options.freeze == "backbone":
        raise UserError(
            "train.freeze: backbone keeps one vector of features per image, and these images have masks;"
            " use none, or a list of name patterns"
        )
    if options.sampling == "balanced":
        raise UserError(
            "train.sampling: balanced needs one class per image, and these images have masks; use "
            "natural, with train.class_weights: balanced for rare classes"
        )


def check_augment(augment: "Augment") -> None:
    for name, reason in _UNFIT.items():
        if value := getattr(augment, name):
            off = "[]" if isinstance(value, list) else "null"
            shown = value if isinstance(value, str | float) else "these transforms"
            raise UserError(
                f"augment.{name}: {shown} {reason}, and the images of this data set have masks; it must "
                f"be {off}"
            )


_UNFIT = {
    "policy": "may move an image without its mask",
    "transforms": "may move an image without its mask",
    "mixup": "mixes the labels of whole images",
    "cutmix": "mixes the labels of whole images",
}


def balanced_weights(counts: Sequence[int], num_images: int) -> list[float]:
    return one_class.balanced_weights(counts, num_images)


def scaled_weights(weights: Tensor, counts: Sequence[int]) -> Tensor:
    return one_class.scaled_weights(weights, counts)


def losses(weight: Tensor | None, smoothing: float, gamma: float | None) -> dict[str, LossFunction]:
    """Return the losses of pixels as means over an image, the Dice loss, and their sums."""
    of_pixels = one_class.losses(weight, smoothing, gamma)
    of_images = {name: mean_over_pixels(loss) for name, loss in of_pixels.items()}
    sums = {f"{name}+dice": summed([of_images[name], dice]) for name in ("cross_entropy", "focal")}
    return {**of_images, "dice": dice, **sums}


def example(num_classes: int) -> tuple[Tensor, Tensor]:
    masks = (torch.arange(3 * 4 * 4) % num_classes).reshape(3, 4, 4).to(torch.uint8)
    masks[0] = VOID  # an image without any class
    masks[1, 0] = VOID
    return one_class.example_logits(3, num_classes, 4, 4), masks


def divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the mean over all pixels, void ones too: the teacher has an opinion on them."""
    return one_class.divergence(logits, teacher_logits).mean(dim=(1, 2))


def scores(outputs: Iterable[Outputs], seed: int) -> Scores:
    """Return the scores over all pixels that are not void."""
    of_images = mean_over_pixels(one_class.losses(None, 0, None)["cross_entropy"])
    total, counter = 0.0, None
    for logits, targets in outputs:
        counter = counter or PixelCounter(logits.shape[1])
        counter.add(targets, logits.argmax(dim=1))
        total += float(of_images(logits, targets).double().sum())
    assert counter is not None
    counts = counter.result()
    return Scores(
        total / len(counts.support),
        accuracy(counts.confusion),
        macro_f1(counts.confusion),
        standard_error_of_pixels(counts, seed),
    )


def calibrated(spec: ModelSpec, outputs: Iterable[Outputs]) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the spec with a temperature, and the counted pixels of each image."""
    counter, samples = PixelCounter(len(spec.class_names)), []
    for logits, targets in outputs:
        counter.add(targets, logits.argmax(dim=1))
        samples += [_sample(*image) for image in zip(logits, targets, strict=True)]
    logits, targets = (torch.cat(parts) for parts in zip(*samples, strict=True))
    temperature = fit_temperature(logits.double().numpy(), targets.long().numpy())
    counts = counter.result()
    support, hits = counts.support.sum(dim=1), counts.hits.sum(dim=1)
    return replace(spec, temperature=(temperature,), thresholds=None), {
        "accuracy": np.divide(hits, support, out=np.full(len(hits), np.nan), where=support > 0),
        **{name: list(getattr(counts, name).numpy()) for name in ("support", "hits", "predicted")},
    }


def _sample(logits: Tensor, targets: Tensor) -> Outputs:
    """Return the logits ``(m, num_classes)`` and the classes of evenly spaced pixels of an image."""
    positions = (targets.flatten() != VOID).nonzero()[:, 0]
    positions = positions[:: -(-len(positions) // MAX_PIXELS) or 1]
    return logits.flatten(1)[:, positions].T, targets.flatten()[positions]

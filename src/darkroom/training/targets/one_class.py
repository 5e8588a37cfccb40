"""Training with one class per image: targets are int64 ``(n,)``."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from darkroom.compute.inference import Outputs, joined
from darkroom.errors import UserError
from darkroom.metrics.confusion import accuracy, confusion_matrix, macro_f1
from darkroom.metrics.temperature import fit_temperature
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.training.losses import LossFunction, focal_term
from darkroom.training.scores import Scores
from darkroom.training.uncertainty import standard_error_of_classes

if TYPE_CHECKING:
    from darkroom.config.augment import Augment
    from darkroom.config.train import Train

measures_unfamiliarity = True


def check(options: "Train", num_classes: int) -> None:
    if "dice" in options.loss.split("+"):
        raise UserError(f"train.loss: {options.loss} needs masks; use cross_entropy or focal")
    if options.loss == "bce" and num_classes != 2:
        raise UserError(
            f"train.loss: bce needs two classes or several labels, and this dataset has "
            f"{num_classes} classes and one label each; use cross_entropy or focal"
        )


def check_augment(augment: "Augment") -> None:
    """Check nothing: a label holds for an image however it is changed."""


def balanced_weights(counts: Sequence[int], num_images: int) -> list[float]:
    """Return ``n / (num_classes * count)``, like scikit-learn's ``class_weight="balanced"``.

    The weight of a class without images is 1.
    """
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def scaled_weights(weights: Tensor, counts: Sequence[int]) -> Tensor:
    """Return weights whose mean over the training images is 1.

    So they do not change the scale of the learning rate.
    """
    num_by_class = torch.tensor(counts, dtype=torch.float64)
    return (weights * num_by_class.sum() / (weights * num_by_class).sum()).float()


def losses(weight: Tensor | None, smoothing: float, gamma: float | None) -> dict[str, LossFunction]:
    def select_targets(per_class: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, given the loss for each class as the target: ``(n, num_classes)``."""
        if weight is not None:
            per_class = per_class * weight
        own = per_class.gather(1, targets[:, None])[:, 0]
        return own if smoothing == 0 else (1 - smoothing) * own + smoothing * per_class.mean(dim=1)

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, targets, weight=weight, reduction="none", label_smoothing=smoothing
        )

    def nll(logits: Tensor, targets: Tensor) -> Tensor:
        return select_targets(-logits.log_softmax(dim=1), targets)

    def focal(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        return select_targets(focal_term(logits.log_softmax(dim=1), gamma), targets)

    def bce(logits: Tensor, targets: Tensor) -> Tensor:
        # the softmax of two logits is the sigmoid of their difference
        difference = logits[:, 1] - logits[:, 0]
        return select_targets(-F.logsigmoid(torch.stack((-difference, difference), dim=1)), targets)

    return {"cross_entropy": cross_entropy, "nll": nll, "focal": focal, "bce": bce}


def example(num_classes: int) -> tuple[Tensor, Tensor]:
    return example_logits(3, num_classes), torch.arange(3) % num_classes


def example_logits(*shape: int) -> Tensor:
    """Return plausible logits of a shape; they are always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    log_p, teacher_log_p = logits.log_softmax(dim=1), teacher_logits.log_softmax(dim=1)
    return F.kl_div(log_p, teacher_log_p, reduction="none", log_target=True).sum(dim=1)


def scores(outputs: Iterable[Outputs], seed: int) -> Scores:
    logits, targets = joined(outputs)
    loss = F.cross_entropy(logits.cpu().double(), targets.cpu())
    preds, num_classes = logits.argmax(dim=1), logits.shape[1]
    confusion = confusion_matrix(targets, preds, num_classes)
    error = standard_error_of_classes(targets, preds, num_classes, seed)
    return Scores(float(loss), accuracy(confusion), macro_f1(confusion), error)


def calibrated(spec: ModelSpec, outputs: Iterable[Outputs]) -> tuple[ModelSpec, dict[str, Any]]:
    logits, targets = joined(outputs)
    temperature = fit_temperature(logits.double().numpy(), targets.numpy())
    spec = replace(spec, temperature=(temperature,), thresholds=None)
    probabilities = probabilities_of(logits.double(), spec)
    names, best = np.array(spec.class_names, dtype=object), probabilities.max(dim=1)
    return spec, {
        "label": names[targets.numpy()],
        "pred": names[best.indices.numpy()],
        "correct": (best.indices == targets).numpy(),
        "probability": best.values.float().numpy(),
        "label_probability": probabilities[torch.arange(len(targets)), targets].float().numpy(),
    }

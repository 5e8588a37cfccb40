"""Training with any number of labels per image: targets are ``(n, num_classes)`` of 0 and 1."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from darkroom.compute.inference import Outputs, joined
from darkroom.errors import UserError
from darkroom.metrics.multi_label import best_thresholds, exact_matches, labels_at, macro_f1_of_labels
from darkroom.metrics.temperature import fit_temperatures
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.training.losses import LossFunction, focal_term
from darkroom.training.scores import Scores
from darkroom.training.targets.one_class import example_logits
from darkroom.training.uncertainty import standard_error_of_labels

if TYPE_CHECKING:
    from darkroom.config.augment import Augment
    from darkroom.config.train import Train

measures_unfamiliarity = True


def check(options: "Train", num_classes: int) -> None:
    if "dice" in options.loss.split("+"):
        raise UserError(f"train.loss: {options.loss} needs masks; use bce or focal")
    if options.loss in ("cross_entropy", "nll"):
        raise UserError(
            f"train.loss: {options.loss} needs one label per image, and these images may have several; "
            "use bce or focal"
        )
    if options.sampling == "balanced":
        raise UserError(
            "train.sampling: balanced needs one label per image, and these images may have several; use "
            "natural, with train.class_weights: balanced for rare labels"
        )


def check_augment(augment: "Augment") -> None:
    """Check nothing: a label holds for an image however it is changed."""


def balanced_weights(counts: Sequence[int], num_images: int) -> list[float]:
    """Return negatives per positive; a label of no image or of all images cannot be balanced."""
    return [(num_images - count) / count if 0 < count < num_images else 1.0 for count in counts]


def scaled_weights(weights: Tensor, counts: Sequence[int]) -> Tensor:
    return weights


def losses(weight: Tensor | None, smoothing: float, gamma: float | None) -> dict[str, LossFunction]:
    def bce(logits: Tensor, targets: Tensor) -> Tensor:
        positive = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(
            logits, positive, pos_weight=weight, reduction="none"
        ).mean(dim=1)

    def focal(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        positive = targets * (1 - smoothing) + smoothing / 2
        if_positive = focal_term(F.logsigmoid(logits), gamma)
        if_negative = focal_term(F.logsigmoid(-logits), gamma)
        if weight is not None:
            if_positive = if_positive * weight
        return (positive * if_positive + (1 - positive) * if_negative).mean(dim=1)

    return {"bce": bce, "focal": focal}


def example(num_classes: int) -> tuple[Tensor, Tensor]:
    present = torch.arange(3)[:, None] > torch.arange(num_classes)  # no label, one label, two labels
    return example_logits(3, num_classes), present.to(torch.uint8)


def divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    def of(logits: Tensor, teacher_logits: Tensor) -> Tensor:
        log_p, teacher_log_p = F.logsigmoid(logits), F.logsigmoid(teacher_logits)
        return F.kl_div(log_p, teacher_log_p, reduction="none", log_target=True)

    is_present, is_absent = of(logits, teacher_logits), of(-logits, -teacher_logits)
    return (is_present + is_absent).mean(dim=1)


def scores(outputs: Iterable[Outputs], seed: int) -> Scores:
    """Return the scores at a threshold of 0.5; an image is correct only if all its labels are."""
    logits, targets = joined(outputs)
    loss = F.binary_cross_entropy_with_logits(logits.cpu().double(), targets.cpu().double())
    preds = logits >= 0
    error = standard_error_of_labels(targets, preds, seed)
    return Scores(float(loss), exact_matches(targets, preds), macro_f1_of_labels(targets, preds), error)


def calibrated(spec: ModelSpec, outputs: Iterable[Outputs]) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the spec with a temperature and a threshold for each label, and the columns.

    Thresholds are chosen on the probabilities before calibration, whose digits do not depend on the
    temperature, and then calibrated: the same labels reach them.
    """
    logits, targets = joined(outputs)
    temperature = fit_temperatures(logits.double().numpy(), targets.numpy())
    thresholds = best_thresholds(targets, logits.double().sigmoid())
    pairs = zip(thresholds, temperature, strict=True)
    calibrated_thresholds = tuple(_calibrated(*pair) for pair in pairs)
    spec = replace(spec, temperature=temperature, thresholds=calibrated_thresholds)
    probabilities = probabilities_of(logits.double(), spec)
    names, preds = (
        np.array(spec.class_names, dtype=object),
        labels_at(calibrated_thresholds, probabilities),
    )
    return spec, {
        "labels": [names[row].tolist() for row in targets.bool().numpy()],
        "preds": [names[row].tolist() for row in preds.numpy()],
        "correct": (preds == targets.bool()).all(dim=1).numpy(),
        "probabilities": list(probabilities.float().numpy()),
    }


def _calibrated(threshold: float, temperature: float) -> float:
    """Return the probability that the logit of ``threshold`` has at a temperature."""
    if temperature == 1 or threshold in (0, 1):
        return threshold
    logit = np.log(threshold) - np.log1p(-threshold)
    return float(f"{1 / (1 + np.exp(-logit / temperature)):.9g}")

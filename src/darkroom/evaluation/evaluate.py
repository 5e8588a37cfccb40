"""Compute a model's predictions and scores from its logits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from darkroom.evaluation.answers import Rules
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.targets.interface import evaluation_target
from darkroom.inputs import INPUT_WORDS, mark_of
from darkroom.metrics.finite import check_finite
from darkroom.metrics.remarks import remarks_on
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec


def evaluate(
    spec: ModelSpec,
    targets: Tensor,
    logits: Tensor,
    paths: Sequence[str],
    baseline: Mapping[str, Any] | None = None,
    mirrored_logits: Tensor | None = None,
    rules: Rules | None = None,
) -> Evaluation:
    """Return a model's predictions and scores on a split.

    Args:
        targets: as in ``Batch``, on the CPU.
        logits: float32 ``(n, num_classes)``, on the CPU.
        paths: the images' files, for messages.
        baseline: the scores of baselines on the same images, as in metrics.json.
        mirrored_logits: the logits of the mirror images, for test-time augmentation: the probabilities
            of an image and its mirror image are averaged, as by Simonyan and Zisserman, "Very Deep
            Convolutional Networks for Large-Scale Image Recognition" (2015). The metrics then also
            hold the scores of the images alone.
        rules: when an exported model abstains, and its sets of classes; measured on the images alone,
            because such a model sees no mirror images.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    check_finite(logits.numpy(), paths, "evaluate: the model", INPUT_WORDS[spec.input].one)
    target, passes = evaluation_target(spec.target), [logits.double()]
    beside: dict[str, Any] = {**mark_of(spec.input)}
    beside |= {} if baseline is None else {"baseline": baseline}
    single = probabilities_of(passes[0], spec)
    if rules is not None:
        beside |= rules.measure(targets.numpy(), single.numpy())
    if mirrored_logits is not None:
        check_finite(mirrored_logits.numpy(), paths, "evaluate: the model, on mirror images,")
        passes.append(mirrored_logits.double())
        alone = target.scores(spec, targets, single)
        beside["tta"] = "flip"
        beside["single_pass"] = {
            name: score for name, score in alone.items() if name not in ("num_images", "per_class")
        }
    uncalibrated, probabilities = (
        torch.stack([probabilities_of(logits, each) for logits in passes]).mean(dim=0)
        for each in (replace(spec, temperature=(1.0,)), spec)
    )
    calibration = {
        "temperature": target.temperature(spec),
        **target.calibration(targets, probabilities),
        **{f"{k}_before": v for k, v in target.calibration(targets, uncalibrated).items()},
    }
    metrics = {**target.scores(spec, targets, probabilities), **beside, "calibration": calibration}
    return target.evaluation(spec, targets, probabilities, uncalibrated, metrics)


def all_remarks(test: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    """Return what ``remarks_on`` returns, and a remark on mirror images that training never showed.

    Args:
        test: the scores of a test split, as in metrics.json.
        training: the training parameters in the model file.
    """
    remarks = remarks_on(test)
    if "tta" in test and not training.get("augment.horizontal_flip", True):
        remarks.append(
            "evaluate.tta is flip, but the model was trained without mirror images"
            " (augment.horizontal_flip: false), and may know them less well."
        )
    return remarks

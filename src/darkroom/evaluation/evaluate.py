"""Compute a model's predictions and scores from its logits."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.multi_label import MultiLabelEvaluation
from darkroom.evaluation.single_label import SingleLabelEvaluation
from darkroom.metrics.classification import classification_metrics
from darkroom.metrics.finite import check_finite
from darkroom.metrics.multi_label_classification import multi_label_metrics
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec


def evaluate(
    spec: ModelSpec,
    targets: Tensor,
    logits: Tensor,
    paths: Sequence[str],
    baseline: Mapping[str, Any] | None = None,
    mirrored_logits: Tensor | None = None,
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

    Raises:
        UserError: a logit is NaN or infinite.
    """
    check_finite(logits.numpy(), paths, "evaluate: the model")
    beside: dict[str, Any] = {} if baseline is None else {"baseline": baseline}
    probabilities = probabilities_of(logits.double(), spec.multi_label)
    if mirrored_logits is not None:
        check_finite(mirrored_logits.numpy(), paths, "evaluate: the model, on mirror images,")
        alone = _scores(spec, targets, probabilities)
        beside["tta"] = "flip"
        beside["single_pass"] = {
            name: score for name, score in alone.items() if name not in ("num_images", "per_class")
        }
        probabilities = (
            probabilities + probabilities_of(mirrored_logits.double(), spec.multi_label)
        ) / 2
    metrics = {**_scores(spec, targets, probabilities), **beside}
    names = list(spec.class_names)
    if spec.thresholds is not None:
        return MultiLabelEvaluation(names, targets, probabilities, metrics, spec.thresholds)
    return SingleLabelEvaluation(names, targets, probabilities, metrics)


def mirror_remarks(metrics: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    """Return a remark if mirror images are averaged that the training never showed.

    Args:
        training: the training parameters in the model file.
    """
    if "tta" not in metrics or training.get("augment.horizontal_flip", True):
        return []
    return [
        "evaluate.tta is flip, but the model was trained without mirror images"
        " (augment.horizontal_flip: false), and may know them less well."
    ]


def _scores(spec: ModelSpec, targets: Tensor, probabilities: Tensor) -> dict[str, Any]:
    names = list(spec.class_names)
    if spec.multi_label:
        assert spec.thresholds is not None
        return multi_label_metrics(targets, probabilities, spec.thresholds, names)
    return classification_metrics(targets, probabilities, names)

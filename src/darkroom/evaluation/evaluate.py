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
) -> Evaluation:
    """Return a model's predictions and scores on a split.

    Args:
        targets: as in ``Batch``, on the CPU.
        logits: float32 ``(n, num_classes)``, on the CPU.
        paths: the images' files, for messages.
        baseline: the scores of baselines on the same images, as in metrics.json.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    check_finite(logits.numpy(), paths, "evaluate: the model")
    beside = {} if baseline is None else {"baseline": baseline}
    probabilities = probabilities_of(logits.double(), spec.multi_label)
    names = list(spec.class_names)
    if spec.multi_label:
        assert spec.thresholds is not None
        metrics = multi_label_metrics(targets, probabilities, spec.thresholds, names)
        return MultiLabelEvaluation(
            names, targets, probabilities, {**metrics, **beside}, spec.thresholds
        )
    metrics = classification_metrics(targets, probabilities, names)
    return SingleLabelEvaluation(names, targets, probabilities, {**metrics, **beside})

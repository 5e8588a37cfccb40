"""How much the test images differ from the training images, and which differ most."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from darkroom.compute.inference import compute_logits
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.features import on_inputs_of
from darkroom.evaluation.pictures import Pictures
from darkroom.loading.batches import Batch
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.finite import check_finite
from darkroom.metrics.intervals import wilson
from darkroom.models.classifier import Classifier
from darkroom.models.spec import ModelSpec
from darkroom.models.unfamiliarity import Unfamiliarity
from darkroom.reporting.shown import ReportImage

NUM_SHOWN = 12


class _Assessed(nn.Module):
    """A classifier whose outputs have the unfamiliarity of the image as their last column."""

    def __init__(self, model: Classifier, unfamiliarity: Unfamiliarity) -> None:
        super().__init__()
        self.model = model
        self.unfamiliarity = unfamiliarity

    def forward(self, images: Tensor) -> Tensor:
        """Images as in ``Classifier`` -> float ``(n, num_classes + 1)``."""
        head, features = self.model.network.head, list[Tensor]()
        with on_inputs_of(head, features.append):  # the model is called, so that others see its images
            logits = self.model(images)
        return torch.cat([logits, self.unfamiliarity(head.pool(features[0]))[:, None]], dim=1)


def compute_outputs(
    model: Classifier, batches: Iterable[Batch]
) -> tuple[Tensor, Tensor, NDArray[np.float32] | None]:
    """Return logits and targets as ``compute_logits``, and the unfamiliarity of each image.

    Returns:
        Logits; targets; float32 ``(n,)``, or None if the model does not measure it.

    Raises:
        UserError: a batch does not fit into memory.
    """
    if model.unfamiliarity is None:
        return *compute_logits(model, batches), None
    outputs, targets = compute_logits(_Assessed(model, model.unfamiliarity), batches)
    return outputs[:, :-1].contiguous(), targets, outputs[:, -1].cpu().numpy()


def with_unfamiliarity(
    evaluation: Evaluation, spec: ModelSpec, scores: NDArray[np.float32] | None, paths: list[str]
) -> Evaluation:
    """Return the evaluation with the unfamiliarity of each image.

    The metrics then also hold ``unfamiliar``: the ``share`` of images above the threshold with its 95 %
    interval by Wilson, and the share of ``false_alarms`` for which the threshold was chosen.

    Args:
        scores: float32 ``(n,)``; None: the evaluation stays as it is.
        paths: the images' files, for messages.

    Raises:
        UserError: a score is NaN or infinite.
    """
    if scores is None or spec.unfamiliarity is None:
        return evaluation
    check_finite(scores[:, None], paths, "evaluate: the unfamiliarity")
    share = np.array((scores > 1).mean())
    low, high = wilson(share, np.array(len(scores)))
    measured = {
        "share": round(float(share), DIGITS),
        "share_low": float(low),
        "share_high": float(high),
        "false_alarms": spec.unfamiliarity["false_alarms"],
        "val_images": spec.unfamiliarity["val_images"],
    }
    metrics = {**evaluation.metrics, "unfamiliar": measured}
    return replace(evaluation, metrics=metrics, unfamiliarity=scores)


def prediction_columns(evaluation: Evaluation) -> dict[str, Any]:
    """Return the columns of predictions.parquet, if the model measures unfamiliarity."""
    scores = evaluation.unfamiliarity
    return {} if scores is None else {"unfamiliarity": scores, "unfamiliar": scores > 1}


def hundredths(evaluation: Evaluation, listed: NDArray[np.int64]) -> list[int]:
    """Return the unfamiliarity of images as the report has it; empty if it is not measured."""
    scores = evaluation.unfamiliarity
    if scores is None:
        return []
    return np.rint(np.minimum(scores[listed].astype(np.float64), 1e6) * 100).astype(np.int64).tolist()


def filters(evaluation: Evaluation) -> dict[str, list[str]]:
    """Return a filter of the report, as ``filters_of``, if the model measures unfamiliarity."""
    scores = evaluation.unfamiliarity
    return {} if scores is None else {"unfamiliar": np.where(scores > 1, "yes", "no").tolist()}


@dataclass(frozen=True)
class UnfamiliarImage(ReportImage):
    """A test image with its unfamiliarity."""

    index: int
    """In the split."""
    score: float
    truth: str
    """The true class or labels."""


def most_unfamiliar(evaluation: Evaluation, shards: Pictures) -> list[UnfamiliarImage]:
    """Return the images that are most unlike the training images, the most unlike first."""
    scores = evaluation.unfamiliarity
    if scores is None:
        return []
    chosen = np.argsort(-scores, kind="stable")[:NUM_SHOWN]
    paths = shards.paths
    return [
        UnfamiliarImage(pixels, paths[index], index, float(scores[index]), evaluation.truth(index))
        for index, pixels in zip(chosen.tolist(), shards.gather(chosen), strict=True)
    ]

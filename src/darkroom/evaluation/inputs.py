"""What an evaluation reads, and what it returns to its stage."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from darkroom.config.evaluate import Evaluate
from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shards import Shards
from darkroom.features.store import Store
from darkroom.models.classifier import Classifier
from darkroom.models.spec import ModelSpec


@dataclass(frozen=True)
class Inputs:
    """A model, the prepared data and the options of an evaluation."""

    options: Evaluate
    model: Classifier
    """On ``device``."""
    spec: ModelSpec
    info: DatasetInfo
    train: Shards
    val: Shards
    test: Shards
    manifest: pa.Table
    """As ``load_manifest`` returns it."""
    device: torch.device
    workers: int
    store: Store
    """Features that were computed before."""


class Outcome(NamedTuple):
    """What the stage tells of an evaluation, besides the files that it wrote."""

    test: dict[str, Any]
    """The scores of the test images, as in metrics.json."""
    remarks: list[str]
    curves: tuple[Tensor, Tensor] | None
    """Truth, bool ``(n, num_classes)``, and probabilities, for MLflow's curves; None: it gets none."""

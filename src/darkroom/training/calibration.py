"""What is decided on the validation images once the weights are chosen: temperature and thresholds."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from darkroom.compute.inference import logits_by_batch
from darkroom.loading.batches import Batch
from darkroom.models.spec import ModelSpec
from darkroom.training.targets.interface import training_target


def calibrate(
    spec: ModelSpec, model: nn.Module, val_batches: Iterable[Batch]
) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the spec with the temperatures and, if labels have them, the thresholds.

    Args:
        model: with the kept weights.

    Returns:
        The spec, and what ``write_validation`` writes.
    """
    outputs = logits_by_batch(model, val_batches, "train.batch_size")
    on_cpu = ((logits.cpu(), targets.cpu()) for logits, targets in outputs)
    return training_target(spec.target).calibrated(spec, on_cpu)


def write_validation(columns: Mapping[str, Any], paths: Sequence[str], file: Path) -> None:
    """Write one row per validation image: its labels and predictions, and their probabilities.

    Args:
        columns: as ``calibrate`` returns them.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"path": list(paths), **columns}), file, compression="zstd")

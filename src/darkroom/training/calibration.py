"""What is decided on the validation images once the weights are chosen: temperature and thresholds."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor, nn

from darkroom.compute.inference import compute_logits
from darkroom.loading.batches import Batch
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.training.targets.interface import training_target


def calibrate(
    spec: ModelSpec, model: nn.Module, val_batches: Iterable[Batch]
) -> tuple[ModelSpec, Tensor, Tensor]:
    """Return the spec with the temperatures and, if labels have them, the thresholds.

    Args:
        model: with the kept weights.

    Returns:
        The spec; calibrated probabilities, float64 ``(n, num_classes)``, and targets as in ``Batch``, of
        the validation images, on the CPU.
    """
    outputs = compute_logits(model, val_batches, "train.batch_size")
    logits, targets = (tensor.cpu() for tensor in outputs)
    spec = training_target(spec.target).calibrated(spec, logits, targets)
    return spec, probabilities_of(logits.double(), spec), targets


def write_validation(
    spec: ModelSpec, probabilities: Tensor, targets: Tensor, paths: Sequence[str], file: Path
) -> None:
    """Write one row per validation image: its labels and predictions, and their probabilities.

    Args:
        probabilities, targets: as ``calibrate`` returns them.
    """
    columns = training_target(spec.target).validation_columns(spec, probabilities, targets)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"path": list(paths), **columns}), file, compression="zstd")

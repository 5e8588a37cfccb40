"""What is decided on the validation images once the weights are chosen: temperature and thresholds."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from darkroom.compute.inference import compute_logits
from darkroom.loading.batches import Batch
from darkroom.metrics.multi_label import best_thresholds, labels_at
from darkroom.metrics.temperature import fit_temperatures
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec


def calibrate(
    spec: ModelSpec, model: nn.Module, val_batches: Iterable[Batch]
) -> tuple[ModelSpec, Tensor, Tensor]:
    """Return the spec with the temperature and, if images may have several labels, the thresholds.

    Thresholds are chosen on the probabilities before calibration, whose digits do not depend on the
    temperature, and then calibrated: the same labels reach them.

    Args:
        model: with the kept weights.

    Returns:
        The spec; calibrated probabilities, float64 ``(n, num_classes)``, and targets as in ``Batch``, of
        the validation images, on the CPU.
    """
    outputs = compute_logits(model, val_batches, "train.batch_size")
    logits, targets = (tensor.cpu() for tensor in outputs)
    spec = replace(spec, temperature=(1.0,), thresholds=None)
    temperature = fit_temperatures(logits.double().numpy(), targets.numpy())
    if spec.multi_label:
        thresholds = best_thresholds(targets, probabilities_of(logits.double(), spec))
        calibrated = np.array([_calibrated(*pair) for pair in zip(thresholds, temperature, strict=True)])
        spec = replace(spec, thresholds=tuple(calibrated.tolist()))
    spec = replace(spec, temperature=temperature)
    return spec, probabilities_of(logits.double(), spec), targets


def _calibrated(threshold: float, temperature: float) -> float:
    """Return the probability that the logit of ``threshold`` has at a temperature."""
    if temperature == 1 or threshold in (0, 1):
        return threshold
    logit = np.log(threshold) - np.log1p(-threshold)
    return float(f"{1 / (1 + np.exp(-logit / temperature)):.9g}")


def write_validation(
    spec: ModelSpec, probabilities: Tensor, targets: Tensor, paths: Sequence[str], file: Path
) -> None:
    """Write one row per validation image: its labels and predictions, and their probabilities.

    Args:
        probabilities, targets: as ``calibrate`` returns them.
    """
    names = np.array(spec.class_names, dtype=object)
    columns: dict[str, Any]
    if spec.thresholds is not None:
        preds = labels_at(spec.thresholds, probabilities)
        columns = {
            "labels": [names[row].tolist() for row in targets.bool().numpy()],
            "preds": [names[row].tolist() for row in preds.numpy()],
            "correct": (preds == targets.bool()).all(dim=1).numpy(),
        }
    else:
        best = probabilities.max(dim=1)
        columns = {
            "label": names[targets.numpy()],
            "pred": names[best.indices.numpy()],
            "correct": (best.indices == targets).numpy(),
            "probability": best.values.float().numpy(),
            "label_probability": probabilities[torch.arange(len(targets)), targets].float().numpy(),
        }
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"path": list(paths), **columns}), file, compression="zstd")

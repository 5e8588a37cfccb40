"""Evaluate a model that predicts masks, and write its report.

One batch is in memory at a time; what remains of it are exact counts of pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from darkroom.compute.inference import Outputs, logits_by_batch
from darkroom.errors import UserError
from darkroom.evaluation.evaluate import all_remarks
from darkroom.evaluation.inputs import Inputs, Outcome
from darkroom.evaluation.intervals import basis
from darkroom.evaluation.mask_report import write_mask_plots, write_mask_report
from darkroom.evaluation.overlays import Mistake, WorstImage
from darkroom.loading.batches import Batches
from darkroom.metrics.boundaries import BoundaryCounter
from darkroom.metrics.classification import metrics_file
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.finite import check_finite
from darkroom.metrics.gate import judge
from darkroom.metrics.groups import groups_of
from darkroom.metrics.intervals import named_bounds
from darkroom.metrics.pixel_intervals import pixel_intervals
from darkroom.metrics.pixel_scores import pixel_metrics
from darkroom.metrics.pixels import PixelCounter, PixelCounts, confusion_matrices
from darkroom.models.classifier import probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.paths import EVALUATE_PLOTS, EVALUATE_REPORT, PREDICTIONS
from darkroom.progress import progress_bar
from darkroom.void import VOID

NUM_WORST = 20
MAX_MISTAKES = 2
"""Maximum number of confusions that the report names of an image."""

OF_CLASS = ("precision", "recall", "f1", "iou")


def evaluate_masks(inputs: Inputs) -> Outcome:
    """Return the scores on the test images; write predictions.parquet, plots/ and report.html.

    Raises:
        UserError: an option has no meaning for masks, or see ``evaluate_model``.
    """
    options, spec, test_split = inputs.options, inputs.spec, inputs.test
    if options.tta is not None:
        raise UserError(
            f"evaluate.tta: {options.tta} averages probabilities of images, and the images of this data "
            "set have masks; it must be null"
        )
    paths, names = test_split.paths, list(spec.class_names)
    batches = Batches(test_split, inputs.device, options.batch_size, inputs.workers)
    with progress_bar("evaluate", len(test_split)) as bar:
        counted = count(spec, logits_by_batch(inputs.model, bar.count(batches)), paths)
    counts, groups = counted.pixels, groups_of(inputs.manifest, paths)
    most = max(names, key=lambda name: inputs.info.pixels["train"][name])
    metrics = {
        **with_intervals(pixel_metrics(counts, names), counts, groups),
        "boundary": counted.boundaries.scores(),
        "baseline": {"most_frequent": constant_scores(counts, names.index(most), names)},
        "calibration": {"temperature": spec.temperature[0], **counted.nll},
    }
    for row, f1 in zip(metrics["per_class"].values(), counted.boundaries.f1(), strict=True):
        row["boundary_f1"] = f1
    test = metrics_file(metrics)
    test |= judge(options.gate, test)
    remarks = all_remarks(test, spec.training)
    worst = worst_images(inputs, counts)

    write_mask_predictions(counts, paths, PREDICTIONS)
    write_mask_plots(metrics, counts, worst, spec, EVALUATE_PLOTS)
    write_mask_report(metrics, counts, worst, spec, remarks, EVALUATE_PLOTS, EVALUATE_REPORT)
    return Outcome(test, remarks, None)


@dataclass(frozen=True)
class Counted:
    """What is kept of a model's outputs."""

    pixels: PixelCounts
    nll: dict[str, float | None]
    """``nll`` and ``nll_before`` the calibration: means over pixels, in nats; None if all are void."""
    boundaries: BoundaryCounter


def count(spec: ModelSpec, outputs: Iterator[Outputs], paths: list[str]) -> Counted:
    """Count the pixels of all images.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    counter, sums, num_images = PixelCounter(len(spec.class_names)), np.zeros(2), 0
    boundaries = BoundaryCounter(len(spec.class_names))
    for logits, targets in outputs:
        of_batch = paths[num_images : num_images + len(logits)]
        check_finite(logits.cpu().numpy(), of_batch, "evaluate: the model")
        preds = logits.argmax(dim=1)
        counter.add(targets, preds)
        boundaries.add(targets, preds)
        sums += [_nll(logits, targets), _nll(logits / spec.temperature[0], targets)]
        num_images += len(logits)
    pixels = counter.result()
    num_pixels = int(pixels.confusion.sum())
    before, after = (round(float(s) / num_pixels, DIGITS) if num_pixels else None for s in sums)
    return Counted(pixels, {"nll": after, "nll_before": before}, boundaries)


def _nll(logits: Tensor, targets: Tensor) -> float:
    """Return the sum over all pixels that are not void."""
    is_valid = targets != VOID
    true = torch.where(is_valid, targets.long(), 0)[:, None]
    losses = -logits.log_softmax(dim=1).gather(1, true)[:, 0]
    return float(torch.where(is_valid, losses, 0).double().sum())


def with_intervals(
    metrics: dict[str, Any], counts: PixelCounts, groups: np.ndarray | None
) -> dict[str, Any]:
    """Return the scores with the 95 % interval of each as ``*_low`` and ``*_high``."""
    if not metrics["num_pixels"]:
        return metrics
    found = pixel_intervals(counts, groups)
    per_class = {
        name: {**row, **named_bounds({metric: found[metric][:, index] for metric in OF_CLASS})}
        for index, (name, row) in enumerate(metrics["per_class"].items())
    }
    overall = {name: found[name] for name in ("accuracy", "iou_macro", "f1_macro")}
    return {
        **metrics,
        **named_bounds(overall),
        "per_class": per_class,
        "intervals": basis(len(counts.support), groups),
    }


def constant_scores(counts: PixelCounts, prediction: int, names: list[str]) -> dict[str, Any]:
    """Return the scores of predicting one class for every pixel."""
    confusion, hits, predicted = (torch.zeros_like(c) for c in (*counts[:1], *counts[2:]))
    confusion[:, prediction] = counts.confusion.sum(dim=1)
    hits[:, prediction] = counts.support[:, prediction]
    predicted[:, prediction] = counts.support.sum(dim=1)
    scores = pixel_metrics(PixelCounts(confusion, counts.support, hits, predicted), names)
    return {name: scores[name] for name in ("accuracy", "iou_macro", "f1_macro")}


def image_ious(counts: PixelCounts) -> np.ndarray:
    """Return the mean IoU over the classes that an image shows, float64 ``(n,)``; NaN if all is void."""
    union = (counts.support + counts.predicted - counts.hits).double()
    ious = torch.where(counts.support > 0, counts.hits / union, torch.nan)
    return ious.nanmean(dim=1).numpy()


@torch.inference_mode()
def worst_images(inputs: Inputs, counts: PixelCounts) -> list[WorstImage]:
    """Return the images with the lowest mean IoU, the lowest first, with their masks."""
    ious, names, test = image_ious(counts), inputs.spec.class_names, inputs.test
    order = np.argsort(ious, kind="stable")  # NaN comes last
    chosen = order[~np.isnan(ious[order])][:NUM_WORST]
    paths, worst = test.paths, []
    for index in chosen.tolist():
        row = np.array([index])
        [image], [mask] = test.gather(row), test.gather_masks(row)[..., 0]
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(inputs.device)
        logits = inputs.model.eval()(pixels)
        pred = probabilities_of(logits, inputs.spec).argmax(dim=1).byte().cpu()
        [confusion] = confusion_matrices(torch.from_numpy(mask[None]), pred, len(names))
        confusion.fill_diagonal_(0)
        largest = confusion.flatten().argsort(descending=True, stable=True)[:MAX_MISTAKES].tolist()
        share = 1 / max(int(counts.support[index].sum()), 1)
        mistakes = [
            Mistake(names[cell // len(names)], names[cell % len(names)], share * wrong)
            for cell in largest
            if (wrong := int(confusion.flatten()[cell]))
        ]
        iou = float(ious[index])
        worst.append(WorstImage(image, paths[index], mask, pred[0].numpy(), iou, mistakes))
    return worst


def write_mask_predictions(counts: PixelCounts, paths: list[str], file: Path) -> None:
    """Write one row per image: its path, scores, and the counts of its pixels by class.

    The counts are ``support``, ``hits`` and ``predicted`` of ``PixelCounts``; sums of them over any
    images give the scores of these.
    """
    support, hits = counts.support.sum(dim=1).double(), counts.hits.sum(dim=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: list(getattr(counts, name).numpy()) for name in ("support", "hits", "predicted")}
    table = pa.table(
        {
            "path": paths,
            "accuracy": (hits / support).numpy(),
            "iou": image_ious(counts),
            **columns,
        }
    )
    pq.write_table(table, file, compression="zstd")

"""Scores of masks against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from darkroom.metrics.confusion import macro_f1
from darkroom.metrics.counts import counts_of_classes
from darkroom.metrics.pixel_scores import ious, mean_over_images, pixel_metrics
from darkroom.metrics.pixels import PixelCounter, PixelCounts, confusion_matrices
from darkroom.void import VOID

NAMES = ["sky", "road", "car", "sign", "bird"]


def random_masks(num_images: int = 7, num_present: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Masks of 9 x 11 with classes 0..num_present - 1 and void, and predictions of five classes."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, num_present, (num_images, 9, 11))
    wrong = random.integers(0, len(NAMES), targets.shape)
    preds = np.where(random.random(targets.shape) < 0.7, targets, wrong)
    targets[random.random(targets.shape) < 0.2] = VOID
    return torch.from_numpy(targets.astype(np.uint8)), torch.from_numpy(preds)


def count(targets: Tensor, preds: Tensor, batch: int = 3) -> PixelCounts:
    counter = PixelCounter(len(NAMES))
    for parts in zip(targets.split(batch), preds.split(batch), strict=True):
        counter.add(*parts)
    return counter.result()


def valid(targets: Tensor, preds: Tensor) -> tuple[np.ndarray, np.ndarray]:
    is_valid = targets != VOID
    return targets[is_valid].numpy(), preds[is_valid].numpy()


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_counts_are_those_of_scikit_learn_for_any_batches(batch: int) -> None:
    targets, preds = random_masks()
    counts = count(targets, preds, batch)
    expected = confusion_matrix(*valid(targets, preds), labels=range(5))
    assert counts.confusion.dtype == torch.int64
    assert counts.confusion.numpy() == pytest.approx(expected, abs=0)
    for index in range(len(targets)):
        of_image = confusion_matrix(*valid(targets[index], preds[index]), labels=range(5))
        assert counts.support[index].tolist() == of_image.sum(axis=1).tolist()
        assert counts.hits[index].tolist() == of_image.diagonal().tolist()
        assert counts.predicted[index].tolist() == of_image.sum(axis=0).tolist()


def test_scores_are_those_of_scikit_learn() -> None:
    targets, preds = random_masks()
    metrics = pixel_metrics(count(targets, preds), NAMES)
    flat = valid(targets, preds)
    reference = {
        "precision": precision_score,
        "recall": recall_score,
        "f1": f1_score,
        "iou": jaccard_score,
    }
    present = sorted(set(flat[0].tolist()))
    for name, score in reference.items():
        by_class = score(*flat, labels=present, average=None, zero_division=0)
        found = [metrics["per_class"][NAMES[index]][name] for index in present]
        assert found == pytest.approx(by_class, abs=5e-7)
        assert metrics[f"{name}_macro"] == pytest.approx(by_class.mean(), abs=5e-7)
    assert metrics["accuracy"] == pytest.approx((flat[0] == flat[1]).mean(), abs=5e-7)
    assert metrics["num_pixels"] == len(flat[0])
    # no pixel of the last class is true, but some are predicted
    assert metrics["per_class"]["bird"]["iou"] is metrics["per_class"]["bird"]["f1"] is None
    assert metrics["per_class"]["bird"]["predicted"] > 0


def test_unrounded_scores_equal_to_twelve_digits() -> None:
    targets, preds = random_masks(num_present=5)
    flat = valid(targets, preds)
    counts = count(targets, preds)
    expected = jaccard_score(*flat, labels=range(5), average=None)
    iou = ious(counts_of_classes(counts.confusion))
    assert iou.numpy() == pytest.approx(expected, abs=1e-12)
    expected = f1_score(*flat, labels=range(5), average="macro")
    assert macro_f1(counts.confusion) == pytest.approx(expected, abs=1e-12)
    of_torchmetrics = multiclass_jaccard_index(
        preds, targets.long(), num_classes=5, average="none", ignore_index=VOID
    )
    assert iou.numpy() == pytest.approx(of_torchmetrics.numpy(), abs=1e-6)  # in float32


def test_means_over_images_count_each_image_once() -> None:
    targets, preds = random_masks()
    targets[2] = VOID  # not measured
    expected: dict[str, list[float]] = {"iou_macro": [], "f1_macro": []}
    for target, pred in zip(targets, preds, strict=True):
        flat = valid(target, pred)
        if len(flat[0]):
            labels = sorted(set(flat[0].tolist()))
            expected["iou_macro"].append(
                jaccard_score(*flat, labels=labels, average="macro", zero_division=0)
            )
            expected["f1_macro"].append(f1_score(*flat, labels=labels, average="macro", zero_division=0))
    found = mean_over_images(count(targets, preds))
    assert found == {name: pytest.approx(np.mean(values), abs=5e-7) for name, values in expected.items()}


def test_without_a_pixel_nothing_is_measured() -> None:
    targets, preds = random_masks()
    metrics = pixel_metrics(count(torch.full_like(targets, VOID), preds), NAMES)
    assert metrics["accuracy"] is metrics["iou_macro"] is metrics["f1_macro"] is None
    assert metrics["over_images"] == {"iou_macro": None, "f1_macro": None}
    assert PixelCounter(3).result().support.shape == (0, 3)


def test_one_changed_pixel_changes_the_counts() -> None:
    targets, preds = random_masks()
    before = confusion_matrices(targets, preds, 5)
    row, column = (targets[0] != VOID).nonzero()[0].tolist()
    preds[0, row, column] = (preds[0, row, column] + 1) % 5
    assert (confusion_matrices(targets, preds, 5) != before).sum() == 2
    targets[0, row, column] = VOID
    assert confusion_matrices(targets, preds, 5).sum() == before.sum() - 1

"""Intervals of the scores of masks: against a plain bootstrap, and by their coverage of the truth."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from test_pixels import NAMES, count, random_masks

from darkroom.metrics.pixel_intervals import pixel_intervals
from darkroom.metrics.pixel_scores import pixel_metrics
from darkroom.metrics.pixels import PixelCounts


def uneven_masks(num_images: int) -> PixelCounts:
    """Images whose fraction of wrong pixels differs."""
    random = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (num_images, 8, 8), generator=random)
    wrong = torch.rand(num_images, 1, 1, generator=random) * 0.6
    is_wrong = torch.rand(targets.shape, generator=random) < wrong
    return count(targets, torch.where(is_wrong, (targets + 1) % 3, targets))


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    counts = uneven_masks(60)
    found = pixel_intervals(counts)
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        chosen = random.integers(0, 60, 60)
        support, hits, predicted = (part.numpy()[chosen].sum(axis=0)[:3] for part in counts[1:])
        drawn.append((hits / (support + predicted - hits)).mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found["iou_macro"] == pytest.approx([low, high], abs=0.006)


def test_every_score_is_in_its_interval_and_classes_without_pixels_have_none() -> None:
    counts = count(*random_masks())
    metrics = pixel_metrics(counts, NAMES)
    found = pixel_intervals(counts)
    for name in ("accuracy", "iou_macro", "f1_macro"):
        assert found[name][0] < metrics[name] < found[name][1]
    for index, row in enumerate(metrics["per_class"].values()):
        for name in ("iou", "f1", "precision", "recall"):
            low, high = found[name][:, index]
            assert (low < row[name] < high) if row[name] is not None else np.isnan([low, high]).all()


def test_copies_of_images_count_once_if_they_are_groups() -> None:
    counts = uneven_masks(40)
    twice = PixelCounts(2 * counts.confusion, *(part.repeat_interleave(2, 0) for part in counts[1:]))
    groups = np.arange(80) // 2
    assert pixel_intervals(twice, groups)["iou_macro"] == pytest.approx(
        pixel_intervals(counts)["iou_macro"], abs=1e-9
    )
    width = np.diff(pixel_intervals(twice)["iou_macro"]) / np.diff(pixel_intervals(counts)["iou_macro"])
    assert width == pytest.approx(2**-0.5, abs=0.03)


def test_where_every_pixel_is_right_the_interval_is_not_a_point() -> None:
    targets, _ = random_masks()
    found = pixel_intervals(count(targets, targets))
    expected = binomtest(7, 7).proportion_ci(method="wilson").low
    assert found["iou_macro"] == pytest.approx([expected, 1], abs=1e-6)

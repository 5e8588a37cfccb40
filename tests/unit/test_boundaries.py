"""Boundaries of masks against distance transforms of SciPy, and by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from darkroom.metrics.boundaries import DISTANCES, BoundaryCounter, tolerance_of, within
from darkroom.void import VOID

NAMES = ["sky", "road", "car", "bird"]


def blobs(seed: int, num_images: int = 5, size: tuple[int, int] = (40, 90)) -> NDArray[np.int64]:
    """Smooth regions of the first three classes."""
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(num_images, 3, *size)), (0, 0, 4, 4))
    return fields.argmax(axis=1)


def boundary(mask: NDArray[np.int64], code: int) -> NDArray[np.bool_]:
    """Pixels of a class that an erosion by a cross removes, where neighbours are of another class."""
    others = (mask != code) & (mask != VOID)
    cross = ndimage.generate_binary_structure(2, 1)
    return (mask == code) & ndimage.binary_dilation(others, cross)


def distances(is_set: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not is_set.any():
        return np.full(is_set.shape, np.inf)
    return ndimage.distance_transform_edt(~is_set)


def expected_f1(targets: NDArray[np.int64], preds: NDArray[np.int64], code: int) -> float:
    tolerance = 0.0075 * np.hypot(*targets.shape[1:])
    tolerance = max(1, round(tolerance))
    found, predicted, reached, true = 0, 0, 0, 0
    for target, pred in zip(targets, preds, strict=True):
        ours, theirs = boundary(np.where(target == VOID, VOID, pred), code), boundary(target, code)
        found += (distances(theirs)[ours] <= tolerance).sum()
        reached += (distances(ours)[theirs] <= tolerance).sum()
        predicted, true = predicted + ours.sum(), true + theirs.sum()
    precision, recall = found / predicted, reached / true
    return float(2 * precision * recall / (precision + recall))


def scores(targets: NDArray[np.int64], preds: NDArray[np.int64], batch: int = 2) -> dict:
    counter = BoundaryCounter(len(NAMES))
    parts = (torch.from_numpy(masks).split(batch) for masks in (targets, preds))
    for of_targets, of_preds in zip(*parts, strict=True):
        counter.add(of_targets.byte(), of_preds)
    return {**counter.scores(), "f1": dict(zip(NAMES, counter.f1(), strict=True))}


def some_masks(size: tuple[int, int] = (40, 90)) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    targets = blobs(0, size=size)
    preds = np.where(blobs(1, size=size) == 0, np.roll(targets, (1, 2), (1, 2)), targets)
    targets[:, 10:14, 20:50] = VOID
    return targets, preds


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 90), (300, 500)])
def test_boundary_f1_is_that_of_distance_transforms(size: tuple[int, int]) -> None:
    targets, preds = some_masks(size)
    found = scores(targets, preds)
    assert found["tolerance_pixels"] == {(40, 90): 1, (300, 500): 4}[size]
    expected = [expected_f1(targets, preds, code) for code in range(3)]
    assert [found["f1"][name] for name in NAMES[:3]] == pytest.approx(expected, abs=1e-6)
    assert found["f1"]["bird"] is None
    assert found["f1_macro"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert 0.3 < found["f1_macro"] < 1


def test_errors_by_distance_are_those_of_distance_transforms() -> None:
    targets, preds = some_masks()
    rings = [
        distances(np.any([boundary(target, code) for code in range(3)], axis=0)) for target in targets
    ]
    is_valid, is_wrong = targets != VOID, targets != preds
    expected, low = {}, -1.0
    names = ("0_to_1", "2", "3_to_4", "5_to_8", "9_to_16", "over_16")
    for name, high in zip(names, (*DISTANCES, np.inf), strict=True):
        here = is_valid & (np.array(rings) > low) & (np.array(rings) <= high)
        expected[name] = is_wrong[here].mean() if here.any() else None
        low = high
    assert scores(targets, preds)["wrong"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 8, 40])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (30, 7)])
def test_within_is_the_distance_transform(size: tuple[int, int], distance: int) -> None:
    is_set = np.random.default_rng(distance).random((3, *size)) < 0.05
    is_set[0] = False
    expected = np.stack([distances(one) <= distance for one in is_set])
    assert within(torch.from_numpy(is_set), distance).numpy().tolist() == expected.tolist()


def test_batches_do_not_matter_and_a_moved_boundary_does() -> None:
    targets, preds = some_masks()
    assert scores(targets, preds, 1) == scores(targets, preds, 5)
    assert scores(targets, targets)["f1_macro"] == 1
    assert set(scores(targets, targets)["wrong"].values()) <= {0.0, None}
    assert (
        scores(targets, np.roll(targets, 2, axis=2))["f1_macro"]
        < scores(targets, np.roll(targets, 1, axis=2))["f1_macro"]
    )


def test_one_square_by_hand() -> None:
    # a square of 4 x 4 has 12 boundary pixels; the prediction is one pixel to the right
    target = np.zeros((1, 20, 20), np.int64)
    target[0, 8:12, 8:12] = 1
    exact = scores(target, np.roll(target, 1, axis=2))
    assert exact["f1"]["road"] == 1  # each is one pixel away, which is the tolerance
    moved = scores(target, np.roll(target, 3, axis=2))
    # the columns 11..14 against 8..11: the left columns of one lie on and beside the right one's
    assert moved["f1"]["road"] == pytest.approx(expected_f1(target, np.roll(target, 3, axis=2), 1))
    assert moved["f1"]["road"] < 1


def test_void_hides_a_boundary_and_nothing_else_is_left() -> None:
    target = np.zeros((1, 8, 8), np.int64)
    target[0, :, 4:] = 1
    pred = target.copy()
    target[0, :, 3:5] = VOID
    found = scores(target, pred)
    assert found["f1_macro"] is None
    assert found["f1"] == dict.fromkeys(NAMES)
    assert found["wrong"]["over_16"] == 0
    assert BoundaryCounter(2).scores()["wrong"]["over_16"] is None


def test_the_tolerance_is_that_of_the_paper() -> None:
    # 0.75 % of the diagonal
    assert tolerance_of(192, 240) == round(0.0075 * (192**2 + 240**2) ** 0.5) == 2
    assert tolerance_of(8, 8) == 1

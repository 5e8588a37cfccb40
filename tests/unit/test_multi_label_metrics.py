"""F1 and exact matches of several labels against scikit-learn, thresholds against a brute force."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from darkroom.metrics.multi_label import (
    best_thresholds,
    exact_matches,
    label_f1,
    macro_f1_of_labels,
)

torch.set_num_threads(1)


def random_case(
    num_images: int = 60, num_labels: int = 4, decimals: int | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Targets, float32, and probabilities of a model that knows something."""
    random = np.random.default_rng(seed)
    targets = random.random((num_images, num_labels)) < random.uniform(0.05, 0.7, num_labels)
    logits = random.normal(0, 1.5, targets.shape) + 1.5 * targets - 1
    probabilities = 1 / (1 + np.exp(-logits))
    if decimals is not None:
        probabilities = probabilities.round(decimals)
    return torch.from_numpy(targets).float(), torch.from_numpy(probabilities).float()


def preds_of(probabilities: Tensor) -> Tensor:
    return probabilities >= 0.5


def without(labels: list[int]) -> tuple[Tensor, Tensor]:
    """Targets and predictions where some labels are in neither."""
    targets, probabilities = random_case(seed=3)
    preds = preds_of(probabilities)
    targets[:, labels] = 0
    preds[:, labels] = False
    return targets, preds


CASES: dict[str, tuple[Tensor, Tensor]] = {
    "random": (random_case()[0], preds_of(random_case()[1])),
    "a label in neither": without([2]),
    "two labels in neither": without([0, 3]),
    "no positives, but predicted": (torch.tensor([[0, 1], [0, 0]]), torch.tensor([[1, 1], [0, 0]])),
    "positives, never predicted": (torch.tensor([[1, 1], [1, 0]]), torch.tensor([[0, 1], [0, 0]])),
    "perfect": (random_case(seed=1)[0], random_case(seed=1)[0]),
    "all wrong": (random_case(seed=1)[0], 1 - random_case(seed=1)[0]),
    "one image": (torch.tensor([[1, 0, 1]]), torch.tensor([[1, 1, 0]])),
    "one label": (torch.tensor([[1], [0], [1]]), torch.tensor([[1], [1], [0]])),
}


@pytest.mark.parametrize("name", CASES)
def test_f1_and_exact_matches_are_scikit_learns(name: str) -> None:
    targets, preds = CASES[name]
    reference = (targets.int().numpy(), preds.int().numpy())
    present = np.flatnonzero(reference[0].any(axis=0))
    if targets.shape[1] == 1:
        by_label = np.array([f1_score(*reference, zero_division=0)])
    else:
        by_label = f1_score(*reference, average=None, zero_division=0)
    by_label = np.where(reference[0].any(axis=0), by_label, np.nan)
    np.testing.assert_allclose(label_f1(targets, preds).numpy(), by_label, rtol=1e-15)
    assert label_f1(targets, preds).dtype == torch.float64
    macro = macro_f1_of_labels(targets, preds)
    assert macro == pytest.approx(np.nanmean(by_label), rel=1e-15)
    if targets.shape[1] > 1:
        expected = f1_score(*reference, labels=present, average="macro", zero_division=0)
        assert macro == pytest.approx(expected, rel=1e-15)
    assert exact_matches(targets, preds) == accuracy_score(*reference)


def test_one_changed_prediction_changes_all_of_them() -> None:
    targets, preds = CASES["random"]
    row = int((targets.bool() == preds).all(dim=1).nonzero()[0])
    other = preds.clone()
    other[row, 0] ^= True
    assert label_f1(targets, other)[0] < label_f1(targets, preds)[0]
    assert torch.equal(label_f1(targets, other)[1:], label_f1(targets, preds)[1:])
    assert macro_f1_of_labels(targets, other) < macro_f1_of_labels(targets, preds)
    assert exact_matches(targets, other) == pytest.approx(exact_matches(targets, preds) - 1 / 60)


def test_labels_that_no_image_has_leave_the_mean_as_it_is_predicted_or_not() -> None:
    targets, preds = CASES["random"]
    nowhere = torch.zeros(60, 2)
    predicted = (torch.cat((targets, nowhere), dim=1), torch.cat((preds.float(), nowhere + 1), dim=1))
    assert macro_f1_of_labels(*predicted) == macro_f1_of_labels(targets, preds)
    assert label_f1(*predicted).isnan().tolist() == [False] * targets.shape[1] + [True] * 2
    wider = (torch.cat((part, nowhere), dim=1) for part in (targets, preds.float()))
    assert macro_f1_of_labels(*wider) == macro_f1_of_labels(targets, preds)
    assert macro_f1_of_labels(nowhere, nowhere) == 0
    assert label_f1(nowhere, nowhere).isnan().all()
    assert exact_matches(nowhere, nowhere) == 1


def f1_at(threshold: float, targets: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> float:
    preds = probabilities >= threshold
    return 2 * float(np.sum(targets & preds)) / float(np.sum(targets) + np.sum(preds))


def candidates(probabilities: NDArray[np.float64]) -> list[float]:
    """Halfway between neighbours, of which 0 is one, to four digits; and a half."""
    values = [0.0, *sorted(set(probabilities.tolist()))]
    between = (round((low + high) / 2, 4) for low, high in pairwise(values))
    return sorted({0.5, *between})


def assert_best(targets: Tensor, probabilities: Tensor) -> list[float]:
    thresholds = best_thresholds(targets, probabilities)
    for label, threshold in enumerate(thresholds):
        true, scores = targets[:, label].bool().numpy(), probabilities[:, label].double().numpy()
        if not true.any():
            assert threshold == 0.5
            continue
        by_candidate = {each: f1_at(each, true, scores) for each in candidates(scores)}
        best = max(by_candidate.values())
        nearest = min(
            abs(each - 0.5) for each, f1 in by_candidate.items() if f1 == pytest.approx(best, rel=1e-12)
        )
        assert f1_at(threshold, true, scores) == pytest.approx(best, rel=1e-12)
        assert abs(threshold - 0.5) == pytest.approx(nearest, abs=1e-9)
        assert round(threshold, 4) == threshold
        # none is better: not one halfway, nor one at a probability
        if len(set(scores.round(3).tolist())) == len(set(scores.tolist())):
            assert best == pytest.approx(max(f1_at(each, true, scores) for each in scores), rel=1e-12)
    return thresholds


@pytest.mark.parametrize("decimals", [None, 2, 1], ids=["all different", "ties", "many ties"])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_thresholds_are_those_of_a_brute_force(seed: int, decimals: int | None) -> None:
    targets, probabilities = random_case(20, decimals=decimals, seed=seed)
    assert_best(targets, probabilities)


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def test_thresholds_by_hand() -> None:
    scores = column(0.1, 0.2, 0.3, 0.9)
    table: list[tuple[Tensor, Tensor, float]] = [
        (column(0, 1, 1, 1), scores, 0.15),
        (column(0, 0, 1, 1), scores, 0.25),
        (column(0, 0, 0, 1), scores, 0.5),  # as good as 0.6, and nearer
        (column(0, 0, 0, 0), scores, 0.5),
        (column(1, 1, 1, 1), scores, 0.05),  # all have it
        (column(1, 0, 0, 0), scores, 0.05),  # the wrong way round: 2/5, and above the least one 0
        (column(0, 1, 1, 1), column(0.3, 0.3, 0.9, 0.9), 0.15),  # 6/7; 4/5 above the tie
        (column(0, 0, 1, 1), column(0.3, 0.3, 0.9, 0.9), 0.5),
        (column(0, 1, 0, 1), column(0.3, 0.3, 0.3, 0.3), 0.15),
        (column(0, 1, 0, 1), column(0.7, 0.7, 0.7, 0.7), 0.5),  # 0.35 does the same
        (column(0, 0, 0, 0), column(0.7, 0.7, 0.7, 0.7), 0.5),
        (column(1, 1), column(0.0, 0.0), 0.0),
        (column(0, 1), column(0.0, 1.0), 0.5),
        (column(0, 1), column(0.00001, 0.4), 0.2),
    ]
    for targets, probabilities, expected in table:
        assert best_thresholds(targets, probabilities) == pytest.approx([expected])
        assert_best(targets, probabilities)


def test_each_label_has_a_threshold_of_its_own() -> None:
    targets, probabilities = random_case(seed=2)
    targets[:, 1] = 0
    thresholds = assert_best(targets, probabilities)
    assert len(thresholds) == 4
    assert len(set(thresholds)) == 4
    assert thresholds[::-1] == best_thresholds(targets.flip(1), probabilities.flip(1))
    for kind in (torch.bool, torch.int64, torch.uint8):
        assert best_thresholds(targets.to(kind), probabilities) == thresholds


def test_small_changes_do_not_move_thresholds() -> None:
    targets, probabilities = random_case(30, seed=4)
    noise = torch.from_numpy(np.random.default_rng(0).uniform(-1e-7, 1e-7, probabilities.shape))
    before = best_thresholds(targets, probabilities)
    assert not torch.equal(probabilities + noise, probabilities)
    assert best_thresholds(targets, probabilities + noise) == before
    assert best_thresholds(targets, probabilities * 0.9) != before

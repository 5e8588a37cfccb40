"""The standard error of macro F1: against scikit-learn on the same draws, and repeated sampling."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor

from darkroom.training import uncertainty
from darkroom.training.uncertainty import (
    NUM_RESAMPLES,
    standard_error_of_classes,
    standard_error_of_labels,
)

Predictions = tuple[Tensor, Tensor, int]


def classes(num_images: int, num_classes: int, skill: float, seed: int = 0) -> Predictions:
    random = np.random.default_rng([seed, 1])
    targets = random.integers(0, num_classes, num_images)
    guesses = random.integers(0, num_classes, num_images)
    preds = np.where(random.random(num_images) < skill, targets, guesses)
    return torch.from_numpy(targets), torch.from_numpy(preds), num_classes


def labels(num_images: int, num_labels: int, skill: float, seed: int = 0) -> Predictions:
    random = np.random.default_rng([seed, 2])
    targets, guesses = random.random((2, num_images, num_labels)) < 0.2
    preds = np.where(random.random((num_images, num_labels)) < skill, targets, guesses)
    return torch.from_numpy(targets).float(), torch.from_numpy(preds), num_labels


def macro_f1_standard_error(targets: Tensor, preds: Tensor, num_classes: int, seed: int) -> float:
    if targets.ndim == 2:
        return standard_error_of_labels(targets, preds, seed)
    return standard_error_of_classes(targets, preds, num_classes, seed)


def sklearn_f1(targets: NDArray, preds: NDArray) -> float:
    """Macro F1 over the classes that have images."""
    if targets.ndim == 1:
        present = np.unique(targets)
        return float(f1_score(targets, preds, labels=present, average="macro", zero_division=0))
    present = np.flatnonzero(targets.any(axis=0))
    if not len(present):
        return 0.0
    return float(f1_score(targets, preds, labels=present, average="macro", zero_division=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "predictions",
    [
        classes(111, 4, 0.95),
        classes(50, 10, 0.3),  # resamples without some classes
        classes(12, 30, 0.5),
        classes(200, 2, 0.0),
        labels(60, 5, 0.7),
        labels(9, 3, 0.2),
    ],
)
def test_it_is_the_deviation_of_sklearns_f1_over_resamples(predictions: Predictions) -> None:
    targets, preds, _ = predictions
    drawn = np.random.default_rng(7).integers(len(targets), size=(NUM_RESAMPLES, len(targets)))
    true, predicted = targets.numpy().astype(np.int64), preds.numpy().astype(np.int64)
    scores = [sklearn_f1(true[rows], predicted[rows]) for rows in drawn]
    assert macro_f1_standard_error(*predictions, seed=7) == round(float(np.std(scores, ddof=1)), 6)


def test_it_is_about_how_far_f1_differs_between_validation_sets_of_that_size() -> None:
    sets = [classes(150, 3, 0.8, seed) for seed in range(300)]
    truth = np.std([sklearn_f1(targets.numpy(), preds.numpy()) for targets, preds, _ in sets])
    errors = [macro_f1_standard_error(*each, seed=0) for each in sets[:100]]
    assert np.mean(errors) == pytest.approx(truth, rel=0.12)
    of_fewer = macro_f1_standard_error(*classes(38, 3, 0.8), seed=0)
    assert of_fewer > 1.5 * np.mean(errors)  # a quarter of the images, about twice the error


@pytest.mark.parametrize("predictions", [classes(300, 5, 0.7), labels(300, 5, 0.7)])
def test_it_is_a_function_of_predictions_and_seed_alone(
    predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = macro_f1_standard_error(*predictions, seed=0)
    assert macro_f1_standard_error(*predictions, seed=0) == error
    other = macro_f1_standard_error(*predictions, seed=1)
    assert other != error
    assert other == pytest.approx(error, rel=0.3)
    for most in (1, 1_000, 10**9):  # drawn, and multiplied, in other pieces
        monkeypatch.setattr(uncertainty, "_CHUNK", most)
        monkeypatch.setattr(uncertainty, "_MATRIX", most)
        assert macro_f1_standard_error(*predictions, seed=0) == error
    monkeypatch.setattr(uncertainty, "_MAX_EXACT", 1)
    assert macro_f1_standard_error(*predictions, seed=0) == error


def one_hot(*values: int) -> Tensor:
    return torch.tensor(values)[:, None]


@pytest.mark.parametrize(
    ("targets", "preds", "num_classes"),
    [
        (torch.tensor([2]), torch.tensor([2]), 3),  # one image
        (torch.tensor([2]), torch.tensor([0]), 3),
        (torch.arange(50) % 2, torch.arange(50) % 2, 3),  # faultless, without the third class
        (torch.arange(50) % 2, 1 - torch.arange(50) % 2, 2),  # all wrong
        (torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.int64), 1),  # one class
        (torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.bool), 3),  # no label anywhere
        (one_hot(1, 1, 1), one_hot(1, 1, 1), 1),
    ],
)
def test_what_scores_the_same_in_every_resample_has_no_error(
    targets: Tensor, preds: Tensor, num_classes: int
) -> None:
    assert macro_f1_standard_error(targets, preds, num_classes, seed=0) == 0.0


def test_one_mistake_is_an_error_above_nought() -> None:
    targets = torch.arange(50) % 2
    preds = targets.clone()
    preds[0] = 1 - preds[0]
    assert 0.01 < macro_f1_standard_error(targets, preds, 2, seed=0) < 0.03

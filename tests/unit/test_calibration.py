"""Calibration, thresholds and prediction sets, against scikit-learn, scipy and plain loops."""

import math
import statistics

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from scipy.stats import beta
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from darkroom.metrics.calibration import (
    NUM_BINS,
    class_calibration,
    class_reliability,
    label_calibration,
    reliability,
)
from darkroom.metrics.conformal import prediction_sets, set_thresholds
from darkroom.metrics.selective import (
    Answers,
    answers_at,
    precise_threshold,
    risk_area,
    risk_coverage,
)
from darkroom.metrics.temperature import fit_temperature, fit_temperatures

Array = NDArray[np.float64]
EXACT = 1e-12


def drawn(num_images: int, sharpness: float = 1.0, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Logits of four classes whose true temperature is ``sharpness``, and classes drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(num_images, 4))
    targets = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((num_images, 1))).argmax(axis=1)
    return sharpness * logits, targets


# metrics


@pytest.mark.parametrize("num_images", [40, 1_000])
def test_class_scores_are_scikit_learns(num_images: int) -> None:
    logits, targets = drawn(num_images)
    probabilities = softmax(logits, axis=1)
    found = class_calibration(targets, probabilities)
    labels = range(4)
    assert found["nll"] == round(log_loss(targets, probabilities, labels=labels), 6)
    brier = brier_score_loss(targets, probabilities, labels=labels, scale_by_half=False)
    assert found["brier"] == round(brier, 6)
    assert found["ece"] == round(_error(probabilities.max(1), probabilities.argmax(1) == targets), 6)
    other = class_calibration(np.roll(targets, 1), probabilities)
    assert all(other[name] > found[name] for name in found)


def test_label_scores_are_the_means_of_scikit_learns() -> None:
    logits, _ = drawn(300)
    probabilities = expit(logits)
    targets = np.random.default_rng(1).random(logits.shape) < probabilities
    found = label_calibration(targets, probabilities)
    columns = list(zip(targets.T, probabilities.T, strict=True))
    assert found["nll"] == round(np.mean([log_loss(*pair) for pair in columns]), 6)
    assert found["brier"] == round(np.mean([brier_score_loss(*pair) for pair in columns]), 6)
    assert found["ece"] == round(np.mean([_error(p, y) for y, p in columns]), 6)


@pytest.mark.parametrize("digits", [16, 1])
def test_bins_are_scikit_learns_quantiles_also_of_equal_confidences(digits: int) -> None:
    logits, targets = drawn(500)
    confidences = softmax(logits, axis=1).max(axis=1).round(digits)
    is_correct = logits.argmax(axis=1) == targets
    bins = reliability(confidences, is_correct)
    accuracy, confidence = calibration_curve(
        is_correct, confidences, n_bins=NUM_BINS, strategy="quantile"
    )
    assert bins.accuracy == pytest.approx(accuracy, abs=EXACT)
    assert bins.confidence == pytest.approx(confidence, abs=EXACT)
    assert bins.counts.sum() == 500
    assert bins.error == pytest.approx(_error(confidences, is_correct), abs=EXACT)


def test_the_error_of_true_probabilities_is_small_and_of_sharpened_ones_is_not() -> None:
    logits, targets = drawn(20_000)
    assert class_reliability(targets, softmax(logits, axis=1)).error < 0.015
    assert class_reliability(targets, softmax(3 * logits, axis=1)).error > 0.1


def _error(confidences: Array, is_correct: NDArray[np.bool_]) -> float:
    """The expected calibration error from scikit-learn's curve and a loop that counts its bins."""
    curve = calibration_curve(is_correct, confidences, n_bins=NUM_BINS, strategy="quantile")
    bounds = np.percentile(confidences, np.linspace(0, 100, NUM_BINS + 1))[1:-1]
    bins = [sum(bool(confidence > bound) for bound in bounds) for confidence in confidences]
    counts = [bins.count(number) for number in range(NUM_BINS) if number in bins]
    return sum(n * abs(y - p) for n, y, p in zip(counts, *curve, strict=True)) / len(confidences)


# temperature


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.5])
def test_the_temperature_is_the_one_that_the_logits_were_multiplied_by(sharpness: float) -> None:
    logits, targets = drawn(4_000, sharpness)
    found = fit_temperature(logits, targets)

    def loss(temperature: float) -> float:
        return -log_softmax(logits / temperature, axis=1)[np.arange(len(targets)), targets].mean()

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-8}).x
    assert found == pytest.approx(best if sharpness != 1 else 1, rel=1e-3)
    assert found == pytest.approx(sharpness, rel=0.1)
    assert found == float(f"{found:.4g}")
    assert fit_temperature(2 * logits, targets) != found


def test_no_gain_beyond_chance_is_no_temperature() -> None:
    found = [fit_temperature(*drawn(200, seed=seed)) for seed in range(100)]
    assert found.count(1.0) >= 88  # the test's level is 5 %
    assert all(fit_temperature(*drawn(200, 4.0, seed)) > 1 for seed in range(20))


@pytest.mark.parametrize("num_images", [20, 500])
def test_faultless_images_do_not_ask_for_certainty(num_images: int) -> None:
    targets = np.arange(num_images) % 4
    logits = 2 * np.eye(4)[targets]
    found = fit_temperature(logits, targets)
    confidence = softmax(logits / found, axis=1).max(axis=1).mean()
    assert found < 1
    assert confidence == pytest.approx((num_images + 1) / (num_images + 2), abs=1e-3)


def test_what_cannot_be_fitted_is_1() -> None:
    logits, _ = drawn(50)
    assert fit_temperature(9 * logits, np.zeros(50, np.int64)) == 1
    assert fit_temperature(np.full((50, 4), np.nan), np.arange(50) % 4) == 1
    assert fit_temperature(logits[:1], np.array([2])) == 1
    assert fit_temperature(np.zeros((50, 4)), np.arange(50) % 4) == 1


def test_each_label_has_its_own_temperature_as_a_decision_between_two_classes() -> None:
    logits = np.random.default_rng(0).normal(scale=3, size=(2_000, 3))
    targets = np.random.default_rng(1).random(logits.shape) < expit(logits)
    targets[:, 2] = False
    scaled = logits * [3.0, 0.4, 5.0]
    found = fit_temperatures(scaled, targets.astype(np.float32))
    two = np.stack((np.zeros(2_000), scaled[:, 1]), axis=1)
    assert found == pytest.approx((3.0, 0.4, 1.0), rel=0.1)
    assert found[1] == fit_temperature(two, targets[:, 1].astype(np.int64))
    assert found[2] == 1


# confidence thresholds


def test_risks_are_those_of_a_loop_and_do_not_depend_on_the_order_of_equal_confidences() -> None:
    rng = np.random.default_rng(0)
    confidences, is_correct = rng.random(60), rng.random(60) < 0.8
    order = sorted(range(60), key=lambda index: -confidences[index])
    risks = [sum(not is_correct[i] for i in order[:k]) / k for k in range(1, 61)]
    assert risk_coverage(confidences, is_correct) == pytest.approx(risks, abs=EXACT)
    assert risk_area(confidences, is_correct) == pytest.approx(math.fsum(risks) / 60, abs=EXACT)
    coarse = confidences.round(1)
    shuffled = rng.permutation(60)
    assert risk_area(coarse, is_correct) == pytest.approx(
        risk_area(coarse[shuffled], is_correct[shuffled]), abs=EXACT
    )
    assert risk_area(confidences, is_correct) != risk_area(-confidences, is_correct)


@pytest.mark.parametrize("precision", [0.6, 0.8, 0.9])
def test_the_threshold_is_the_lowest_whose_lower_bound_reaches_the_precision(precision: float) -> None:
    rng = np.random.default_rng(3)
    confidences = rng.random(300)
    is_correct = rng.random(300) < 0.3 + 0.7 * confidences
    found = precise_threshold(confidences, is_correct, precision)

    def lower(threshold: float) -> float:
        n, k = answers_at(threshold, confidences, is_correct)
        return beta.ppf(0.05, k, n - k + 1) if k else 0.0

    reaching = [value for value in confidences if lower(value) >= precision]
    if not reaching:
        assert found is None
        return
    assert found is not None
    assert found == pytest.approx(min(reaching), abs=1e-6)
    assert found <= min(reaching)
    assert answers_at(found, confidences, is_correct) == answers_at(
        min(reaching), confidences, is_correct
    )


def test_few_images_show_no_high_precision() -> None:
    confidences = np.linspace(0.5, 0.9, 58)
    assert precise_threshold(confidences, np.ones(58, bool), 0.95) is None
    assert precise_threshold(np.append(confidences, 0.95), np.ones(59, bool), 0.95) == 0.5


def test_the_interval_of_a_precision_is_clopper_and_pearsons() -> None:
    low, high = Answers(num_answered=40, num_correct=38).precision_interval()
    assert low == pytest.approx(beta.ppf(0.025, 38, 3), abs=EXACT)
    assert high == pytest.approx(beta.ppf(0.975, 39, 2), abs=EXACT)
    assert Answers(10, 10).precision_interval()[1] == 1
    assert Answers(10, 0).precision_interval()[0] == 0


# prediction sets


def test_thresholds_of_sets_are_the_lowest_deciles_of_pythons_statistics() -> None:
    rng = np.random.default_rng(0)
    labels, own = np.repeat([0, 1, 2], [40, 9, 8]), rng.random(57)
    found = set_thresholds(labels, own, 4, 0.9)
    assert found.is_marginal.tolist() == [False, False, True, True]
    wanted = [statistics.quantiles(part, n=10)[0] for part in (own[:40], own[40:49], own, own)]
    assert found.thresholds == pytest.approx(wanted, abs=1e-6)
    assert (found.thresholds <= wanted).all()
    members = prediction_sets(np.array([found.thresholds, found.thresholds - 1e-6]), found.thresholds)
    assert members.tolist() == [[True] * 4, [False] * 4]


def test_too_few_images_put_every_class_into_every_set() -> None:
    assert set_thresholds(np.array([0, 1]), np.array([0.9, 0.8]), 2, 0.9).thresholds.tolist() == [0, 0]


def test_classes_with_few_images_are_covered_as_asked() -> None:
    """The share of a class of 18 images that is above its threshold, on average over 2,000 classes."""
    scores, classes = np.random.default_rng(0).random((2_000, 18)), np.repeat(np.arange(2_000), 18)

    def covered(power: float) -> float:
        found = set_thresholds(classes, scores.ravel() ** power, 2_000, 0.9).thresholds
        return float((1 - found ** (1 / power)).mean())

    error = 0.07 / 2_000**0.5
    assert covered(1) == pytest.approx(0.9, abs=3 * error)
    # low probabilities are rarer than high ones: at least as asked
    assert 0.9 - 3 * error < covered(0.25) < 0.92
    # whatever the probabilities are: at most one image less
    assert covered(2) > 17 / 19
    rounded_up = np.sort(scores, axis=1)[:, 0]
    assert 1 - rounded_up.mean() == pytest.approx(18 / 19, abs=3 * error)  # far more than asked


def test_sets_cover_what_was_asked_in_every_class_and_one_quantile_for_all_does_not() -> None:
    images, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    train, rest = order[:300], order[300:]
    model = LogisticRegression(max_iter=500).fit(images[train] / 16, targets[train])
    probabilities = softmax(model.decision_function(images / 16), axis=1)
    own = probabilities[np.arange(len(targets)), targets]
    rng = np.random.default_rng(1)
    hits, hits_of_one, counts = np.zeros((3, 10))
    for _ in range(50):
        mixed = rng.permutation(rest)
        val, test = mixed[:700], mixed[700:]
        thresholds = set_thresholds(targets[val], own[val], 10, 0.9).thresholds
        one = set_thresholds(np.zeros_like(val), own[val], 1, 0.9).thresholds
        counts += np.bincount(targets[test], minlength=10)
        hits += np.bincount(targets[test], own[test] >= thresholds[targets[test]], 10)
        hits_of_one += np.bincount(targets[test], own[test] >= one, 10)
    assert hits.sum() / counts.sum() == pytest.approx(0.9, abs=0.005)
    assert (hits / counts).min() > 0.885
    assert (hits_of_one / counts).min() < 0.85

"""Sure decisions and possible labels, if an image may have several: by hand, by loops, by simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta

from darkroom.metrics.conformal import controlled_threshold, label_set_thresholds
from darkroom.metrics.selective import decision_thresholds

Array = NDArray[np.float64]


def drawn(num_images: int, seed: int) -> tuple[NDArray[np.bool_], Array]:
    """Five labels, from one in twelve to half of the images, and probabilities that are a guess."""
    rng = np.random.default_rng(seed)
    has_it = rng.random((num_images, 5)) < np.array([0.5, 0.4, 0.3, 0.15, 0.08])
    sharpness = np.array([4.0, 2.0, 1.0, 3.0, 2.0])
    return has_it, expit(sharpness * (has_it - 0.5) + rng.normal(size=(num_images, 5)))


def test_a_controlled_threshold_by_hand() -> None:
    """An image with two labels and eight with one: up to one whole miss in ten is 0.2 of 9 + 1."""
    targets = np.zeros((10, 2), bool)
    targets[0] = True
    targets[1:9, 0] = True  # the last image has no label, and does not count
    probabilities = np.full((10, 2), 0.01)
    probabilities[0] = 0.1, 0.2
    probabilities[1:9, 0] = np.arange(3, 11) / 10
    # missed below 0.1, 0.2, 0.3, 0.4: 0, 0.5, 1 and 2 images
    assert controlled_threshold(targets, probabilities, 0.8) == 0.3
    assert controlled_threshold(targets, probabilities, 0.86) == 0.1
    assert controlled_threshold(targets, probabilities, 0.7) == 0.4
    assert controlled_threshold(targets, probabilities, 0.95) == 0  # 1 of 10 is more than 0.05
    assert controlled_threshold(targets[9:], probabilities[9:], 0.5) == 0


def test_thresholds_of_labels_are_quantiles_of_the_images_that_have_them() -> None:
    targets, probabilities = drawn(60, 0)
    found = label_set_thresholds(targets, probabilities, 0.9)
    assert found.is_marginal.tolist() == [int(targets[:, label].sum()) < 9 for label in range(5)]
    assert found.is_marginal.any()
    for label in np.flatnonzero(~found.is_marginal):
        own = np.sort(probabilities[targets[:, label], label])
        reached = [value for value in own if (own >= value).sum() >= 0.9 * (len(own) + 1) - 1e-9]
        assert found.thresholds[label] == pytest.approx(max(reached), abs=1e-6)
    rare = found.thresholds[found.is_marginal]
    assert rare == pytest.approx(controlled_threshold(targets, probabilities, 0.9), abs=1e-6)


def test_what_is_promised_about_missed_labels_holds() -> None:
    """The negative twin misses a tenth of the labels of validation images, and more of others."""
    test, of_test = drawn(5_000, 1)
    num_labels = test.sum(axis=1)

    def missed(threshold: float) -> float:
        lost = (test & (of_test < threshold)).sum(axis=1)
        return float((lost / np.maximum(num_labels, 1))[num_labels > 0].mean())

    promised, naive, covered = [], [], []
    for seed in range(400):
        targets, probabilities = drawn(25, 10 + seed)
        promised.append(missed(controlled_threshold(targets, probabilities, 0.9)))
        own = probabilities[targets]
        naive.append(missed(float(np.quantile(own, 0.1, method="higher"))))
        found = label_set_thresholds(targets, probabilities, 0.9)
        has_it = (test & (of_test >= found.thresholds)).sum(axis=0) / test.sum(axis=0)
        covered.append(np.where(found.is_marginal, np.nan, has_it)[:2])
    error = np.std(promised) / 20
    assert np.mean(promised) < 0.1 + error
    assert np.mean(naive) > 0.1 + 3 * error
    assert np.nanmean(covered, axis=0).min() > 0.9 - 0.005
    assert np.nanmean(covered, axis=0).max() < 0.9 + 0.1


def test_decisions_are_sure_where_their_lower_bound_reaches_the_precision() -> None:
    targets, probabilities = drawn(400, 3)
    has_it, own = targets[:, 1], probabilities[:, 1]
    found = decision_thresholds(own, has_it, 0.4, 0.9)

    def lower(said: NDArray[np.bool_], is_right: NDArray[np.bool_]) -> float:
        n, k = said.sum(), (said & is_right).sum()
        return float(beta.ppf(0.05, k, n - k + 1)) if k else 0.0

    yes = min(t for t in own[own >= 0.4] if lower(own >= t, has_it) >= 0.9)
    no = max(t for t in own[own < 0.4] if lower(own <= t, ~has_it) >= 0.9)
    assert (found.yes, found.no) == (pytest.approx(yes, abs=1e-6), pytest.approx(no, abs=1e-6))
    assert found.no is not None
    assert found.yes is not None
    assert found.no < 0.4 < found.yes
    assert ((own >= found.yes) == (own >= yes)).all()
    assert ((own <= found.no) == (own <= no)).all()
    # the negative twins: what cannot be shown, and a label that is never, or always, predicted
    assert decision_thresholds(own, has_it, 0.4, 0.9999) == (None, None)
    assert decision_thresholds(own, has_it, 1.1, 0.5).yes is None
    assert decision_thresholds(own, has_it, 0.0, 0.5).no is None

"""Sure decisions and possible labels, if an image may have several: by hand, by loops, by simulation."""

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta
from support import make_spec

from darkroom.config.evaluate import Evaluate
from darkroom.evaluation.evaluate import evaluate
from darkroom.evaluation.label_answers import learn_label_rules
from darkroom.export.rules import answer_rules
from darkroom.metrics.conformal import controlled_threshold, label_set_thresholds
from darkroom.metrics.remarks import remarks_on
from darkroom.metrics.selective import decision_thresholds
from darkroom.reporting.scores import answer_sentences
from darkroom.training.calibration import write_validation

Array = NDArray[np.float64]
NAMES = ("dog", "cat", "owl", "fox", "elk")


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
        lowest_decile = statistics.quantiles(probabilities[targets[:, label], label], n=10)[0]
        assert found.thresholds[label] == pytest.approx(lowest_decile, abs=1e-6)
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
    # a probability just below the model's threshold, and six digits
    close = decision_thresholds(np.full(60, 0.4 - 1e-9), np.zeros(60, bool), 0.4, 0.9)
    assert close.no is not None
    assert 0.4 - 1e-9 <= close.no < 0.4


def test_what_validation_promises_is_measured_on_test_images(tmp_path: Path) -> None:
    """From the validation table to metrics.json, model.json, the remarks and the report."""
    spec = make_spec(class_names=NAMES, target="several_labels", thresholds=(0.5,) * 5)
    (val, of_val), (test, of_test) = drawn(300, 4), drawn(300, 5)
    labels = [[name for name, has_it in zip(NAMES, row, strict=True) if has_it] for row in val]
    columns = {"labels": labels, "probabilities": list(of_val.astype(np.float32))}
    paths = [f"{index}.png" for index in range(300)]
    write_validation(columns, paths, tmp_path / "validation.parquet")
    options = Evaluate.model_construct(target_precision=0.8, coverage=0.9)
    rules = learn_label_rules(spec, tmp_path / "validation.parquet", options)
    exact = of_val.astype(np.float32).astype(np.float64)
    for label, found in enumerate(rules.decisions):
        assert found == decision_thresholds(exact[:, label], val[:, label], 0.5, 0.8)
    logits = torch.from_numpy(np.log(of_test) - np.log1p(-of_test)).float()
    evaluation = evaluate(spec, torch.from_numpy(test).float(), logits, paths, rules=rules)
    metrics = evaluation.metrics
    own, abstention = evaluation.probabilities.numpy(), metrics["abstention"]
    yes = own >= np.array([2.0 if one.yes is None else one.yes for one in rules.decisions])
    no = own <= np.array([-1.0 if one.no is None else one.no for one in rules.decisions])
    assert abstention["coverage"] == pytest.approx((yes | no).mean(), abs=1e-6)
    assert abstention["images_answered"] == pytest.approx((yes | no).all(axis=1).mean(), abs=1e-6)
    assert abstention["precision"] == pytest.approx(test[yes].mean(), abs=1e-6)
    assert abstention["precision_of_no"] == pytest.approx(1 - test[no].mean(), abs=1e-6)
    assert 0.75 < abstention["precision"] < 1
    assert 0 < abstention["images_answered"] < abstention["coverage"] < 1
    sets = metrics["conformal"]
    assert rules.sets is not None
    members = own >= rules.sets.thresholds
    assert sets["coverage"] == pytest.approx(members[test].mean(), abs=1e-6)
    assert sets["mean_set_size"] == pytest.approx(members.sum(axis=1).mean(), abs=1e-6)
    assert answer_rules(metrics) == {
        "abstention": {
            "target_precision": 0.8,
            "yes": [one.yes for one in rules.decisions],
            "no": [one.no for one in rules.decisions],
        },
        "conformal": {"coverage": 0.9, "thresholds": rules.sets.thresholds.tolist()},
    }
    first, second = answer_sentences(metrics)
    assert f"{abstention['coverage']:.1%} of the labels of all test images" in first
    assert f"contain {sets['coverage']:.1%} of the true labels of the test images" in second
    rows = [{"class": name, **row} for name, row in metrics["per_class"].items()]
    unsure = [name for name, one in zip(NAMES, rules.decisions, strict=True) if one.yes is None]
    said = [one for one in remarks_on({**metrics, "per_class": rows}) if "leaves them open" in one]
    assert [", ".join(unsure) in one for one in said] == [True] * bool(unsure)
    assert unsure
    # the negative twin: nothing was asked for
    nothing = Evaluate.model_construct(target_precision=None, coverage=None)
    assert not learn_label_rules(spec, tmp_path / "validation.parquet", nothing).measure(test, own)

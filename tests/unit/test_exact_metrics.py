"""Every score, before it is rounded, agrees with scikit-learn or scipy to 1e-12."""

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from scipy.stats import binomtest
from test_calibration import _error

from darkroom.metrics import (
    calibration,
    classification,
    counts,
    intervals,
    multi_label_classification,
    ranking,
)

EXACT: dict[str, Any] = {"rel": 0, "abs": 1e-12}
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(scale=2, size=(402, 5)).round(1)
"""With equal values; 402 is no multiple of the number of bins."""
UNTIED = LOGITS + RANDOM.uniform(-0.04, 0.04, LOGITS.shape)
TARGETS = np.where(RANDOM.random(402) < 0.5, LOGITS.argmax(axis=1), RANDOM.integers(0, 5, 402))
AVERAGES = ("macro", "weighted", "micro")


@pytest.fixture(autouse=True)
def _unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (calibration, classification, counts, intervals, multi_label_classification, ranking):
        monkeypatch.setattr(module, "DIGITS", 16)


def expected_of_decisions(targets: NDArray[Any], preds: NDArray[Any]) -> dict[str, Any]:
    """Precision, recall and F1: their averages, and those of each class."""
    names = ("precision", "recall", "f1")
    averages = {
        f"{name}_{average}": score
        for average in AVERAGES
        for name, score in zip(
            names, sk.precision_recall_fscore_support(targets, preds, average=average)[:3], strict=True
        )
    }
    by_class = sk.precision_recall_fscore_support(targets, preds)[:3]
    return averages | dict(zip(names, by_class, strict=True))


def compared(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Asserts that all expected scores are there; returns the largest difference."""
    rows = found["per_class"].values()
    both = [
        (score, found[name] if name in found else [row[name] for row in rows])
        for name, score in expected.items()
    ]
    return max(float(np.abs(np.asarray(one) - np.asarray(other)).max()) for one, other in both)


def test_scores_of_classes() -> None:
    probabilities = softmax(LOGITS, axis=1)

    def expected(targets: NDArray[np.int64]) -> dict[str, Any]:
        of_each = targets[:, None] == np.arange(5)
        return {
            **expected_of_decisions(targets, probabilities.argmax(axis=1)),
            "accuracy": sk.accuracy_score(targets, probabilities.argmax(axis=1)),
            "roc_auc": sk.roc_auc_score(of_each, probabilities, average=None),
            "roc_auc_macro": sk.roc_auc_score(targets, probabilities, multi_class="ovr"),
            "average_precision": sk.average_precision_score(of_each, probabilities, average=None),
            "average_precision_macro": sk.average_precision_score(of_each, probabilities),
        }

    found = classification.classification_metrics(
        torch.from_numpy(TARGETS), torch.from_numpy(probabilities), [*"abcde"]
    )
    assert compared(found, expected(TARGETS)) <= 1e-12
    changed = TARGETS.copy()
    changed[0] = (changed[0] + 1) % 5  # one label of 402
    assert compared(found, expected(changed)) > 1e-4


def test_scores_of_labels() -> None:
    probabilities = expit(LOGITS)
    targets = RANDOM.random(LOGITS.shape) < probabilities

    def expected(targets: NDArray[np.bool_]) -> dict[str, Any]:
        preds = probabilities >= 0.5
        return {
            **expected_of_decisions(targets, preds),
            "exact_match": sk.accuracy_score(targets, preds),
            "hamming_loss": sk.hamming_loss(targets, preds),
            "roc_auc": sk.roc_auc_score(targets, probabilities, average=None),
            "average_precision": sk.average_precision_score(targets, probabilities, average=None),
        }

    found = multi_label_classification.multi_label_metrics(
        torch.from_numpy(targets), torch.from_numpy(probabilities), [0.5] * 5, [*"abcde"]
    )
    assert compared(found, expected(targets)) <= 1e-12
    changed = targets.copy()
    changed[0, 0] ^= True
    assert compared(found, expected(changed)) > 1e-4


def test_calibration_of_classes() -> None:
    probabilities = softmax(UNTIED, axis=1)
    found = calibration.class_calibration(TARGETS, probabilities)
    is_right = probabilities.argmax(axis=1) == TARGETS
    expected = {
        "nll": sk.log_loss(TARGETS, probabilities),
        "brier": sk.brier_score_loss(TARGETS, probabilities, scale_by_half=False),
        "ece": _error(probabilities.max(axis=1), is_right),
    }
    assert found == pytest.approx(expected, **EXACT)
    other = calibration.class_calibration(TARGETS, softmax(UNTIED * 1.001, axis=1))
    assert all(abs(other[name] - expected[name]) > 1e-9 for name in expected)


def test_calibration_of_labels() -> None:
    probabilities = expit(UNTIED)
    targets = RANDOM.random(LOGITS.shape) < probabilities
    found = calibration.label_calibration(targets, probabilities)
    columns = list(zip(targets.T, probabilities.T, strict=True))
    expected = {
        "nll": np.mean([sk.log_loss(*pair) for pair in columns]),
        "brier": np.mean([sk.brier_score_loss(*pair) for pair in columns]),
        "ece": np.mean([_error(scores, truth) for truth, scores in columns]),
    }
    assert found == pytest.approx(expected, **EXACT)
    other = calibration.label_calibration(targets, expit(UNTIED * 1.001))
    assert all(abs(other[name] - expected[name]) > 1e-9 for name in expected)


@pytest.mark.parametrize(("hits", "number"), [(0, 7), (7, 7), (41, 60), (9_990, 10_000)])
def test_intervals_of_proportions(hits: int, number: int) -> None:
    expected = binomtest(hits, number).proportion_ci(method="wilson")
    found = intervals.wilson(np.array(hits / number), np.array(float(number)))
    assert found == pytest.approx([expected.low, expected.high], **EXACT)
    other = intervals.wilson(np.array(hits / number), np.array(number + 0.01))
    assert other != pytest.approx([expected.low, expected.high], **EXACT)

"""Metrics of several labels an image, and pairs of confused labels, against scikit-learn and by hand."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from quick import quick_first
from sklearn import metrics as sk
from support import score_differences
from torch import Tensor

from darkroom.metrics.counts import counts_of_labels
from darkroom.metrics.curves import precision_recall_curves, roc_curves
from darkroom.metrics.multi_label import best_thresholds, labels_at
from darkroom.metrics.multi_label_classification import confused_labels, multi_label_metrics

torch.set_num_threads(1)

SINGLE = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
RANKED = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
AVERAGES = ("macro", "weighted", "micro")

Case = tuple[NDArray[np.int64], NDArray[np.float64], list[float]]
"""targets and probabilities ``(n, num_labels)``, thresholds"""


def learnt(num_images: int, num_labels: int, skill: float, seed: int) -> Case:
    """Of a model that is right the more often the higher ``skill``, at its best thresholds."""
    random = np.random.default_rng(seed)
    targets = (random.random((num_images, num_labels)) < random.uniform(0.1, 0.7, num_labels)).astype(
        int
    )
    logits = random.normal(0, 1, targets.shape) + skill * (2 * targets - 1)
    probabilities = 1 / (1 + np.exp(-logits))
    thresholds = best_thresholds(torch.from_numpy(targets), torch.from_numpy(probabilities))
    return targets, probabilities, thresholds


def changed(labels: list[int], target: int | None = None, p: float | None = None) -> Case:
    """A case in which all images have the same target, or the same probability, for some labels."""
    targets, probabilities, thresholds = learnt(80, 5, 1.0, 3)
    if target is not None:
        targets[:, labels] = target
    if p is not None:
        probabilities[:, labels] = p
    return targets, probabilities, thresholds


CASES: dict[str, Case] = {
    "random": learnt(400, 5, 0.7, 0),
    "perfect": learnt(60, 3, 100.0, 1),
    "all wrong": (lambda t, p, _: (t, 1 - p, [0.5] * 3))(*learnt(60, 3, 100.0, 1)),
    "a label of no image": changed([1], target=0),
    "a label of all images": changed([4], target=1),
    "a label never predicted": changed([2], p=0.0),
    "labels in neither": changed([0, 2], target=0, p=0.0),
    "nothing anywhere": changed([0, 1, 2, 3, 4], target=0, p=0.0),
    "no labels, all predicted": changed([0, 1, 2, 3, 4], target=0, p=1.0),
    "ties": (lambda t, p, s: (t, p.round(1), s))(*learnt(200, 3, 0.7, 5)),
    "one image": learnt(1, 4, 1.0, 6),
    "one label": learnt(50, 1, 0.7, 7),
    "many labels": learnt(300, 40, 0.7, 8),
}


@pytest.fixture(params=quick_first(CASES.keys() - {"many labels"}, CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def names(targets: NDArray[np.int64]) -> list[str]:
    return [f"label {index}" for index in range(targets.shape[1])]


def measure(targets: NDArray[np.int64], probabilities: NDArray, thresholds: list[float]) -> dict:
    given = torch.from_numpy(targets).float(), torch.from_numpy(probabilities)
    return multi_label_metrics(*given, thresholds, names(targets))


def averaged(
    metric: str, average: str, targets: NDArray[np.int64], preds: NDArray[np.int64]
) -> float | None:
    """By scikit-learn; its macro average would count labels that no image has as 0."""
    if not targets.any():
        return None
    if targets.shape[1] == 1:  # to scikit-learn one column is no multi-label set
        return SINGLE[metric](targets[:, 0], preds[:, 0], zero_division=0)
    present = np.flatnonzero(targets.any(axis=0)) if average == "macro" else None
    return SINGLE[metric](targets, preds, labels=present, average=average, zero_division=0)


def expected_metrics(
    targets: NDArray[np.int64], probabilities: NDArray, thresholds: list[float]
) -> dict[str, Any]:
    preds = (probabilities >= np.array(thresholds)).astype(int)
    expected: dict[str, Any] = {
        "num_images": len(targets),
        "exact_match": sk.accuracy_score(targets, preds),
        "hamming_loss": sk.hamming_loss(targets, preds),
    }
    per_class = {}
    for index, name in enumerate(names(targets)):
        its, said, scores = targets[:, index], preds[:, index], probabilities[:, index]
        row = {
            metric: function(its, said, zero_division=0) if its.any() else None
            for metric, function in SINGLE.items()
        }
        mixed = 0 < its.sum() < len(its)
        row |= {metric: function(its, scores) if mixed else None for metric, function in RANKED.items()}
        per_class[name] = {**row, "support": its.sum(), "predicted": said.sum()}
        per_class[name]["threshold"] = thresholds[index]
    for metric in SINGLE:
        for average in AVERAGES:
            expected[f"{metric}_{average}"] = averaged(metric, average, targets, preds)
    for metric in RANKED:
        defined = [row[metric] for row in per_class.values() if row[metric] is not None]
        expected[f"{metric}_macro"] = np.mean(defined) if defined else None
    return {**expected, "per_class": per_class}


def flat(metrics: dict[str, Any]) -> dict[str, float | None]:
    plain = {name: value for name, value in metrics.items() if name != "per_class"}
    rows = metrics["per_class"].items()
    return plain | {f"{label}/{name}": v for label, row in rows for name, v in row.items()}


def differences(actual: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple]:
    return score_differences(flat(actual), flat(expected))


def test_metrics_agree_with_scikit_learn(case: Case) -> None:
    assert differences(measure(*case), expected_metrics(*case)) == {}


def test_one_changed_label_changes_the_metrics_as_scikit_learn_says(case: Case) -> None:
    targets, probabilities, thresholds = case
    other = targets.copy()
    other[0, 0] ^= 1
    metrics = measure(other, probabilities, thresholds)
    assert differences(metrics, expected_metrics(other, probabilities, thresholds)) == {}
    assert differences(metrics, expected_metrics(*case)) != {}


def test_another_threshold_changes_counts_but_no_area() -> None:
    targets, probabilities, thresholds = CASES["random"]
    before = measure(targets, probabilities, thresholds)
    after = measure(targets, probabilities, [0.9, *thresholds[1:]])
    rows = before["per_class"]["label 0"], after["per_class"]["label 0"]
    for name in ("precision", "recall", "f1", "threshold"):
        assert rows[0][name] != rows[1][name]
    for name in ("roc_auc", "average_precision", "support"):
        assert rows[0][name] == rows[1][name]
    assert before["per_class"]["label 1"] == after["per_class"]["label 1"]


def test_names_are_those_of_one_label_an_image_where_there_are_such() -> None:
    metrics = measure(*CASES["random"])
    ours = {f"{metric}_{average}" for metric in SINGLE for average in AVERAGES}
    assert ours | {"roc_auc_macro", "average_precision_macro", "num_images", "per_class"} <= set(metrics)
    assert "accuracy" not in metrics


# thresholds


def test_a_probability_at_its_threshold_is_enough_and_less_is_not() -> None:
    below = np.nextafter(0.1234, 0)
    rows = torch.tensor([[0.1234, 0.5], [below, 0.5], [0.2, 0.4]], dtype=torch.float64)
    expected = [[True, True], [False, True], [True, False]]
    assert labels_at([0.1234, 0.5], rows).tolist() == expected


def test_float32_probabilities_are_compared_as_the_numbers_they_are() -> None:
    as_float32 = np.float32(0.1)  # 0.100000001...
    assert float(as_float32) > 0.1
    probabilities = torch.tensor([[0.1, 0.7]], dtype=torch.float32)
    assert float(np.float32(0.7)) < 0.7
    assert labels_at([0.1, 0.7], probabilities).tolist() == [[True, False]]


# counts and confusions


def test_counts_are_scikit_learns(case: Case) -> None:
    targets, probabilities, thresholds = case
    preds = (probabilities >= np.array(thresholds)).astype(int)
    counts = counts_of_labels(torch.from_numpy(targets), torch.from_numpy(preds))
    ours = zip(*(count.tolist() for count in counts), strict=True)
    for index, (hits, wrong, missed, rest) in enumerate(ours):
        its, said = targets[:, index], preds[:, index]
        assert [[rest, wrong], [missed, hits]] == sk.confusion_matrix(its, said, labels=[0, 1]).tolist()


def sets(*images: str, of: str = "abc") -> Tensor:
    return torch.tensor([[letter in image for letter in of] for image in images])


def test_confused_labels_by_hand() -> None:
    a, b, c, none = range(4)
    table = [
        ("", "", [(none, none)]),
        ("ab", "ab", [(a, a), (b, b)]),
        ("a", "", [(a, none)]),
        ("", "b", [(none, b)]),
        ("ab", "a", [(a, a), (b, none)]),
        ("a", "ac", [(a, a), (none, c)]),
        ("a", "b", [(a, b)]),
        ("ab", "ac", [(a, a), (b, c)]),
        ("ab", "c", [(a, c), (b, c)]),
        ("c", "ab", [(c, a), (c, b)]),
    ]
    for its, said, expected in table:
        assert confused_labels(sets(its), sets(said)) == expected, (its, said)
    together = confused_labels(*(sets(*(row[column] for row in table)) for column in (0, 1)))
    assert together == [pair for *_, expected in table for pair in expected]


def test_of_one_label_an_image_they_are_the_usual_confusion_matrix() -> None:
    random = np.random.default_rng(0)
    targets, preds = random.integers(0, 4, 100), random.integers(0, 4, 100)
    as_sets = [torch.from_numpy(np.eye(4, dtype=int)[which]) for which in (targets, preds)]
    pairs = Counter(confused_labels(*as_sets))
    counted = [[pairs[row, column] for column in range(4)] for row in range(4)]
    assert counted == sk.confusion_matrix(targets, preds).tolist()
    assert sum(pairs.values()) == 100


def test_the_diagonal_and_what_is_missed_or_wrong_agree_with_the_counts() -> None:
    targets, probabilities, thresholds = CASES["random"]
    preds = probabilities >= np.array(thresholds)
    counts = counts_of_labels(torch.from_numpy(targets), torch.from_numpy(preds))
    pairs = Counter(confused_labels(torch.from_numpy(targets), torch.from_numpy(preds)))
    for label in range(5):
        assert pairs[label, label] == counts.true_positives[label]
        missed = sum(n for (its, said), n in pairs.items() if its == label != said)
        wrong = sum(n for (its, said), n in pairs.items() if said == label != its)
        assert missed >= counts.false_negatives[label] > 0
        assert wrong >= counts.false_positives[label] > 0


# curves


@pytest.mark.parametrize("function", [precision_recall_curves, roc_curves])
def test_curves_of_a_label_are_those_of_two_classes(function: Any) -> None:
    targets, probabilities, _ = CASES["a label of all images"]
    curves = function(torch.from_numpy(targets).float(), torch.from_numpy(probabilities), names(targets))
    assert list(curves.values) == names(targets)[:4]  # all images have the fifth
    for index, values in enumerate(curves.values.values()):
        scores = torch.from_numpy(probabilities[:, index])
        both = torch.stack((1 - scores, scores), dim=1)
        positive = torch.from_numpy(targets[:, index])
        one_of_two = function(torch.stack((1 - positive, positive), dim=1), both, ["no", "yes"])
        assert values.tolist() == one_of_two.values["yes"].tolist()
    first, second = list(curves.values.values())[:2]
    assert first.tolist() != second.tolist()


def test_where_no_label_can_be_ranked_the_mean_curve_is_no_number() -> None:
    curves = roc_curves(torch.ones(4, 2), torch.rand(4, 2, dtype=torch.float64), ["a", "b"])
    assert curves.values == {}
    assert np.isnan(curves.macro).tolist() == [True] * 101

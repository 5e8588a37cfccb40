"""Metrics and curves against scikit-learn."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk
from support import NO_WARNINGS, score_differences
from torch import Tensor

from darkroom.metrics.classification import classification_metrics, metrics_file
from darkroom.metrics.confusion import accuracy, confusion_matrix, macro_f1
from darkroom.metrics.curves import Curves, precision_recall_curves, roc_curves

# no warning of a library reaches the terminal, whatever the case
pytestmark = NO_WARNINGS

Case = tuple[NDArray[np.int64], NDArray[np.float64]]
"""targets ``(n,)`` and probabilities ``(n, num_classes)``"""

SINGLE = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
RANKED = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
AVERAGES = ("macro", "weighted", "micro")


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def learnt(targets: NDArray[np.int64], num_classes: int, skill: float, seed: int) -> Case:
    """Probabilities of a model that is right the more often the higher ``skill``."""
    logits = np.random.default_rng(seed).normal(0, 1, (len(targets), num_classes))
    logits[np.arange(len(targets)), targets] += skill
    return targets, softmax(logits)


def imbalanced() -> Case:
    targets = np.random.default_rng(1).choice(4, 500, p=[0.9, 0.07, 0.02, 0.01])
    return learnt(targets, 4, 1.0, 1)


def sure(targets: NDArray[np.int64], preds: NDArray[np.int64], num_classes: int) -> Case:
    """Probabilities near one for ``preds``, all different."""
    logits = np.random.default_rng(2).normal(0, 0.1, (len(targets), num_classes))
    logits[np.arange(len(targets)), preds] += 5
    return targets, softmax(logits)


def tied() -> Case:
    """Few distinct scores in a class, so that thresholds hold several images; no row has a tie."""
    targets, probabilities = learnt(np.random.default_rng(3).integers(0, 3, 200), 3, 1.0, 3)
    return targets, probabilities.round(1) * 0.9 + np.array([0.01, 0.02, 0.03])


def never_predicted() -> Case:
    targets, probabilities = learnt(np.random.default_rng(4).integers(0, 4, 120), 4, 1.5, 4)
    probabilities[:, 2] *= 1e-3
    return targets, probabilities / probabilities.sum(axis=1, keepdims=True)


def nowhere() -> Case:
    targets, probabilities = learnt(np.random.default_rng(5).choice([0, 1, 3], 120), 5, 1.5, 5)
    probabilities[:, [2, 4]] *= 1e-3
    return targets, probabilities / probabilities.sum(axis=1, keepdims=True)


COUNTING = np.arange(60) % 3
CASES: dict[str, Case] = {
    "random": learnt(np.random.default_rng(0).integers(0, 5, 400), 5, 1.0, 0),
    "imbalanced": imbalanced(),
    "binary": learnt(np.random.default_rng(6).integers(0, 2, 101), 2, 0.7, 6),
    "perfect": sure(COUNTING, COUNTING, 3),
    "all wrong": sure(COUNTING, (COUNTING + 1) % 3, 3),
    "class never predicted": never_predicted(),
    "class never a target": learnt(np.random.default_rng(7).choice([0, 2], 90), 3, 0.5, 7),
    "class in neither": nowhere(),
    "ties": tied(),
    "saturated": (lambda t, p: (t, softmax(30 * np.log(p))))(
        *learnt(np.random.default_rng(8).integers(0, 3, 300), 3, 1.0, 8)
    ),
    "two images": sure(np.array([0, 1]), np.array([0, 0]), 2),
    "one class only": learnt(np.full(20, 1), 3, 1.0, 9),
    "ten of each": learnt(np.arange(100) % 10, 10, 1.0, 10),
    "many classes": learnt(np.random.default_rng(11).integers(0, 60, 600), 60, 3.0, 11),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def names(probabilities: NDArray[np.float64]) -> list[str]:
    return [f"class {index}" for index in range(probabilities.shape[1])]


def measure(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    return classification_metrics(
        torch.from_numpy(targets), torch.from_numpy(probabilities), names(probabilities)
    )


def expected_metrics(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """The same by scikit-learn; its macro average is told which classes have images."""
    preds = probabilities.argmax(axis=1)
    classes = range(probabilities.shape[1])
    present = np.unique(targets)
    expected: dict[str, Any] = {
        "num_images": len(targets),
        "accuracy": sk.accuracy_score(targets, preds),
    }
    per_class: dict[str, dict[str, Any]] = {name: {} for name in names(probabilities)}
    for metric, function in SINGLE.items():
        for average in AVERAGES:
            labels = present if average == "macro" else None
            expected[f"{metric}_{average}"] = function(
                targets, preds, labels=labels, average=average, zero_division=0
            )
        values = function(targets, preds, labels=list(classes), average=None, zero_division=0)
        for index, row in zip(classes, per_class.values(), strict=True):
            row[metric] = values[index] if index in present else None
    for metric, function in RANKED.items():
        for index, row in zip(classes, per_class.values(), strict=True):
            positive = targets == index
            mixed = positive.any() and not positive.all()
            row[metric] = function(positive, probabilities[:, index]) if mixed else None
        defined = [row[metric] for row in per_class.values() if row[metric] is not None]
        expected[f"{metric}_macro"] = np.mean(defined) if defined else None
    for index, row in zip(classes, per_class.values(), strict=True):
        row["support"] = int((targets == index).sum())
        row["predicted"] = int((preds == index).sum())
    return {**expected, "per_class": per_class}


def flat(metrics: dict[str, Any]) -> dict[str, float | None]:
    per_class = metrics["per_class"]
    plain = {name: value for name, value in metrics.items() if name != "per_class"}
    return plain | {f"{cls}/{name}": v for cls, row in per_class.items() for name, v in row.items()}


def differences(actual: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple]:
    return score_differences(flat(actual), flat(expected))


def test_metrics_agree_with_scikit_learn(case: Case) -> None:
    assert differences(measure(*case), expected_metrics(*case)) == {}


def test_one_flipped_label_changes_the_metrics_as_scikit_learn_says(case: Case) -> None:
    targets, probabilities = case
    flipped = targets.copy()
    flipped[0] = (flipped[0] + 1) % probabilities.shape[1]
    changed = measure(flipped, probabilities)
    assert differences(changed, expected_metrics(flipped, probabilities)) == {}
    assert differences(changed, expected_metrics(targets, probabilities)) != {}


def test_macro_roc_auc_is_scikit_learns_one_vs_rest() -> None:
    targets, probabilities = CASES["random"]
    expected = sk.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    assert measure(targets, probabilities)["roc_auc_macro"] == pytest.approx(expected, abs=1.1e-6)


def test_perfect_and_all_wrong_are_one_and_nought() -> None:
    for name, value in (("perfect", 1.0), ("all wrong", 0.0)):
        metrics = measure(*CASES[name])
        singles = [metrics[f"{metric}_{average}"] for metric in SINGLE for average in AVERAGES]
        assert {metrics["accuracy"], *singles} == {value}, name


def test_a_class_that_cannot_be_ranked_has_no_area_and_does_not_count_in_the_mean() -> None:
    metrics = measure(*CASES["class never a target"])
    rows = metrics["per_class"]
    assert rows["class 1"]["roc_auc"] is None
    assert rows["class 1"]["average_precision"] is None
    assert rows["class 1"]["support"] == 0
    areas = (rows["class 0"]["roc_auc"], rows["class 2"]["roc_auc"])
    assert metrics["roc_auc_macro"] == pytest.approx(np.mean(areas), abs=1.1e-6)
    assert measure(*CASES["one class only"])["roc_auc_macro"] is None


def test_one_false_prediction_of_a_class_without_images_costs_one_image() -> None:
    """Ten classes, of which the last has no image: 89 of 90 are right."""
    targets = np.arange(90) % 9
    preds = targets.copy()
    preds[0] = 9
    metrics = measure(*sure(targets, preds, 10))
    recall = (8 + 0.9) / 9
    assert metrics["recall_macro"] == pytest.approx(recall, abs=1.1e-6)
    assert metrics["f1_macro"] == pytest.approx((8 + 2 * 0.9 / 1.9) / 9, abs=1.1e-6)
    assert metrics["precision_macro"] == 1
    # as scikit-learn by default, whose mean has the class in it as 0
    assert sk.f1_score(targets, preds, average="macro") < 0.9 < metrics["f1_macro"]
    row = metrics["per_class"]["class 9"]
    assert (row["support"], row["predicted"]) == (0, 1)
    measured = ("precision", "recall", "f1", "roc_auc", "average_precision")
    assert [row[name] for name in measured] == [None] * 5


def test_a_class_with_images_that_is_never_predicted_counts_as_nought() -> None:
    metrics = measure(*CASES["class never predicted"])
    row = metrics["per_class"]["class 2"]
    assert row["support"] > 0
    assert row["predicted"] == 0
    assert (row["precision"], row["recall"], row["f1"]) == (0, 0, 0)
    others = [metrics["per_class"][f"class {index}"]["precision"] for index in (0, 1, 3)]
    assert metrics["precision_macro"] == pytest.approx(sum(others) / 4, abs=1.1e-6)


def test_the_file_has_the_same_numbers_with_the_classes_in_a_list() -> None:
    metrics = measure(*CASES["class never a target"])
    file = metrics_file(metrics)
    assert {row.pop("class"): row for row in file.pop("per_class")} == metrics.pop("per_class")
    assert file == metrics


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_callers_deterministic_mode_is_left_as_it_was(deterministic: bool) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        metrics = measure(*CASES["random"])
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        with pytest.raises((RuntimeError, ValueError)):
            classification_metrics(torch.zeros(2, dtype=torch.int64), torch.zeros(3, 2), ["a", "b"])
        assert torch.are_deterministic_algorithms_enabled() is deterministic
    finally:
        torch.use_deterministic_algorithms(before)
    assert differences(metrics, expected_metrics(*CASES["random"])) == {}


def confusion_of(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Tensor:
    preds = torch.from_numpy(probabilities).argmax(dim=1)
    return confusion_matrix(torch.from_numpy(targets), preds, probabilities.shape[1])


def test_confusion_matrix_macro_f1_and_accuracy_agree_with_scikit_learn(case: Case) -> None:
    targets, probabilities = case
    preds = probabilities.argmax(axis=1)
    confusion = confusion_of(targets, probabilities)
    expected = sk.confusion_matrix(targets, preds, labels=range(probabilities.shape[1]))
    assert confusion.dtype == torch.int64
    assert confusion.tolist() == expected.tolist()
    labels = np.unique(targets)
    f1 = sk.f1_score(targets, preds, labels=labels, average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(f1, rel=1e-12, abs=1e-12)
    assert accuracy(confusion) == pytest.approx(sk.accuracy_score(targets, preds), rel=1e-12)


def test_one_flipped_label_moves_one_count() -> None:
    targets, probabilities = CASES["random"]
    flipped = targets.copy()
    flipped[0] = (flipped[0] + 1) % 5
    before, after = confusion_of(targets, probabilities), confusion_of(flipped, probabilities)
    moved = after - before
    pred = int(probabilities[0].argmax())
    assert moved[targets[0], pred] == -1
    assert moved[flipped[0], pred] == 1
    assert int(moved.abs().sum()) == 2
    assert macro_f1(after) != macro_f1(before)


GRID = [index / 100 for index in range(101)]
NEARLY = 1e-12
"""A rate that is a grid value but for float64 rounding counts as that value."""


def interpolated_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> list[float]:
    """The highest precision among the thresholds that reach a recall."""
    precision, recall, _ = sk.precision_recall_curve(positive, scores)
    return [precision[recall >= at - NEARLY].max() for at in GRID]


def true_positive_rate(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> list[float]:
    """The highest true positive rate among the thresholds that stay within a false positive rate."""
    false_rate, true_rate, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    return [true_rate[false_rate <= at + NEARLY].max() for at in GRID]


CURVES = {
    "precision-recall": (precision_recall_curves, interpolated_precision),
    "roc": (roc_curves, true_positive_rate),
}


@pytest.fixture(params=CURVES)
def curve(request: pytest.FixtureRequest) -> tuple:
    return CURVES[request.param]


def curves_of(function: Any, targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Curves:
    indicators = torch.from_numpy(targets[:, None] == np.arange(probabilities.shape[1]))
    return function(indicators, torch.from_numpy(probabilities), names(probabilities))


def rankable(targets: NDArray[np.int64], num_classes: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    for index in range(num_classes):
        positive = targets == index
        if positive.any() and not positive.all():
            yield index, positive


def test_curves_agree_with_scikit_learn_on_the_grid(case: Case, curve: tuple) -> None:
    targets, probabilities = case
    function, reference = curve
    curves = curves_of(function, targets, probabilities)
    expected = {
        f"class {index}": reference(positive, probabilities[:, index])
        for index, positive in rankable(targets, probabilities.shape[1])
    }
    assert curves.grid.tolist() == pytest.approx(GRID)
    assert curves.values.keys() == expected.keys()
    for name, values in expected.items():
        triples = zip(GRID, curves.values[name].tolist(), values, strict=True)
        wrong = [(at, actual, value) for at, actual, value in triples if abs(actual - value) > 1e-6]
        assert not wrong, f"{name}: (grid, actual, expected) {wrong}"
    if expected:
        mean = np.mean(list(expected.values()), axis=0)
        assert curves.macro.tolist() == pytest.approx(mean.tolist(), abs=1e-6)


def test_one_flipped_label_changes_the_curves(curve: tuple) -> None:
    targets, probabilities = CASES["random"]
    flipped = targets.copy()
    flipped[0] = (flipped[0] + 1) % 5
    before, after = (curves_of(curve[0], t, probabilities) for t in (targets, flipped))
    for index in (targets[0], flipped[0]):
        name = f"class {index}"
        assert before.values[name].tolist() != after.values[name].tolist()
    untouched = (set(range(5)) - {targets[0], flipped[0]}).pop()
    assert before.values[f"class {untouched}"].tolist() == after.values[f"class {untouched}"].tolist()

"""Confidence intervals of scores: against scipy, and by simulation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_multi_label_evaluation
import test_reporting
from numpy.typing import NDArray
from scipy.stats import binomtest

from darkroom.evaluation.intervals import with_intervals
from darkroom.evaluation.tables import write_classes
from darkroom.metrics import intervals
from darkroom.metrics.classification import metrics_file
from darkroom.metrics.intervals import score_intervals, wilson
from darkroom.metrics.remarks import remarks_on
from darkroom.reporting.scores import definition, summary


def one_hot(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.bool_]:
    return np.eye(num_classes, dtype=bool)[labels]


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (3, 7), (7, 7), (35, 36), (499, 500)])
def test_wilson_is_that_of_scipy(hits: int, trials: int) -> None:
    expected = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    found = wilson(np.array(hits / trials), np.array(float(trials)))
    assert found == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_recall_and_accuracy_of_independent_images_are_wilsons() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), 150)
    preds = np.where(random.random(600) < 0.8, targets, random.integers(0, 4, 600))
    found = score_intervals(one_hot(targets, 4), one_hot(preds, 4))
    for index in range(4):
        hits = int((preds[targets == index] == index).sum())
        expected = binomtest(hits, 150).proportion_ci(0.95, method="wilson")
        assert found.recall[:, index] == pytest.approx([expected.low, expected.high], abs=0.006)
    # the number of images of each class is fixed, so the interval is at most as wide
    expected = binomtest(int((preds == targets).sum()), 600).proportion_ci(0.95, method="wilson")
    assert np.diff(found.right) == pytest.approx(expected.high - expected.low, rel=0.06)


def test_where_every_prediction_is_right_the_interval_is_not_a_point() -> None:
    targets = one_hot(np.repeat(np.arange(2), [500, 10]), 2)
    found = score_intervals(targets, targets)
    assert found.f1_macro[1] == found.right[1] == 1
    assert found.right[0] == pytest.approx(
        binomtest(510, 510).proportion_ci(method="wilson").low, abs=1e-6
    )
    # ten images of one of two classes make the mean of both uncertain
    assert 0.85 < found.f1_macro[0] < 0.93
    assert found.recall[0, 1] == pytest.approx(
        binomtest(10, 10).proportion_ci(method="wilson").low, abs=1e-6
    )


def test_a_class_without_images_has_no_interval() -> None:
    targets, preds = one_hot(np.array([0, 0, 1, 1]), 3), one_hot(np.array([0, 1, 1, 2]), 3)
    found = score_intervals(targets, preds)
    for of_class in (found.precision, found.recall, found.f1):
        assert np.isnan(of_class[:, 2]).all()
        assert not np.isnan(of_class[:, :2]).any()
    assert 0 <= found.f1_macro[0] < found.f1_macro[1] <= 1


def test_bounds_contain_the_score_and_are_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    targets = random.random((80, 5)) < 0.3
    preds = targets ^ (random.random((80, 5)) < 0.15)
    first, again = score_intervals(targets, preds), score_intervals(targets, preds)
    for name in ("f1_macro", "right", "precision", "recall", "f1"):
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=True)
    hits = (targets & preds).sum(axis=0)
    f1 = 2 * hits / (targets.sum(axis=0) + preds.sum(axis=0))
    assert ((first.f1[0] <= f1) & (f1 <= first.f1[1])).all()
    assert first.f1_macro[0] < f1.mean() < first.f1_macro[1]
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 2_000)
    fewer = score_intervals(targets, preds)
    assert fewer.f1_macro == pytest.approx(first.f1_macro, abs=0.005)


def macro_f1(confusion: NDArray[np.float64]) -> float:
    return float(np.mean(2 * confusion.diagonal() / (confusion.sum(axis=0) + confusion.sum(axis=1))))


def test_the_interval_covers_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/interval_coverage.py does the same with 2,000 test sets of more kinds."""
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 500)
    random = np.random.default_rng(0)
    per_class = np.array([60, 30, 15])
    shares = np.array([[0.9, 0.06, 0.04], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    truth = macro_f1(shares * per_class[:, None])
    targets = np.repeat(np.arange(3), per_class)
    covered = 0
    for _ in range(300):
        preds = np.concatenate(
            [random.choice(3, n, p=p) for n, p in zip(per_class, shares, strict=True)]
        )
        low, high = score_intervals(one_hot(targets, 3), one_hot(preds, 3)).f1_macro
        covered += low <= truth <= high
    assert 0.91 <= covered / 300 <= 0.985


@pytest.mark.slow
def test_images_of_a_group_count_as_one_and_without_groups_too_much_is_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 500)
    random = np.random.default_rng(0)
    covered = {"groups": 0, "images": 0}
    groups = np.repeat(np.arange(40), 10)
    for _ in range(200):
        labels = random.integers(0, 2, 40)[groups]
        rate = random.beta(1.6, 0.4, 40)[groups]  # 0.8 on average, and much alike within a group
        right = random.random(400) < rate
        targets, preds = one_hot(labels, 2), one_hot(np.where(right, labels, 1 - labels), 2)
        for name, of in (("groups", groups), ("images", None)):
            low, high = score_intervals(targets, preds, of).right
            covered[name] += low <= 0.8 <= high
    assert 0.90 <= covered["groups"] / 200 <= 0.99
    assert covered["images"] / 200 < 0.75


@pytest.mark.parametrize("kind", ["single label", "several labels"])
def test_metrics_report_and_summary_have_the_intervals(kind: str, tmp_path: Path) -> None:
    noise = test_reporting if kind == "single label" else test_multi_label_evaluation
    evaluated = noise.evaluate_noise(tmp_path / "shards")
    with_them = replace(evaluated, evaluation=with_intervals(evaluated.evaluation, None))
    test = metrics_file(with_them.metrics)
    overall = "accuracy" if kind == "single label" else "exact_match"
    for name in (overall, "f1_macro"):
        assert 0 <= test[f"{name}_low"] <= test[name] <= test[f"{name}_high"] <= 1
    for row in test["per_class"]:
        for name in ("precision", "recall", "f1"):
            assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1
    assert test["intervals"] == {"level": 0.95, "units": "image", "num_units": 40}
    assert f"macro F1 {test['f1_macro']:.4f} ({test['f1_macro_low']:.4f} to " in summary(test)
    assert "based on 40 images, and do not include" in definition(test)
    assert any("fewer than 20 test images" in remark for remark in remarks_on(test))
    assert not any("fewer than 20" in remark for remark in remarks_on(metrics_file(evaluated.metrics)))
    write_classes(with_them.evaluation, tmp_path / "plots/classes.csv")
    test_reporting.write_blank_pictures(tmp_path / "plots")
    with_them.write_report(tmp_path / "plots", tmp_path / "report.html")
    page = test_reporting.Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    header, *rows = page.rows
    column = header.index("95 % interval of F1")
    lowest = min(row["f1"] for row in test["per_class"])
    first = next(row for row in test["per_class"] if row["f1"] == lowest)
    assert rows[0][column] == f"{first['f1_low']:.2f} to {first['f1_high']:.2f}"
    columns = (tmp_path / "plots/classes.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert columns[columns.index("f1") :][:3] == ["f1", "f1_low", "f1_high"]


def test_groups_are_named_as_what_the_intervals_are_based_on(tmp_path: Path) -> None:
    evaluated = test_reporting.evaluate_noise(tmp_path / "shards")
    grouped = with_intervals(evaluated.evaluation, np.arange(40) // 4)
    assert grouped.metrics["intervals"] == {"level": 0.95, "units": "group", "num_units": 10}
    assert "based on 10 groups, because images of a group are alike" in definition(grouped.metrics)

"""The kept epoch is the latest within one standard error of the best, whenever that is asked."""

import math

import numpy as np
import pytest
from support import epoch_result

from darkroom.training.course import EpochResult, course_metrics, course_of, judge


def judged(scores: list[float], errors: list[float]) -> list[EpochResult]:
    """Judges each epoch with nothing but the best one before it."""
    epochs: list[EpochResult] = []
    best = None
    for epoch, (score, error) in enumerate(zip(scores, errors, strict=True), start=1):
        verdict = judge(score, best)
        epochs.append(
            epoch_result(
                epoch=epoch,
                val_f1_macro=score,
                val_f1_standard_error=error,
                is_best=verdict.is_best,
                is_kept=verdict.is_kept,
            )
        )
        best = epochs[-1] if verdict.is_best else best
    return epochs


def by_the_rule(scores: list[float], errors: list[float]) -> tuple[int, int]:
    """Returns the kept and the best epoch, from the whole history."""
    best = scores.index(max(scores))
    lowest = scores[best] - errors[best]
    return max(i for i, score in enumerate(scores) if score >= lowest) + 1, best + 1


@pytest.mark.parametrize("largest_error", [0.0, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("num_values", [2, 5, 100])
def test_one_epoch_at_a_time_is_the_rule_on_the_whole_history(
    largest_error: float, num_values: int
) -> None:
    random = np.random.default_rng(0)
    kept_epochs = set()
    for _ in range(200):
        num_epochs = int(random.integers(1, 12))
        scores = (random.integers(0, num_values, num_epochs) / num_values).tolist()
        errors = (largest_error * random.random(num_epochs)).tolist()  # of a new best also larger ones
        epochs = judged(scores, errors)
        for end in range(1, num_epochs + 1):
            course = course_of(epochs[:end])
            expected = by_the_rule(scores[:end], errors[:end])
            assert (course.kept.epoch, course.best.epoch) == expected
        kept_epochs.add(course.kept.epoch - course.best.epoch)
    assert len(kept_epochs) > 1  # ties, at least


@pytest.mark.parametrize(
    ("scores", "error", "kept", "best"),
    [
        ([0.9546, 0.9, 0.9, 0.9, 0.9, 0.9371], 0.021, 6, 1),
        ([0.9546, 0.9, 0.9, 0.9, 0.9, 0.93], 0.021, 1, 1),
        ([0.5, 0.75, 0.5], 0.25, 3, 2),  # exactly one standard error below
        ([1.0, 1.0, 0.9], 0.0, 2, 1),  # of equals the later
        ([1.0, 1.0, 1.0], 0.0, 3, 1),
        ([0.0, 0.0], 0.0, 2, 1),
        ([0.3], 0.1, 1, 1),
        ([0.6, 0.5, 0.7, 0.6], 0.05, 3, 3),
    ],
)
def test_the_latest_within_the_best_ones_error_is_kept(
    scores: list[float], error: float, kept: int, best: int
) -> None:
    course = course_of(judged(scores, [error] * len(scores)))
    assert (course.kept.epoch, course.best.epoch) == (kept, best)
    assert course.below_best == scores[best - 1] - scores[kept - 1]


def test_a_new_best_puts_earlier_epochs_out_though_its_error_would_hold_them() -> None:
    epochs = judged([0.5, 0.4, 0.6], [0.01, 0.01, 0.9])
    assert [epoch.is_kept for epoch in epochs] == [True, False, True]


@pytest.mark.parametrize(
    ("scores", "errors", "kept"),
    [
        ([math.nan, 0.5, math.nan], [math.nan, 0.1, 0.1], 2),
        ([0.5, 0.5, 0.4], [math.nan] * 3, 2),
        ([math.nan, math.nan], [0.1, 0.1], 1),
        ([0.5, math.nan], [math.inf, 0.1], 1),
    ],
)
def test_what_is_no_number_is_not_kept_after_a_number(
    scores: list[float], errors: list[float], kept: int
) -> None:
    assert course_of(judged(scores, errors)).kept.epoch == kept


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (
            [0.9546, 0.9, 0.9, 0.9, 0.9, 0.9371],
            "kept epoch 6 of 6: validation macro F1 0.9371, within one standard error (0.021) of the "
            "best, epoch 1's 0.9546",
        ),
        ([0.5, 0.9], "kept epoch 2 of 2: validation macro F1 0.9000, the best"),
        (
            [0.5, 0.9, 0.5],
            "kept epoch 2 of 3: validation macro F1 0.9000, the best; no later epoch is within one "
            "standard error (0.021)",
        ),
        (
            [0.5, 0.9, 0.9],
            "kept epoch 3 of 3: validation macro F1 0.9000, equal to the best, which epoch 2 reached "
            "first",
        ),
    ],
)
def test_the_reason_is_a_sentence(scores: list[float], sentence: str) -> None:
    course = course_of(judged(scores, [0.021] * len(scores)))
    assert course.sentence == sentence
    assert course.to_dict()["kept"]["reason"] == sentence


def test_no_standard_error_is_named_where_there_is_none() -> None:
    course = course_of(judged([0.5, 1.0, 0.9964], [0.1, 0.0, 0.01]))
    expected = "kept epoch 2 of 3: validation macro F1 1.0000, the best; no later epoch equals it"
    assert course.sentence == expected


@pytest.mark.parametrize(
    ("kept", "num_epochs", "is_early"),
    [(1, 1, False), (1, 2, True), (2, 3, True), (3, 3, False), (20, 30, True), (21, 30, False)],
)
def test_an_epoch_before_the_last_third_is_remarked_on(
    kept: int, num_epochs: int, is_early: bool
) -> None:
    scores = [0.9 if epoch == kept else 0.5 for epoch in range(1, num_epochs + 1)]
    course = course_of(judged(scores, [0.01] * num_epochs))
    assert course.kept.epoch == kept
    assert course.is_early == is_early
    assert [f"epoch {kept} of {num_epochs}" in remark for remark in course.remarks] == [True] * is_early


def test_metrics_are_those_of_the_kept_epoch_as_numbers() -> None:
    kept = {"epoch": "3", "val_f1_macro": "0.5", "val_accuracy": "0.25", "val_loss": "2"}
    assert course_metrics(kept, {"val_f1_macro": "0.75"}) == {
        "val/kept_epoch": 3.0,
        "val/kept_f1_macro": 0.5,
        "val/kept_accuracy": 0.25,
        "val/kept_loss": 2.0,
        "val/best_f1_macro": 0.75,
    }
    assert course_metrics({"epoch": "3"}, {}) == {"val/kept_epoch": 3.0}

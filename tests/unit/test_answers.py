"""When a model should not answer, from the validation table to model.json and the remarks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from support import make_spec

from darkroom.config.evaluate import Evaluate
from darkroom.evaluation.answers import AnswerRules, learn_rules
from darkroom.evaluation.evaluate import evaluate
from darkroom.export.rules import answer_rules
from darkroom.metrics.remarks import remarks_on
from darkroom.reporting.scores import answer_sentences
from darkroom.training.calibration import calibrate, write_validation

SPEC = make_spec(class_names=("a", "b", "c"))
PATHS = [f"{index}.png" for index in range(600)]


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 600 images, twice as large as is right, and their classes; two images are of class c."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, (600, 3))).float()
    logits[:, 2] -= 30
    targets = (torch.rand(600, generator=torch.manual_seed(seed)) > logits.softmax(1)[:, 0]).long()
    logits[:2, 2] += 60
    targets[:2] = 2
    return 2 * logits, targets


def learned(folder: Path, **options: float | None) -> tuple[AnswerRules, dict]:
    """The rules of 600 validation images, and metrics of as many test images."""
    spec, validation = calibrate(SPEC, torch.nn.Identity(), [drawn(0)])
    write_validation(validation, PATHS, folder / "validation.parquet")
    wanted = Evaluate.model_construct(**options)
    rules = learn_rules(spec, folder / "validation.parquet", wanted)
    assert rules is not None
    logits, targets = drawn(1)
    evaluation = evaluate(spec, targets, logits, PATHS, rules=rules)
    rows = [{"class": name, **row} for name, row in evaluation.metrics["per_class"].items()]
    return rules, {**evaluation.metrics, "per_class": rows, "probabilities": evaluation.probabilities}


def test_what_validation_promises_is_measured_on_test_images(tmp_path: Path) -> None:
    rules, metrics = learned(tmp_path, target_precision=0.9, coverage=0.8)
    assert metrics["calibration"]["temperature"] == pytest.approx(2, rel=0.2)
    assert metrics["calibration"]["nll"] < metrics["calibration"]["nll_before"]
    best, targets = metrics["probabilities"].max(dim=1), drawn(1)[1]
    is_answered = best.values >= rules.threshold
    correct = (best.indices == targets)[is_answered]
    found = metrics["abstention"]
    assert found["coverage"] == pytest.approx(float(is_answered.double().mean()), abs=1e-6)
    assert 0.2 < found["coverage"] < 1
    assert found["precision"] == pytest.approx(float(correct.double().mean()), abs=1e-6)
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, "exact")
    assert (found["precision_low"], found["precision_high"]) == pytest.approx(interval, abs=1e-6)
    assert found["precision_high"] > 0.9

    sets = metrics["conformal"]
    assert [row["is_marginal"] for row in sets["classes"]] == [False, False, True]
    thresholds = torch.tensor([row["threshold"] for row in sets["classes"]], dtype=torch.float64)
    members = metrics["probabilities"] >= thresholds
    covered = members[torch.arange(600), targets].double().mean()
    assert sets["coverage"] == pytest.approx(float(covered), abs=1e-6)
    assert sets["coverage"] == pytest.approx(0.8, abs=0.06)
    assert sets["mean_set_size"] == pytest.approx(float(members.sum(dim=1).double().mean()), abs=1e-6)

    assert answer_rules(metrics) == {
        "abstention": {"target_precision": 0.9, "threshold": rules.threshold},
        "conformal": {"coverage": 0.8, "thresholds": thresholds.tolist()},
    }
    assert len(list(answer_sentences(metrics))) == 2
    assert any(
        "too few validation images" in remark and ": c." in remark for remark in remarks_on(metrics)
    )


def test_a_precision_that_nothing_shows_has_no_threshold_and_a_remark(tmp_path: Path) -> None:
    rules, metrics = learned(tmp_path, target_precision=0.9999, coverage=None)
    assert rules.threshold is None
    assert metrics["abstention"]["precision"] is None
    assert metrics["abstention"]["coverage"] == 0
    assert answer_rules(metrics) == {"abstention": {"target_precision": 0.9999, "threshold": None}}
    assert any("reach the precision 0.9999" in remark for remark in remarks_on(metrics))
    assert not list(answer_sentences(metrics))


def test_without_targets_there_are_no_rules(tmp_path: Path) -> None:
    _, metrics = learned(tmp_path, target_precision=None, coverage=None)
    assert set(metrics["abstention"]) == {"aurc"}
    assert answer_rules(metrics) == answer_rules({}) == {}

"""`evaluate.gate`: judged by lower bounds, in metrics.json and by `darkroom gate`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from compared import BAD, GOOD, LABELS, files_of

from darkroom.cli import main
from darkroom.errors import UserError
from darkroom.metrics.gate import check_gate, judge
from darkroom.metrics.remarks import remarks_on
from darkroom.paths import METRICS, PREDICTIONS

ROOT = Path(__file__).parents[2]

SCORES: dict[str, Any] = {
    "f1_macro": 0.95,
    "f1_macro_low": 0.91,
    "per_class": [
        {"class": "cat", "recall": 0.97, "recall_low": 0.93, "support": 40, "predicted": 41},
        {"class": "dog", "recall": 0.9, "recall_low": 0.72, "support": 40, "predicted": 39},
        {"class": "owl", "recall": None, "recall_low": None, "support": 0, "predicted": 0},
    ],
}


def reason(what: str, value: float, low: float, wanted: float) -> str:
    bound = f"the lower bound of its 95 % interval is {low:.4f}"
    return f"{what} is {value:.4f}; {bound}, and {wanted} is required"


@pytest.mark.parametrize(
    ("gate", "reasons"),
    [
        ({"min_f1_macro": 0.91}, []),
        (
            {"min_f1_macro": 0.92},  # which the point reaches
            [reason("macro F1", 0.95, 0.91, 0.92)],
        ),
        ({"min_recall": {"cat": 0.9, "dog": 0.7}}, []),
        (
            {"min_recall": {"cat": 0.94, "dog": 0.8}, "min_f1_macro": 0.5},
            [
                reason("recall of cat", 0.97, 0.93, 0.94),
                reason("recall of dog", 0.9, 0.72, 0.8),
            ],
        ),
        (
            {"min_recall": 0.5},
            ["recall of owl: not measured, because there are no test images; 0.5 is required"],
        ),
    ],
)
def test_lower_bounds_decide(gate: dict[str, Any], reasons: list[str]) -> None:
    assert judge(gate, SCORES) == {"gate": {"passed": not reasons, "reasons": reasons}}
    remarks = [remark for remark in remarks_on({**SCORES, **judge(gate, SCORES)}) if "gate" in remark]
    assert len(remarks) == bool(reasons)


def test_what_needs_another_model_is_not_judged_in_the_stage() -> None:
    assert judge(None, SCORES) == {}
    assert judge({"max_drop": 0.01, "against": "champion"}, SCORES) == {}


def test_unknown_classes_are_refused() -> None:
    check_gate({"min_recall": 0.5}, ["cat"])
    check_gate({"min_recall": {"cat": 0.5}}, ["cat"])
    with pytest.raises(UserError, match="'cats', which the data do not have; did you mean cat"):
        check_gate({"min_recall": {"cats": 0.5}}, ["cat"])


def gate(value: str, *options: str) -> tuple[int, str]:
    """Runs `darkroom gate` with this value of evaluate.gate."""
    text = (ROOT / "params.yaml").read_text()
    assert "  gate: null" in text
    Path("params.yaml").write_text(text.replace("  gate: null", f"  gate: {value}"))
    result = CliRunner().invoke(main, ["gate", *options])
    return result.exit_code, result.output


@pytest.fixture
def judged(two_commits: Path) -> Path:
    """The folder with intervals in its metrics.json."""
    metrics = json.loads(METRICS.read_text())["test"]
    metrics |= {"f1_macro": 0.95, "f1_macro_low": 0.91}
    for row in metrics["per_class"]:
        row |= {"recall": 0.9, "recall_low": 0.8}
    METRICS.write_text(json.dumps({"test": metrics}))
    return two_commits


def test_the_exit_status_tells(judged: Path) -> None:
    assert gate("{min_f1_macro: 0.9, min_recall: 0.8}") == (0, "gate: passed\n")
    code, output = gate("{min_f1_macro: 0.93}")
    assert code == 1
    assert output.splitlines() == [
        reason("macro F1", 0.95, 0.91, 0.93),
        "gate: not passed",
    ]
    code, output = gate("{min_f1_macro: 0.93}", "--json")
    assert (code, json.loads(output)["passed"]) == (1, False)
    assert gate("{min_recall: {'<b>|owl': 0.85}}", "--markdown")[1].count("<b>") == 0


def test_what_cannot_be_judged_has_status_2(judged: Path) -> None:
    assert gate("null")[0] == 2
    assert gate("{min_recall: {lynx: 0.5}}")[0] == 2
    assert gate("{max_drop: 0.1, against: nobody}")[0] == 2
    METRICS.write_text(json.dumps({"test": {"f1_macro": 1.0, "per_class": []}}))
    code, output = gate("{min_f1_macro: 0.5}")
    assert (code, "have no intervals" in output) == (2, True)
    METRICS.unlink()
    assert gate("{min_f1_macro: 0.5}")[0] == 2


def test_a_drop_is_judged_by_the_interval(judged: Path) -> None:
    """The folder and `good` are the same model; `bad` is worse."""
    assert gate("{max_drop: 0, against: good}")[0] == 0
    assert gate("{max_drop: 0.01, against: bad}")[0] == 0
    random = np.random.default_rng(0)
    slightly = np.where(random.random(len(LABELS)) < 0.02, (GOOD + 1) % 3, GOOD)
    PREDICTIONS.write_bytes(files_of(slightly)[0])
    code, output = gate("{max_drop: 0.01, against: good}")
    assert code == 1
    assert "macro F1 differs from that of commit" in output
    assert "and -0.01 is required" in output
    assert gate("{max_drop: 0.2, against: good}")[0] == 0
    PREDICTIONS.write_bytes(files_of(BAD)[0])
    assert gate("{max_drop: 0.2, against: good}")[0] == 1

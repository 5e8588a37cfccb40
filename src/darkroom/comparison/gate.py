"""Judge the model in the workspace by ``evaluate.gate``, also against another model."""

from collections.abc import Mapping
from typing import Any

from darkroom.bounded_json import load_json
from darkroom.comparison.from_dvc import workspace
from darkroom.comparison.sides import find_side
from darkroom.comparison.verdict import Comparison, compare
from darkroom.errors import UserError
from darkroom.metrics.gate import check_gate, failures, judge
from darkroom.paths import METRICS


def judge_workspace(gate: Mapping[str, Any] | None) -> tuple[list[str], Comparison | None]:
    """Return why the workspace's model fails the gate, and the comparison if the gate needs one.

    Args:
        gate: the parameter ``evaluate.gate``.

    Raises:
        UserError: there is no gate, or it cannot be judged.
    """
    if gate is None:
        raise UserError(
            "evaluate.gate is null, so there is nothing to judge; docs/compare.md describes it"
        )
    try:
        test = load_json(METRICS)["test"]
        check_gate(gate, [row["class"] for row in test["per_class"]])
        is_old = judge(gate, test) and "f1_macro_low" not in test
        reasons = failures(gate, test)
    except FileNotFoundError:
        raise UserError(f"{METRICS}: the file does not exist; run `dvc repro evaluate`") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{METRICS}: damaged; run `dvc repro evaluate`") from None
    if is_old:
        raise UserError(f"{METRICS}: the scores have no intervals; run `dvc repro evaluate`")
    if "max_drop" not in gate:
        return reasons, None
    comparison = compare(find_side(gate["against"]), workspace())
    low, drop = comparison.paired.low, gate["max_drop"]
    if low < -drop:
        reasons.append(
            f"macro F1 differs from that of {comparison.names[0]} by"
            f" {comparison.paired.difference:+.4f}; the lower bound of its 95 % interval is {low:+.4f},"
            f" and {-drop:+g} is required"
        )
    return reasons, comparison

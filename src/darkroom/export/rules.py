"""What model.json says of when not to answer, and of sets of possible classes."""

from collections.abc import Mapping
from typing import Any


def answer_rules(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries ``abstention`` and ``conformal`` of model.json, if ``evaluate`` chose them.

    Args:
        metrics: the scores on the test split, as in metrics.json.
    """
    abstention, conformal = metrics.get("abstention", {}), metrics.get("conformal")
    rules: dict[str, Any] = {}
    if "target_precision" in abstention:
        names = [name for name in ("target_precision", "threshold") if name in abstention]
        labels = abstention.get("classes", [])
        rules["abstention"] = {
            **{name: abstention[name] for name in names},
            **({name: [row[name] for row in labels] for name in ("yes", "no")} if labels else {}),
        }
    if conformal is not None:
        rules["conformal"] = {
            "coverage": conformal["target_coverage"],
            "thresholds": [row["threshold"] for row in conformal["classes"]],
        }
    return rules

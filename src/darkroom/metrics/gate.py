"""Judge test scores by their lower bounds: whether a model reaches what it must reach."""

from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.errors import UserError, did_you_mean


def check_gate(gate: Mapping[str, Any] | None, class_names: list[str]) -> None:
    """Check that the gate names only classes that exist.

    Args:
        gate: the parameter ``evaluate.gate``.

    Raises:
        UserError: ``min_recall`` names an unknown class.
    """
    recalls = (gate or {}).get("min_recall", {})
    for name in recalls if isinstance(recalls, Mapping) else ():
        if name not in class_names:
            raise UserError(
                f"evaluate.gate: min_recall names the class {name!r}, which the data do not have"
                f"{did_you_mean(name, class_names)}"
            )


def judge(gate: Mapping[str, Any] | None, test: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"gate": {"passed": ..., "reasons": [...]}}``; empty if the gate requires no score.

    Only the requirements that the scores alone decide are judged: ``max_drop`` needs another model, and
    is left to ``darkroom gate``.

    Args:
        gate: the parameter ``evaluate.gate``.
        test: the scores under ``test`` in metrics.json, with intervals.
    """
    if gate is None or not {"min_f1_macro", "min_recall"} & gate.keys():
        return {}
    reasons = failures(gate, test)
    return {"gate": {"passed": not reasons, "reasons": reasons}}


def failures(gate: Mapping[str, Any], test: Mapping[str, Any]) -> list[str]:
    """Return why scores do not reach what the gate requires of them; arguments as for ``judge``."""
    return list(_failures(gate, test))


def _failures(gate: Mapping[str, Any], test: Mapping[str, Any]) -> Iterator[str]:
    wanted = gate.get("min_f1_macro")
    if wanted is not None:
        yield from _below("macro F1", test["f1_macro"], test.get("f1_macro_low"), wanted)
    recalls = gate.get("min_recall", {})
    for row in test["per_class"]:
        wanted = recalls.get(row["class"]) if isinstance(recalls, Mapping) else recalls
        if wanted is not None:
            title = f"recall of {row['class']}"
            yield from _below(title, row["recall"], row.get("recall_low"), wanted)


def _below(title: str, value: float | None, low: float | None, wanted: float) -> Iterator[str]:
    if value is None:
        yield f"{title}: not measured, because there are no test images; {wanted:g} is required"
    elif low is None:
        yield f"{title} is {value:.4f}, without an interval to judge by; {wanted:g} is required"
    elif low < wanted:
        yield (
            f"{title} is {value:.4f}; the lower bound of its 95 % interval is {low:.4f},"
            f" and {wanted:g} is required"
        )

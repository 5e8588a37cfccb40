"""How scores are shown to people, and what the averages among them are."""

from collections.abc import Mapping
from typing import Any

from darkroom.metrics.remarks import is_multi_label
from darkroom.reporting.templates import number


def macro_scores(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the averages over classes by their titles."""
    return {f"macro {title}": metrics[f"{name}_macro"] for name, title in _AVERAGED.items()}


_AVERAGED = {"f1": "F1", "precision": "precision", "recall": "recall"}


def overall_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores that are not averages over classes, by their titles.

    Args:
        metrics: as ``classification_metrics`` or ``multi_label_metrics`` returns.
    """
    if is_multi_label(metrics):
        return {"exact match": metrics["exact_match"], "Hamming loss": metrics["hamming_loss"]}
    return {"accuracy": metrics["accuracy"]}


def baseline_scores(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the macro F1 of each baseline by its title; nothing if none was measured."""
    if "baseline" not in metrics:
        return {}
    constant = "most frequent labels" if is_multi_label(metrics) else "most frequent class"
    return {
        "logistic regression": metrics["baseline"]["logistic_regression"]["f1_macro"],
        constant: metrics["baseline"]["most_frequent"]["f1_macro"],
    }


def summary(metrics: Mapping[str, Any]) -> str:
    """Return the number of test images, the scores and those of baselines on one line."""
    scores = {**macro_scores(metrics), **overall_scores(metrics)}
    baselines = baseline_scores(metrics)
    beside = f"; macro F1 of {_enumerated(baselines)}" if baselines else ""
    return f"{metrics['num_images']:,} test images, {_enumerated(scores)}{beside}"


def _enumerated(scores: Mapping[str, float | None]) -> str:
    return ", ".join(f"{title} {number(score)}" for title, score in scores.items())


def definition(metrics: Mapping[str, Any]) -> str:
    """Return what the macro averages are, for a reader of the numbers."""
    several, one = ("labels", "label") if is_multi_label(metrics) else ("classes", "class")
    return (
        f"Macro F1, precision and recall are means over the {several} that have test images, each "
        f"counting the same. A {one} without test images is not measured, and its cells are blank; the "
        f"precision of a {one} that is never predicted counts as 0."
    )

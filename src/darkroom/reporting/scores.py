"""Titles, definitions and a summary of the scores in metrics.json."""

from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.errors import counted
from darkroom.inputs import words_of_metrics
from darkroom.reporting.templates import number
from darkroom.targets import WORDS, target_of_metrics


def macro_scores(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the macro averages by their titles."""
    return {f"macro {title}": metrics[f"{name}_macro"] for name, title in _AVERAGED.items()}


_AVERAGED = {"f1": "F1", "precision": "precision", "recall": "recall"}


def overall_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores that are not averages over classes, by their titles.

    Args:
        metrics: as in metrics.json.
    """
    titles = WORDS[target_of_metrics(metrics)].scores
    return {title: metrics[name] for name, title in titles.items()}


def intervals(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the 95 % intervals of scores by their titles, where they are known."""
    words = WORDS[target_of_metrics(metrics)]
    names = {"macro F1": "f1_macro", words.score_title: words.score}
    return {
        title: f"{number(metrics[f'{name}_low'])} to {number(metrics[f'{name}_high'])}"
        for title, name in names.items()
        if metrics.get(f"{name}_low") is not None
    }


def exported_scores(checked: Mapping[str, Any]) -> dict[str, str]:
    """Return the scores of an exported file with their intervals, by their titles.

    Args:
        checked: the entry of the file in parity.json.
    """
    words = WORDS[target_of_metrics(checked)]
    names = {"macro F1": "f1_macro", words.score_title: words.score}
    ranges = intervals(checked)
    return {
        title: f"{number(checked[name])}{f' ({ranges[title]})' if title in ranges else ''}"
        for title, name in names.items()
    }


def baseline_scores(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the macro F1 of each baseline by its title; empty if there are none."""
    if "baseline" not in metrics:
        return {}
    titles = {
        "logistic_regression": "logistic regression",
        "most_frequent": WORDS[target_of_metrics(metrics)].constant,
    }
    baselines = metrics["baseline"]
    return {title: baselines[name]["f1_macro"] for name, title in titles.items() if name in baselines}


def score_cards(metrics: Mapping[str, Any], scores: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """Return titles and values for the top of a report: scores, then the macro F1 of the baselines.

    Args:
        scores: by their titles, in the order wanted; a known 95 % interval is added to the title.
    """
    baselines = {f"macro F1 of {title}": value for title, value in baseline_scores(metrics).items()}
    ranges = {title: f", 95 %: {interval}" for title, interval in intervals(metrics).items()}
    return [
        (f"{title}{ranges.get(title, '')}", number(value))
        for title, value in {**scores, **baselines}.items()
    ]


def summary(metrics: Mapping[str, Any]) -> str:
    """Return the number of test images, the scores and those of baselines on one line."""
    scores = {**macro_scores(metrics), **overall_scores(metrics)}
    baselines = baseline_scores(metrics)
    beside = f"; macro F1 of {_enumerated(baselines, {})}" if baselines else ""
    shown = _enumerated(scores, intervals(metrics))
    number_of_inputs = counted(metrics["num_images"], f"test {words_of_metrics(metrics).one}")
    return f"{number_of_inputs}, {shown}{beside}"


def _enumerated(scores: Mapping[str, float | None], ranges: Mapping[str, str]) -> str:
    return ", ".join(
        f"{title} {number(score)}{f' ({ranges[title]})' if title in ranges else ''}"
        for title, score in scores.items()
    )


def definition(metrics: Mapping[str, Any]) -> str:
    """Return how the macro averages are defined."""
    words = WORDS[target_of_metrics(metrics)]
    several, one, inputs = words.several, words.one, words_of_metrics(metrics).several
    return (
        f"Macro F1, precision and recall are unweighted means over the {several} with test {inputs}. A "
        f"{one} without test {inputs} is not measured, and its cells are blank. A {one} that is never "
        f"predicted has a precision of 0.{_meaning_of_intervals(metrics)}"
    )


def _meaning_of_intervals(metrics: Mapping[str, Any]) -> str:
    if "intervals" not in metrics:
        return ""
    units, words = metrics["intervals"]["units"], words_of_metrics(metrics)
    by_itself = "" if units == words.one else f", because {words.several} of a group are alike"
    return (
        f" Intervals (95 %) say what other test {words.several} of the same kind could give; they are"
        " based on "
        f"{counted(metrics['intervals']['num_units'], units)}{by_itself}, and do not include what "
        "another training would change."
    )


def calibration_scores(metrics: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return scores of the probabilities, before and after calibration, by their titles."""
    scores = metrics.get("calibration", {})
    return {
        title: (scores[f"{name}_before"], scores[name])
        for name, title in _OF_PROBABILITIES.items()
        if name in scores
    }


_OF_PROBABILITIES = {
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "calibration error",
}


def unfamiliar_sentence(metrics: Mapping[str, Any]) -> str:
    """Return how many test images are unfamiliar; empty if the model does not measure it."""
    if "unfamiliar" not in metrics:
        return ""
    measured, several = metrics["unfamiliar"], words_of_metrics(metrics).several
    return (
        f"Of the test {several}, {measured['share']:.1%} are unfamiliar (95 % interval: "
        f"{measured['share_low']:.1%} to {measured['share_high']:.1%}; the threshold was chosen for "
        f"{measured['false_alarms']:.0%} of {several} like the validation {several})."
    )


def _right(share: float | None, decided: str, truth: str) -> str:
    return (
        f"it {decided} none" if share is None else f"{share:.1%} of those that it {decided} are {truth}"
    )


def answer_sentences(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences on abstention and prediction sets, as measured on the test images.

    Args:
        metrics: as in metrics.json, also of an earlier version.
    """
    abstention, conformal = metrics.get("abstention", {}), metrics.get("conformal")
    inputs = words_of_metrics(metrics).several
    if "images_answered" in abstention:
        yield (
            "If the model answers only where it is sure enough, it decides about"
            f" {abstention['coverage']:.1%} of the labels of all test {inputs}, and about every label of"
            f" {abstention['images_answered']:.1%} of the {inputs}."
            f" Of these labels, {_right(abstention['precision'], 'predicts', 'present')}, and"
            f" {_right(abstention['precision_of_no'], 'rules out', 'absent')}"
            f" (asked: {abstention['target_precision']:.1%})."
        )
    elif abstention.get("precision") is not None:
        yield (
            f"If the model answers only at a probability of {abstention['threshold']:.4f} or more, it "
            f"answers {abstention['coverage']:.1%} of the test {inputs}. Of the answers, "
            f"{abstention['precision']:.1%} are correct (95 % interval: "
            f"{abstention['precision_low']:.1%} to {abstention['precision_high']:.1%}; asked: "
            f"{abstention['target_precision']:.1%})."
        )
    if conformal is not None and conformal["coverage"] is not None:
        words = WORDS[target_of_metrics(metrics)]
        yield (
            f"The sets of possible {words.several} contain "
            f"{words.covered.format(format(conformal['coverage'], '.1%'))} of the test {inputs} "
            f"(asked: {conformal['target_coverage']:.1%}). They have "
            f"{conformal['mean_set_size']:.2f} {words.several} on average, and "
            f"{conformal['empty_sets']:.1%} of them are empty."
        )

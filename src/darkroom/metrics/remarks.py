"""Remarks on the scores in metrics.json, for the terminal, the reports and MLflow."""

from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.errors import counted, listed
from darkroom.inputs import InputWords, words_of_metrics
from darkroom.targets import WORDS, target_of_metrics

FEW_IMAGES = 20
"""Number of test images of a class below which its scores say little."""
P_VALUE = 0.05
"""A slice whose p-value, corrected for the number of slices, is lower differs from the other images."""

MAX_SLICES = 3
"""Maximum number of slices that a remark names."""

MAX_NAMES = 10
"""Maximum number of classes that a remark names."""

FEATURES = {
    "backbone": "the features of its frozen backbone",
    "pixels": "small grey pixels",
    "row": "the same columns",
}
"""The features that a logistic regression was fitted on, by their names in metrics.json."""

_ADVICE = {
    "backbone": (
        "The head could do at least as well with these features: try more train.epochs, a higher "
        "train.lr, weaker augmentation (a larger augment.resized_crop) or a lower train.weight_decay"
    ),
    "pixels": (
        "Try more train.epochs, another train.lr (`darkroom lr` suggests one), weaker augmentation, or "
        "pretrained weights (`model.weights: default`)"
    ),
    "row": (
        "Try more train.epochs, another train.lr (`darkroom lr` suggests one), another "
        "train.weight_decay, or model.depth 0, which is such a regression"
    ),
}


def remarks_on(test: Mapping[str, Any]) -> list[str]:
    """Return one remark for each reason to be careful with the scores.

    Args:
        test: the scores of a test split, as in metrics.json.
    """
    return [
        *_on_gate(test),
        *_on_averaging(test),
        *_on_classes(test),
        *_on_slices(test),
        *_on_answers(test),
        *_on_unfamiliar(test),
        *_on_baseline(test),
    ]


def on_validation(num_of_class: Mapping[str, int], words: InputWords) -> list[str]:
    """Return a remark that names the classes without validation images, if there are any."""
    without = [name for name, number in num_of_class.items() if number == 0]
    if not without:
        return []
    names = listed(without, MAX_NAMES)
    return [
        f"classes without validation {words.several}: {names}; the validation macro F1 excludes them"
    ]


def _on_gate(test: Mapping[str, Any]) -> Iterator[str]:
    reasons = test.get("gate", {}).get("reasons", [])
    if reasons:
        shown, more = reasons[:MAX_NAMES], len(reasons) - MAX_NAMES
        yield (
            f"The model does not pass evaluate.gate: {'; '.join(shown)}"
            f"{f'; and {more:,} more reasons' if more > 0 else ''}."
        )


def _on_averaging(test: Mapping[str, Any]) -> Iterator[str]:
    if "tta" in test:
        words = WORDS[target_of_metrics(test)]
        alone = {name: test["single_pass"][name] for name in ("f1_macro", words.score)}
        shown = ["not measured" if value is None else f"{value:.4f}" for value in alone.values()]
        yield (
            "The scores are those of the mean probabilities of each image and its mirror image"
            " (evaluate.tta: flip). The model alone, as it is exported, has a macro F1 of"
            f" {shown[0]} and {words.a_score} of {shown[1]}."
        )


def _on_classes(test: Mapping[str, Any]) -> Iterator[str]:
    rows = test["per_class"]
    several = WORDS[target_of_metrics(test)].several.capitalize()
    inputs = words_of_metrics(test).several
    without = [row for row in rows if row.get("support") == 0]
    if without:
        names = listed((row["class"] for row in without), MAX_NAMES)
        num_taken = sum(row.get("predicted", 0) for row in without)
        wrong = f" (wrong predictions of them: {num_taken:,})" if num_taken else ""
        yield (
            f"{several} without test {inputs}: {names}. They are not measured{wrong}, and macro"
            " averages exclude them."
        )
    few = [row for row in rows if 0 < row.get("support", 0) < FEW_IMAGES] if "intervals" in test else []
    if few:
        names = listed((f"{row['class']} ({row['support']})" for row in few), MAX_NAMES)
        yield (
            f"{several} with fewer than {FEW_IMAGES} test {inputs}: {names}. Their scores are uncertain;"
            " see the intervals."
        )
    never = [row["class"] for row in rows if row.get("support") and row.get("predicted") == 0]
    if never:
        names = listed(never, MAX_NAMES)
        yield f"{several} that are never predicted, so that their precision is 0: {names}."


def _on_slices(test: Mapping[str, Any]) -> Iterator[str]:
    worse = [
        row
        for row in test.get("slices", ())
        if row["p_value"] is not None and row["p_value"] < P_VALUE and row["score"] < row["rest"]
    ]
    if worse:
        score = WORDS[target_of_metrics(test)].score_title
        names = (
            f"{row['by']} {row['slice']} ({row['score']:.3f} against {row['rest']:.3f})"
            for row in sorted(worse, key=lambda row: row["score"])[:MAX_SLICES]
        )
        more = f" and {len(worse) - MAX_SLICES:,} more" if len(worse) > MAX_SLICES else ""
        inputs = words_of_metrics(test).several
        yield (
            f"Parts of the test {inputs} with a lower {score} than the others: {', '.join(names)}{more}."
        )


def _on_answers(test: Mapping[str, Any]) -> Iterator[str]:
    abstention, conformal = test.get("abstention", {}), test.get("conformal", {})
    words = words_of_metrics(test)
    validated = f"validation {words.one}"
    if abstention.get("threshold", 0.0) is None:
        yield (
            f"No confidence was shown to reach the precision {abstention['target_precision']:g}"
            f" (evaluate.target_precision) on {counted(abstention['val_images'], validated)}."
            " `darkroom predict --abstain` is therefore not possible."
        )
    unsure = [row["class"] for row in abstention.get("classes", ()) if row["yes"] is None]
    if unsure:
        yield (
            f"Labels for which no probability was shown to reach the precision"
            f" {abstention['target_precision']:g} (evaluate.target_precision) on"
            f" {counted(abstention['val_images'], validated)}: {listed(unsure, MAX_NAMES)}."
            " `darkroom predict --abstain` leaves them open instead of predicting them."
        )
    few = [row["class"] for row in conformal.get("classes", ()) if row["is_marginal"]]
    if few:
        yield (
            f"Classes with too few {validated}s for a coverage of {conformal['target_coverage']:g}"
            f" of their own: {listed(few, MAX_NAMES)}. Their place in prediction sets is decided by the"
            " probabilities of all classes, and the coverage may be lower in them."
        )


def _on_unfamiliar(test: Mapping[str, Any]) -> Iterator[str]:
    measured, several = test.get("unfamiliar"), words_of_metrics(test).several
    if measured is not None and measured["share_low"] > measured["false_alarms"]:
        yield (
            f"Unlike the training {several} are {measured['share']:.1%} of the test {several}, by a"
            f" threshold that {measured['false_alarms']:.0%} of the validation {several} exceed. Test"
            f" {several} may be of another kind, or the model knows its validation {several} too well."
        )


def _on_baseline(test: Mapping[str, Any]) -> Iterator[str]:
    baseline, f1 = test.get("baseline"), test.get("f1_macro")
    if baseline is None or f1 is None or f1 == 1:
        return
    regression, constant = baseline.get("logistic_regression"), baseline["most_frequent"]
    if regression is not None and f1 <= regression["f1_macro"]:
        features = regression["features"]
        yield (
            f"The model does not beat a logistic regression on {FEATURES[features]}: macro F1 {f1:.4f} "
            f"against {regression['f1_macro']:.4f}. {_ADVICE[features]}."
        )
    if f1 <= constant["f1_macro"]:
        what, words = WORDS[target_of_metrics(test)].decision, words_of_metrics(test)
        yield (
            f"The model does not beat predicting the most frequent {what} for every {words.one}: macro"
            f" F1 {f1:.4f} against {constant['f1_macro']:.4f}. Check that the labels match the"
            f" {words.several}, then try a lower train.lr or `train.class_weights: balanced`."
        )

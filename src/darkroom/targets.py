"""The kinds of target: what a model predicts for an image. Their names, their words, and files' marks.

Code that differs by kind is in modules with these names, in the package ``targets`` of each room. Other
code passes the name on, or looks up a module or a word by it, and never compares it
(docs/decisions/0035-kinds-of-target.md).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Target = Literal["one_class", "several_labels", "mask"]
"""One class per image; any number of labels, also none; or a mask: one class per pixel."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """How messages, reports and files name what differs by kind."""

    one: str
    several: str
    decision: str
    """All that is predicted for an image, or for a pixel of it."""
    per_image: str
    """What a model predicts, in a sentence."""
    constant: str
    """The baseline that predicts the same for every image."""
    agreement: str
    """In parity.json: the fraction of the images, or of their pixels, with the same prediction."""
    agreed: str
    """What that fraction says, around the fraction and the images."""
    same: str
    """The heading of that fraction in a table, after "same"."""
    scores: Mapping[str, str]
    """Titles of the scores that are not averages over classes, by their names in metrics.json. The first
    one tells the kind, and is the fraction of the images with a correct prediction, or the mean IoU."""
    a_score: str
    """The title of the first score with its article."""
    covered: str
    """What sets of possible classes contain of the test images, around the share."""
    columns: tuple[str, str]
    """The columns of truth and prediction in predictions.parquet."""
    is_multi_label: bool | None
    """``multi_label`` in dataset.json and in model files; None: they have ``target`` with the name."""

    @property
    def score(self) -> str:
        """The name of the first of ``scores``."""
        return next(iter(self.scores))

    @property
    def score_title(self) -> str:
        return self.scores[self.score]


WORDS: dict[Target, Words] = {
    "one_class": Words(
        one="class",
        several="classes",
        decision="class",
        per_image="one class per image",
        constant="most frequent class",
        agreement="argmax_agreement",
        agreed="the same class for {} of {}",
        same="class",
        scores={"accuracy": "accuracy"},
        a_score="an accuracy",
        covered="the true class of {}",
        columns=("label", "pred"),
        is_multi_label=False,
    ),
    "several_labels": Words(
        one="label",
        several="labels",
        decision="set of labels",
        per_image="several labels per image",
        constant="most frequent labels",
        agreement="labels_agreement",
        agreed="the same set of labels for {} of {}",
        same="set of labels",
        scores={"exact_match": "exact match", "hamming_loss": "Hamming loss"},
        a_score="an exact match",
        covered="{} of the true labels",
        columns=("labels", "preds"),
        is_multi_label=True,
    ),
    "mask": Words(
        one="class",
        several="classes",
        decision="class",
        per_image="one class per pixel",
        constant="most frequent class",
        agreement="pixel_agreement",
        agreed="the same class for {} of the pixels of {}",
        same="class of pixels",
        scores={"iou_macro": "mean IoU", "accuracy": "pixel accuracy"},
        a_score="a mean IoU",
        covered="the true class of {}",
        columns=("mask", "pred_mask"),
        is_multi_label=None,
    ),
}


def target_of_metrics(metrics: Collection[str]) -> Target:
    """Return the kind of target that scores with these names in metrics.json are about."""
    # masks have an accuracy, too
    names = reversed(WORDS)
    return next((name for name in names if WORDS[name].score in metrics), "one_class")


def target_of_columns(columns: Collection[str]) -> Target:
    """Return the kind of target that shards, a manifest or predictions with these columns are about."""
    # manifests have labels of every kind
    names = reversed(WORDS)
    return next((name for name in names if WORDS[name].columns[0] in columns), "one_class")


def to_file(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as files hold them: for most kinds with ``multi_label`` in place of ``target``."""
    mark = WORDS[values["target"]].is_multi_label
    if mark is None:
        return values
    rest = {name: value for name, value in values.items() if name != "target"}
    return {**rest, "multi_label": mark}


def from_file(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with ``target`` in place of ``multi_label``, if they have it; see ``to_file``."""
    if "multi_label" not in values:
        return values
    rest = {name: value for name, value in values.items() if name != "multi_label"}
    mark = values["multi_label"]
    return {**rest, "target": next((t for t, w in WORDS.items() if w.is_multi_label is mark), mark)}

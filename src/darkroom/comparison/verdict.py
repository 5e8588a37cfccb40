"""The comparison of two models in numbers, and the sentence that sums it up."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from darkroom.comparison.costs import Costs
from darkroom.comparison.matching import Matched, match
from darkroom.comparison.predictions import Predictions
from darkroom.comparison.seed_noise import SeedNoise, seed_noise
from darkroom.comparison.side import Side
from darkroom.comparison.targets.interface import ComparedTarget, compared_target
from darkroom.errors import counted
from darkroom.inputs import InputWords
from darkroom.metrics.holm import holm
from darkroom.metrics.paired import Paired, compare_units

Verdict = Literal["better", "worse", "indistinguishable"]

LEVEL = 0.05
"""The p-value up to which a difference counts."""


@dataclass(frozen=True)
class ClassDifference:
    """The F1 of one class by both models."""

    name: str
    support: int
    """Number of images with the class, or whose mask shows it."""
    f1: tuple[float, float]
    low: float
    high: float
    """The 95 % interval of the difference."""
    p_value: float
    """See ``ComparedTarget.class_test``; corrected by Holm's method."""

    @property
    def difference(self) -> float:
        return self.f1[1] - self.f1[0]

    @property
    def is_significant(self) -> bool:
        return self.p_value <= LEVEL


@dataclass(frozen=True)
class Comparison:
    """The second of two models, judged against the first on the same images."""

    names: tuple[str, str]
    images: Matched
    paired: Paired
    only_right: tuple[int, int] | None
    """Number of images that only the first, and only the second model has right; None for masks."""
    mcnemar_p: float | None
    classes: list[ClassDifference]
    """Only classes with images, the largest change first."""
    calibration: tuple[dict[str, float], dict[str, float]]
    model_bytes: tuple[int | None, int | None]
    seeds: SeedNoise | None
    """None for masks, which `darkroom seeds` does not take."""
    costs: Costs = field(default_factory=Costs)

    @property
    def num_images(self) -> int:
        return len(self.images.first)

    @property
    def words(self) -> InputWords:
        """The words for what the models predict from."""
        return self.images.first.words

    @property
    def kind(self) -> ComparedTarget:
        return compared_target(self.images.first.target)

    @property
    def accuracies(self) -> tuple[float, float]:
        """The first score in ``WORDS`` of both models."""
        return self.kind.score(self.images.first), self.kind.score(self.images.second)

    @property
    def verdict(self) -> Verdict:
        """Better or worse only if the interval excludes 0 and the randomisation test agrees."""
        if self.paired.p_value <= LEVEL:
            if self.paired.low > 0:
                return "better"
            if self.paired.high < 0:
                return "worse"
        return "indistinguishable"

    @property
    def sentence(self) -> str:
        """The verdict in one sentence or two."""
        words = self.words
        paired, number = self.paired, counted(self.num_images, words.one)
        first, second = self.names
        scores = (
            f"macro F1 {paired.scores[1]:.4f} against {paired.scores[0]:.4f}, a difference of "
            f"{paired.difference:+.4f} (95 % interval {paired.low:+.4f} to {paired.high:+.4f})"
        )
        if self.verdict != "indistinguishable":
            return f"{second} is {self.verdict} than {first} on {number}: {scores}."
        said = f"{second} and {first} are not distinguishable with these {number}: {scores}."
        if self.images.are_alike:
            return f"{said} They predict the same for every {words.one}."
        needed = paired.needed(self.num_images)
        power = (
            f"These {words.several} show a difference of {paired.detectable:.4f} or more (power 80 %)"
        )
        if needed is None:
            return f"{said} {power}."
        return (
            f"{said} {power}; about {needed:,} {words.several} would be needed to tell one of this size."
        )

    @property
    def remarks(self) -> list[str]:
        """What a reader must know to judge the numbers."""
        remarks, words = list(self.images.remarks), self.words
        if self.paired.low * self.paired.high > 0 and self.verdict == "indistinguishable":
            remarks.append(
                f"The interval excludes 0, but too few {words.several} differ: the randomisation test"
                f" gives p = {self.paired.p_value:.2g}."
            )
        if self.images.groups is not None:
            num_groups = int(self.images.groups.max()) + 1
            remarks.append(
                f"{words.several.capitalize()} in the same group, and copies, were drawn together:"
                f" {num_groups:,} groups."
                + f" McNemar's test counts every {words.one}."
                * (self.only_right is not None)
            )
        if latency := self.costs.latency:
            remarks.append(
                f"Latency: one {words.one} at a time with ONNX Runtime on all cores of this machine, the"
                f" median of {latency.num_rounds} rounds in which both models take turns, and the"
                " quartiles."
            )
        if self.costs.not_measured:
            remarks.append(f"Latency was not measured: {self.costs.not_measured}.")
        return remarks

    def to_json(self) -> dict[str, Any]:
        """Return the comparison in values that JSON can hold."""
        paired, (before, after) = self.paired, self.calibration
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "first": self.names[0],
            "second": self.names[1],
            "n": self.num_images,
            "difference": paired.difference,
            "low": paired.low,
            "high": paired.high,
            "p_value": paired.p_value,
            "standard_error": paired.standard_error,
            "f1_macro": list(paired.scores),
            self.kind.score_name: list(self.accuracies),
            **(
                {
                    "mcnemar": {
                        "only_first_right": self.only_right[0],
                        "only_second_right": self.only_right[1],
                        "p_value": self.mcnemar_p,
                    }
                }
                if self.only_right is not None
                else {}
            ),
            **({"seeds": self.seeds.to_json()} if self.seeds else {}),
            "detectable": paired.detectable,
            "needed_images": paired.needed(self.num_images),
            "per_class": [
                {
                    "class": one.name,
                    "support": one.support,
                    "f1": list(one.f1),
                    "difference": one.difference,
                    "low": one.low,
                    "high": one.high,
                    "p_value_holm": one.p_value,
                }
                for one in self.classes
            ],
            "calibration": {name: [before[name], after[name]] for name in before},
            "model_bytes": list(self.model_bytes),
            "parameters": list(self.costs.parameters),
            **({"latency": latency.to_json()} if (latency := self.costs.latency) else {}),
            "gained": [self.images.first.paths[index] for index in self.gained],
            "lost": [self.images.first.paths[index] for index in self.lost],
            "remarks": self.remarks,
        }

    @property
    def gained(self) -> list[int]:
        """The images that only the second model has right; empty for masks."""
        return self._only_right_in(self.images.second, self.images.first)

    @property
    def lost(self) -> list[int]:
        """The images that only the first model has right; empty for masks."""
        return self._only_right_in(self.images.first, self.images.second)

    def _only_right_in(self, one: Predictions, other: Predictions) -> list[int]:
        if self.only_right is None:
            return []
        return np.flatnonzero(one.correct & ~other.correct).tolist()


def compare(
    first: Side,
    second: Side,
    common: bool = False,
    advance: Callable[[int], None] = lambda num_resamples: None,
) -> Comparison:
    """Judge the second model against the first on the same test images.

    Args:
        common: compare on the images that both have; otherwise all must be the same.
        advance: called with the number of resamples that were drawn since the last call.

    Raises:
        UserError: the models have other classes, or were tested on other images.
    """
    images = match(first, second, common)
    before, after = images.first, images.second
    kind = compared_target(before.target)
    paired = compare_units(kind.units(before, after, images.groups), advance)
    right = kind.only_right(before, after)
    return Comparison(
        names=(first.name, second.name),
        images=images,
        paired=paired,
        only_right=right and right[:2],
        mcnemar_p=right and right[2],
        classes=_classes(before, after, paired),
        calibration=(calibration(before), calibration(after)),
        model_bytes=(first.model_bytes, second.model_bytes),
        seeds=seed_noise(first, second, paired.difference) if right else None,
    )


def _classes(before: Predictions, after: Predictions, paired: Paired) -> list[ClassDifference]:
    present = np.flatnonzero(before.targets.any(axis=0)).tolist()
    p_values = holm(compared_target(before.target).class_p_values(before, after, paired, present))
    rows = [
        ClassDifference(
            name=before.class_names[index],
            support=int((before.targets[:, index] > 0).sum()),
            f1=(float(paired.class_scores[0, index]), float(paired.class_scores[1, index])),
            low=float(paired.class_intervals[0, index]),
            high=float(paired.class_intervals[1, index]),
            p_value=p_value,
        )
        for index, p_value in zip(present, p_values, strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(row.difference))


def calibration(predictions: Predictions) -> dict[str, float]:
    """Return ``nll``, ``brier`` and ``ece`` of a model's probabilities, as in metrics.json."""
    return compared_target(predictions.target).calibration(predictions)

"""The learning curve: the score of each size, and what more images would bring."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import counted, listed
from darkroom.inputs import INPUT_WORDS, InputWords
from darkroom.learning_curve.extrapolation import (
    Floats,
    PowerLaws,
    fit_power_laws,
    spread_of_trainings,
)
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.intervals import score_intervals
from darkroom.metrics.resampling import CHUNK, CONFIDENCE, Units, draw, make_units

NUM_RESAMPLES = 1000
RATIO = 2
"""The factor by which the number of images would grow."""
LITTLE = 0.01
"""A rise of macro F1 that hardly helps."""
SURE = 0.005
"""The least rise that is worth a sentence, at the lower bound of its interval."""
MAX_NAMED = 5
"""Maximum number of classes in a sentence."""
TAILS = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]

Verdict = Literal["more", "enough", "unclear"]
OneHot = NDArray[np.bool_]
"""``(n, num_classes)``"""


@dataclass(frozen=True)
class Step:
    """The score of one size."""

    percent: float
    num_images: int
    f1_macro: float
    """On the validation images; the mean over repeats."""
    low: float
    """Of its 95 % interval: what other validation images could give; the mean over repeats."""
    high: float
    repeats: list[float]
    """The score of each repeat."""


@dataclass(frozen=True)
class Gain:
    """The rise of a score with twice as many images, and its 95 % interval."""

    rise: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """``unclear`` if the interval holds both rises that help and rises that hardly do."""
        if self.low > SURE:
            return "more"
        return "enough" if self.high < LITTLE else "unclear"


@dataclass(frozen=True)
class Curve:
    """What was measured and what is expected."""

    steps: list[Step]
    num_validation: int
    gain: Gain
    """Of macro F1."""
    twice: Gain
    """Macro F1 itself with twice as many images."""
    classes: dict[str, tuple[float, Gain]]
    """F1 with all images, and its gain, of each class with validation images."""
    laws: PowerLaws
    """The curve of macro F1, and those of its resamples, for the picture."""
    remarks: list[str]
    words: InputWords
    """The words for what is trained on."""

    @property
    def verdict(self) -> Verdict:
        """Whether more images would help."""
        return "unclear" if self.falls else self.gain.verdict

    @property
    def falls(self) -> bool:
        """Whether a smaller size did clearly better than all images, which no power law describes."""
        return max(step.f1_macro for step in self.steps) > self.steps[-1].f1_macro + LITTLE

    @property
    def gaining(self) -> list[str]:
        """The classes that surely gain, the largest gain first."""
        sure = {n: gain.rise for n, (_, gain) in self.classes.items() if gain.verdict == "more"}
        return sorted(sure, key=lambda name: -sure[name])

    @property
    def sentence(self) -> str:
        """What more images would bring."""
        now, gain, twice = self.steps[-1].f1_macro, self.gain, self.twice
        several, validation = self.words.several, f"validation {self.words.one}"
        if self.falls:
            best = max(self.steps, key=lambda step: step.f1_macro)
            return (
                f"These trainings say nothing of more {several}: macro F1 is {best.f1_macro:.3f} with"
                f" {best.num_images:,} {several} and {now:.3f} with all. The training may be too"
                " short, or vary by chance; --repeats tells."
            )
        if self.verdict == "enough":
            return (
                f"More {several} of the same kind would hardly help: twice as many would raise macro F1"
                f" from {now:.3f} by {gain.rise:.3f} (at most {gain.high:.3f})."
            )
        if self.verdict == "more":
            names = f" Most for {listed(self.gaining, MAX_NAMED)}." if self.gaining else ""
            return (
                f"Twice as many {several} would raise macro F1 from {now:.3f} to about {twice.rise:.3f}"
                f" ({twice.low:.3f} to {twice.high:.3f}).{names}"
            )
        return (
            f"It is unclear what more {several} would bring: by these trainings, twice as many may raise"
            f" macro F1 of {now:.3f} by anything from {gain.low:.3f} to {gain.high:.3f}. More --repeats"
            f" or more than {counted(self.num_validation, validation)} narrow that."
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the resampled curves; expectations only where the verdict is clear."""
        twice = {
            **_named("f1_macro", self.twice, self.verdict),
            **_named("gain", self.gain, self.verdict),
        }
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "num_validation": self.num_validation,
            "sizes": [_rounded(vars(step)) for step in self.steps],
            "twice": None if self.falls else twice,
            "power_law": {
                name: round(float(getattr(self.laws, name)[0]), DIGITS) for name in ("a", "b", "c")
            },
            "classes": {
                name: {
                    "f1": round(f1, DIGITS),
                    **({} if self.falls else _named("gain", gain, gain.verdict)),
                }
                for name, (f1, gain) in self.classes.items()
            },
            "remarks": self.remarks,
        }


def _named(name: str, gain: Gain, verdict: Verdict) -> dict[str, float | None]:
    return {
        name: None if verdict == "unclear" else round(gain.rise, DIGITS),
        f"{name}_low": round(gain.low, DIGITS),
        f"{name}_high": round(gain.high, DIGITS),
    }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [round(one, DIGITS) for one in value]
        if isinstance(value, list)
        else round(value, DIGITS)
        if isinstance(value, float)
        else value
        for key, value in values.items()
    }


def make_curve(
    percents: Sequence[float],
    sizes: Sequence[int],
    targets: OneHot,
    preds: Sequence[Sequence[OneHot]],
    class_names: Sequence[str],
    groups: NDArray[np.int64] | None = None,
    remarks: Sequence[str] = (),
    words: InputWords = INPUT_WORDS["image"],
) -> Curve:
    """Return the learning curve of predictions for the validation images.

    Intervals come from 1,000 resamples of the validation images, the same for all sizes, to which the
    spread of the trainings is added. The same input always gives the same result.

    Args:
        sizes: numbers of images, ascending; the mean over repeats.
        preds: by repeat and size, each like ``targets``.
        groups: the group of each validation image, 0 to ``num_groups - 1``; None: each is by itself.
    """
    bounds = [
        [score_intervals(targets, one, groups).f1_macro for one in of_repeat] for of_repeat in preds
    ]
    low, high = np.mean(bounds, axis=0).T  # (num_sizes,) each
    observed, resampled = _resampled_f1(targets, preds, groups)
    is_present = targets.any(axis=0)
    macro = observed[:, :, is_present].mean(axis=2)  # (num_repeats, num_sizes)
    numbers = np.asarray(sizes, np.int64)
    random = np.random.Generator(np.random.Philox(1))
    means = np.nanmean(np.where(is_present, resampled, np.nan), axis=2)
    gain, twice, laws = _expected(numbers, 1 - macro, 1 - means, len(targets), random)
    classes = {}
    for index in np.flatnonzero(is_present).tolist():
        of_class = 1 - observed[:, :, index]
        again = np.where(
            np.isnan(resampled[:, :, index]), of_class.mean(axis=0), 1 - resampled[:, :, index]
        )
        found, _, _ = _expected(numbers, of_class, again, int(targets[:, index].sum()), random)
        classes[class_names[index]] = float(1 - of_class[:, -1].mean()), found
    steps = [
        Step(
            percent, size, float(macro[:, k].mean()), float(low[k]), float(high[k]), macro[:, k].tolist()
        )
        for k, (percent, size) in enumerate(zip(percents, sizes, strict=True))
    ]
    return Curve(steps, len(targets), gain, twice, classes, laws, list(remarks), words)


def _expected(
    sizes: NDArray[np.int64],
    repeats: Floats,
    resampled: Floats,
    num_images: int,
    random: np.random.Generator,
) -> tuple[Gain, Gain, PowerLaws]:
    """Return the gain of a score with twice as many images, the score then, and the fitted curves.

    Args:
        repeats: errors, ``(num_repeats, num_sizes)``.
        resampled: errors of resamples, means over repeats, ``(m, num_sizes)``.
        num_images: on which the errors are based.
    """
    variances = np.maximum(resampled.var(axis=0), 1 / num_images**2)
    spread = spread_of_trainings(sizes, repeats, variances)
    errors = np.concatenate([repeats.mean(axis=0)[None], resampled])
    errors[1:] += spread * random.standard_normal(resampled.shape)
    laws = fit_power_laws(sizes, errors, variances + spread**2)
    gains = laws.gain(RATIO)
    scores = np.clip(1 - errors[:, -1] + gains, 0, 1)
    return _interval(gains), _interval(scores), laws


def _interval(values: Floats) -> Gain:
    """Return the first value, with the interval of the others, which is widened to hold it."""
    low, high = np.percentile(values[1:], TAILS)
    return Gain(float(values[0]), float(min(low, values[0])), float(max(high, values[0])))


def _resampled_f1(
    targets: OneHot, preds: Sequence[Sequence[OneHot]], groups: NDArray[np.int64] | None
) -> tuple[Floats, Floats]:
    """Return F1 ``(num_repeats, num_sizes, num_classes)``, and that of resamples.

    Those of resamples are means over repeats, ``(m, num_sizes, num_classes)``.
    """
    shape = (len(preds), len(preds[0]))
    every = [one for of_repeat in preds for one in of_repeat]
    columns = [targets, *(part for one in every for part in (targets & one, one))]
    units = make_units(columns, [targets, *every], groups)
    observed = _f1(np.asarray(units.counts @ units.rows)[None], shape)[0]
    return observed, np.concatenate([f1.mean(axis=1) for f1 in _resamples(units, shape)])


def _resamples(units: Units, shape: tuple[int, int]) -> Iterator[Floats]:
    random = np.random.Generator(np.random.Philox(0))
    for start in range(0, NUM_RESAMPLES, CHUNK):
        size = min(CHUNK, NUM_RESAMPLES - start)
        yield _f1(np.asarray(draw(units, size, random) @ units.rows), shape)


def _f1(sums: Floats, shape: tuple[int, int]) -> Floats:
    """Return F1 ``(m, num_repeats, num_sizes, num_classes)``; NaN for classes without images."""
    width = sums.shape[1] // (1 + 2 * shape[0] * shape[1])
    support = sums[:, None, None, :width]
    hits, predicted = np.moveaxis(sums[:, width:].reshape(len(sums), *shape, 2, width), 3, 0)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return np.where(support > 0, f1, np.nan)

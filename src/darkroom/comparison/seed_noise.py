"""How far the seed alone moves macro F1, by results of `darkroom seeds`, beside that of two models."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.bounded_json import load_json
from darkroom.comparison.side import Side
from darkroom.metrics.resampling import CONFIDENCE
from darkroom.paths import CACHE, REPORT_TRAIN
from darkroom.tracking.records import param_text

SEEDS = CACHE / "seeds"
"""Copies of all results, because reports/seeds/ has only the last one."""

RECIPE = ("num_threads", "augment.", "model.", "train.")
"""Beginnings of the names of parameters that make a recipe, with the prepared data: all but the seed."""

MIN_DIGEST = 16
"""Minimum number of digits that tell which data a model was trained on; MLflow keeps only some."""


@dataclass(frozen=True)
class SeedScores:
    """The macro F1 of trainings of one recipe that differ in their seeds alone."""

    scores: tuple[float, ...]
    """0..1, at least two."""
    num_images: int
    """Number of validation images, or rows, that give a score."""

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return float(np.std(self.scores, ddof=1))


@dataclass(frozen=True)
class SeedNoise:
    """A difference of two trainings, beside what seeds alone change."""

    difference: float
    of_each: tuple[SeedScores | None, SeedScores | None]
    """Of the recipe of each model; None if `darkroom seeds` has not run."""
    is_one_recipe: bool = False
    """Whether both models have the same recipe."""
    several: str = "images"
    """The word for what the models predict from."""

    @property
    def is_known(self) -> bool:
        return any(self.of_each)

    @property
    def variance(self) -> float:
        """That of the difference of two trainings.

        If `darkroom seeds` has run for one recipe, the other is assumed to vary as much.
        """
        known = [one.spread**2 for one in self._known]
        return sum(known) if len(known) == 2 else 2 * known[0]

    @property
    def degrees(self) -> float:
        """Degrees of freedom of ``variance``; of two recipes by Welch and Satterthwaite.

        Source: Welch, "The generalization of 'Student's' problem when several different population
        variances are involved", Biometrika 34, 1947.
        """
        parts = [(one.spread**2, len(one.scores) - 1) for one in self._known]
        if len(parts) == 1 or self.variance == 0:
            return float(parts[0][1])
        return self.variance**2 / sum(variance**2 / degrees for variance, degrees in parts)

    @property
    def noise(self) -> float:
        """By how much two trainings differ at most, in 95 % of all cases, if only their seeds differ."""
        from scipy.stats import t

        return float(t.ppf((1 + CONFIDENCE) / 2, self.degrees)) * self.variance**0.5

    @property
    def p_value(self) -> float | None:
        """How often seeds alone give a difference at least as large; None if all scores are the same."""
        from scipy.stats import t

        if self.variance == 0:
            return None
        return float(2 * t.sf(abs(self.difference) / self.variance**0.5, self.degrees))

    @property
    def is_larger(self) -> bool | None:
        """Whether the difference is larger than ``noise``; None if all scores are the same."""
        return None if self.variance == 0 else abs(self.difference) > self.noise

    @property
    def sentence(self) -> str:
        """What a reader must know of the noise."""
        if not self.is_known:
            return (
                "How far the seed alone moves macro F1 is not known: `darkroom seeds`, run with the"
                " parameters and the prepared data of one of these models, measures it."
            )
        known = self._known
        spreads = " and ".join(
            f"{one.spread:.4f} ({len(one.scores)} seeds, {one.num_images:,} validation {self.several})"
            for one in known
        )
        said = f"Standard deviation of macro F1 over seeds: {spreads}"
        if len(known) == 1 and not self.is_one_recipe:
            said += f", of {'AB'[self.of_each.index(known[0])]}; the other is assumed to vary as much"
        if self.p_value is None:
            return f"{said}. All seeds have the same score, so they do not tell what is noise."
        said += (
            f". Two trainings that differ in their seeds alone differ by up to {self.noise:.4f} (95 %)."
        )
        if self.is_larger:
            return f"{said} The difference of {self.difference:+.4f} is larger (p = {self.p_value:.2g})."
        return (
            f"{said} The difference of {self.difference:+.4f} is not larger, so seeds alone may explain"
            f" it (p = {self.p_value:.2g})."
        )

    @property
    def row(self) -> tuple[str, str, str, str]:
        """A row beside the scores: title, both models, and the noise of the difference."""
        cells = [f"{one.spread:.4f}" if one else "not known" for one in self.of_each]
        return "SD over seeds", cells[0], cells[1], f"noise {self.noise:.4f}"

    def to_json(self) -> dict[str, Any]:
        """Return the values by name; lists have an entry per model."""
        return {
            "standard_deviation": [one.spread if one else None for one in self.of_each],
            "num_seeds": [len(one.scores) if one else None for one in self.of_each],
            "noise": self.noise if self.is_known else None,
            "p_value": self.p_value if self.is_known else None,
            "is_larger": self.is_larger if self.is_known else None,
            "sentence": self.sentence,
        }

    @property
    def _known(self) -> list[SeedScores]:
        """The results, one per recipe."""
        found = [one for one in self.of_each if one is not None]
        return found[:1] if self.is_one_recipe else found


def seed_noise(first: Side, second: Side, difference: float) -> SeedNoise:
    """Return the noise of seeds for the recipes of two models.

    It comes from the results in ``reports/*/seeds.json`` and ``.darkroom/seeds/`` whose data and
    parameters, but for the seed, are those of the model. Of several, the one with the most seeds counts.

    Args:
        difference: of macro F1.
    """
    recipes = [_recipe(side.read_params()) for side in (first, second)]
    digests = first.data_digest, second.data_digest
    results = sorted(_results(), key=lambda result: len(result[2].scores))
    found: list[SeedScores | None] = [None, None]
    for digest, recipe, scores in results:
        for index in (0, 1):
            is_same_data = len(digests[index]) >= MIN_DIGEST and digest.startswith(digests[index])
            if is_same_data and recipe == recipes[index]:
                found[index] = scores
    is_one = bool(recipes[0]) and recipes[0] == recipes[1] and found[0] == found[1]
    return SeedNoise(difference, (found[0], found[1]), is_one, first.predictions.words.several)


def _recipe(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a recipe as text, because MLflow keeps only that."""
    return {name: _text(value) for name, value in params.items() if name.startswith(RECIPE)}


def _text(value: object) -> str:
    """Return a value as text, with the keys of a dict in order: DVC sorts them."""
    text = value if isinstance(value, str) else param_text(value)
    return json.dumps(json.loads(text), sort_keys=True) if text.startswith(("{", "[")) else text


def _results() -> Iterator[tuple[str, dict[str, str], SeedScores]]:
    """Yield digest of the data, recipe and scores of each result; files that are damaged are skipped."""
    for path in sorted(chain(REPORT_TRAIN.parent.glob("*/seeds.json"), SEEDS.glob("*.json"))):
        try:
            yield _result(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def _result(path: Path) -> tuple[str, dict[str, str], SeedScores]:
    document = load_json(path)
    trainings = document["trainings"]
    scores = tuple(float(one["f1_macro"]) for one in trainings)
    if len(scores) < 2 or not all(0 <= score <= 1 for score in scores):
        raise ValueError(path)
    origin = document["origin"]
    return f"{origin['data.digest']}", _recipe(origin), SeedScores(scores, trainings[0]["num_images"])

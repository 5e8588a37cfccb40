"""Measures how often `darkroom compare` calls a difference larger than the noise of seeds.

    python benchmarks/seed_noise.py [--draws 4000]

Scores are simulated of recipes that are equally good, so 5 % false alarms are expected: normal ones, and
macro F1 of 359 images of ten classes, each of which a training has wrong with a probability of its own.
Cases: one recipe; one of whose seeds the first model is; two recipes that vary differently, with results
of `darkroom seeds` for both, or for one only, the other being assumed to vary as much. If the second
recipe is better, the fraction that is found is the power. Adds JSON lines to
benchmarks/results/seed-noise.jsonl.
"""

import argparse
from collections.abc import Callable

import numpy as np
from machine import keep
from numpy.typing import NDArray

from darkroom.comparison.seed_noise import SeedNoise, SeedScores

Scores = NDArray[np.float64]
RANDOM = np.random.default_rng(0)
TARGETS = np.arange(359) % 10
DIFFICULTY = np.random.default_rng(1).beta(0.08, 4, 359)
"""How often a training has each image wrong."""


def normal(number: int, sigma: float, better_by: float = 0.0) -> Scores:
    """Draws scores of trainings around 0.9."""
    return np.clip(0.9 + better_by + sigma * RANDOM.standard_normal(number), 0, 1)


def of_images(number: int, sigma: float, better_by: float = 0.0) -> Scores:
    """Draws macro F1 of trainings on the same images; ``sigma`` and ``better_by`` are not used."""
    scores = []
    for _ in range(number):
        wrong = RANDOM.random(len(TARGETS)) < DIFFICULTY
        preds = np.where(wrong, (TARGETS + RANDOM.integers(1, 10, len(TARGETS))) % 10, TARGETS)
        hits = np.bincount(TARGETS[preds == TARGETS], minlength=10)
        scores.append(np.mean(2 * hits / (np.bincount(TARGETS) + np.bincount(preds, minlength=10))))
    return np.array(scores)


def rate(
    case: str,
    num_seeds: tuple[int, int],
    num_draws: int,
    *,
    draw: Callable[..., NDArray[np.float64]] = normal,
    ratio: float = 1.0,
    better_by: float = 0.0,
    is_one: bool = False,
    is_among: bool = False,
) -> None:
    """Counts how often a difference is called larger.

    Args:
        num_seeds: of both recipes; 0: `darkroom seeds` has not run for it.
        ratio: standard deviation of the second recipe, divided by that of the first.
        is_one: both models have the same recipe.
        is_among: the first model is one of the seeds.
    """
    larger = 0
    for _ in range(num_draws):
        samples = [
            SeedScores(tuple(draw(number, 0.005 * scale).tolist()), 359) if number else None
            for number, scale in zip(num_seeds, (1.0, ratio), strict=True)
        ]
        first = samples[0].scores[0] if is_among and samples[0] else draw(1, 0.005)[0]
        second = draw(1, 0.005 * ratio, better_by)[0]
        both = (samples[0], samples[0]) if is_one else (samples[0], samples[1])
        larger += bool(SeedNoise(second - first, both, is_one).is_larger)
    keep(
        "seed-noise",
        {
            "case": case,
            "seeds": list(num_seeds),
            "better_by_in_sd": round(better_by / 0.005, 2),
            "draws": num_draws,
            "called_larger": round(larger / num_draws, 4),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=4_000)
    draws = parser.parse_args().draws
    for number in (2, 3, 5, 10):
        rate("one recipe", (number, 0), draws, is_one=True)
    rate("one recipe, the first model is one of the seeds", (5, 0), draws, is_one=True, is_among=True)
    rate("one recipe, scores of 359 images", (5, 0), draws, draw=of_images, is_one=True)
    rate("two recipes", (5, 5), draws)
    rate("two recipes, the second varies 3 times as much", (5, 5), draws, ratio=3)
    rate("two recipes, the second varies 3 times as much", (10, 3), draws, ratio=3)
    rate("two recipes, only the first is known", (5, 0), draws)
    rate("two recipes, only the first is known, the second varies twice as much", (5, 0), draws, ratio=2)
    for better_by in (2, 4, 6):
        rate("one recipe", (5, 0), draws, is_one=True, better_by=0.005 * better_by)


if __name__ == "__main__":
    main()

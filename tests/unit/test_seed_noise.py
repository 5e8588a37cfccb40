"""The noise of seeds in `darkroom compare`: the rule against scipy, and which results count."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import GOOD, files_of, run
from scipy import stats

from darkroom.comparison.predictions import Predictions
from darkroom.comparison.seed_noise import SEEDS, SeedNoise, SeedScores, seed_noise
from darkroom.comparison.side import Side
from darkroom.repeats.estimate import estimate

ONE = (0.90, 0.93, 0.91, 0.95, 0.92)
OTHER = (0.80, 0.81, 0.86)
DIGEST = "d" * 64
RECIPE = {
    "num_threads": 2,
    "train.lr": 0.1,
    "train.lr_factors": {"b": 1.0, "a": 0.5},
    "model.depth": None,
}
KEPT = Path("reports/seeds/seeds.json")


def noise(difference: float, *scores: tuple[float, ...] | None, is_one: bool = False) -> SeedNoise:
    first, second = (SeedScores(one, 270) if one else None for one in scores)
    return SeedNoise(difference, (first, second), is_one)


# the rule


def test_noise_of_two_recipes_is_that_of_welch() -> None:
    """scipy's test of means, told that the means of one score each vary as single scores do."""
    for difference in (0.001, 0.03, -0.07, 0.2):
        found = noise(difference, ONE, OTHER)
        spreads = [float(np.std(one, ddof=1)) for one in (ONE, OTHER)]
        sizes = [len(ONE), len(OTHER)]
        expected = stats.ttest_ind_from_stats(
            difference,
            spreads[0] * sizes[0] ** 0.5,
            sizes[0],
            0,
            spreads[1] * sizes[1] ** 0.5,
            sizes[1],
            equal_var=False,
        )
        assert found.p_value == pytest.approx(expected.pvalue)
        assert found.is_larger == (expected.pvalue < 0.05)
    for times in (0.999, 1.001):
        assert noise(found.noise * times, ONE, OTHER).is_larger == (times > 1)
        assert noise(-found.noise * times, ONE, OTHER).is_larger == (times > 1)


def test_noise_of_one_recipe_is_that_of_students_t_and_of_the_command() -> None:
    expected = stats.t.interval(0.95, len(ONE) - 1, scale=np.std(ONE, ddof=1) * 2**0.5)[1]
    for found in (noise(0.03, ONE, ONE, is_one=True), noise(0.03, ONE, None), noise(0.03, None, ONE)):
        assert found.noise == pytest.approx(expected)
        assert found.noise == pytest.approx(estimate(ONE).noise, abs=1e-6)
    assert noise(0.03, ONE, ONE).noise < expected  # twice as many degrees of freedom, if independent
    assert noise(0.03, (*ONE[:-1], 0.99), None).noise > expected


@pytest.mark.parametrize("is_one", [True, False])
def test_false_alarms_are_as_frequent_as_the_rule_says(is_one: bool) -> None:
    """benchmarks/seed_noise.py does the same with more draws and kinds."""
    random, num_draws, larger, rate = np.random.default_rng(3), 800, 0, 0.05
    for _ in range(num_draws):
        first = tuple(random.normal(0.5, 0.01, 5))
        second = first if is_one else tuple(random.normal(0.5, 0.02, 5))
        difference = random.normal(0, 0.01 * 2**0.5 if is_one else 0.01 * 5**0.5)
        larger += bool(noise(difference, first, second, is_one=is_one).is_larger)
    assert abs(larger / num_draws - rate) < 3.5 * (rate * (1 - rate) / num_draws) ** 0.5


def test_scores_that_are_all_the_same_tell_nothing() -> None:
    found = noise(0.01, (0.9, 0.9, 0.9), None)
    assert (found.is_larger, found.p_value, found.noise) == (None, None, 0)
    assert "so they do not tell what is noise" in found.sentence


# which results belong to a model


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def keep(path: Path = KEPT, scores: tuple[float, ...] = ONE, **origin: Any) -> None:
    """Writes what `darkroom seeds` writes."""
    trainings = [{"name": "seed", "num_images": 270, "f1_macro": score} for score in scores]
    text = json.dumps({"origin": {"data.digest": DIGEST, "seed": 3, **origin}, "trainings": trainings})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def side(digest: str = DIGEST, **params: Any) -> Side:
    predictions = Predictions.parse(*files_of(GOOD), "a")
    return Side("a", predictions, data_digest=digest, read_params=lambda: params)


def found(first: Side, second: Side) -> tuple[int | None, ...]:
    noise = seed_noise(first, second, 0.1)
    return *(len(one.scores) if one else None for one in noise.of_each), noise.is_one_recipe


def test_results_belong_to_models_with_their_data_and_parameters() -> None:
    wide = {**RECIPE, "train.lr": 0.2}
    keep(**RECIPE)
    assert found(side(**RECIPE), side(**RECIPE, seed=7)) == (5, 5, True)
    assert found(side(**RECIPE), side(**wide)) == (5, None, False)
    keep(SEEDS / "a.json", OTHER, **wide)
    assert found(side(**RECIPE), side(**wide)) == (5, 3, False)
    assert found(side(**wide), side(**RECIPE)) == (3, 5, False)
    keep(SEEDS / "b.json", (*ONE, *OTHER), **RECIPE)
    assert found(side(**RECIPE), side(**wide)) == (8, 3, False)
    assert found(side("e" * 64, **RECIPE), side("", **RECIPE)) == (None, None, True)
    for name in RECIPE:
        assert found(side(**{**RECIPE, name: 5}), side(**RECIPE)) == (None, 8, False), name
    assert found(side(), side()) == (None, None, False)


def test_what_mlflow_keeps_of_digest_and_parameters_is_recognised() -> None:
    keep(**RECIPE)
    texts = {"num_threads": "2", "train.lr": "0.1", "model.depth": "null", "seed": "0"}
    texts["train.lr_factors"] = '{"a": 0.5, "b": 1.0}'
    assert found(side(DIGEST[:36], **texts), side(**RECIPE)) == (5, 5, True)
    assert found(side(DIGEST[:8], **texts), side(**RECIPE)) == (None, 5, False)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"trainings": [], "origin": {}}', "\0"])
def test_a_damaged_result_is_none(text: str) -> None:
    keep(**RECIPE)
    KEPT.write_text(text)
    assert found(side(**RECIPE), side(**RECIPE)) == (None, None, True)


# what is said


@pytest.mark.slow
def test_the_command_says_whether_the_difference_is_larger(two_commits: Path) -> None:
    status, output = run("bad", "main")
    assert status == 0
    assert "How far the seed alone moves macro F1 is not known: `darkroom seeds`" in output
    assert "SD over seeds" not in output
    recipe = {"train.lr": 0.1, "train.epochs": 2}
    keep(**recipe)
    status, output = run("bad")  # the data of the commit are not recorded
    expected = estimate(ONE).noise
    assert "  SD over seeds  " in output
    assert f"differ by up to {expected:.4f} (95 %). The difference of +" in output
    assert output.index("is larger (p = ") < output.index("workspace is better than")
    for option in ("--markdown", "--json"):
        _, shown = run("bad", option)
        assert "Standard deviation of macro F1 over seeds: 0.0192 (5 seeds, 270 val" in shown
    seeds = json.loads(shown[shown.index("{\n") : shown.rindex("}") + 1])["seeds"]
    assert seeds["standard_deviation"] == [None, pytest.approx(np.std(ONE, ddof=1))]
    assert (seeds["num_seeds"], seeds["is_larger"]) == ([None, 5], True)
    assert seeds["noise"] == pytest.approx(expected, abs=1e-6)
    run("bad", "--html", "page.html")
    assert "Standard deviation of macro F1 over seeds: 0.0192" in Path("page.html").read_text()

    keep(scores=(0.3, 0.9, 0.95), **recipe)
    assert "is not larger, so seeds alone may explain it (p = 0." in run("bad")[1]
    keep(**{**recipe, "train.epochs": 3})
    assert "is not known: `darkroom seeds`" in run("bad")[1]


def test_what_is_assumed_of_a_recipe_without_seeds_is_said() -> None:
    assert (
        ", of B; the other is assumed to vary as much. Two trainings" in noise(0.1, None, ONE).sentence
    )
    assert "assumed" not in noise(0.1, ONE, ONE, is_one=True).sentence
    both = noise(0.1, ONE, OTHER).sentence
    assert "0.0192 (5 seeds, 270 validation images) and 0.0321 (3 seeds, " in both

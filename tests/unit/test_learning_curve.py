"""The learning curve: nested subsets, a planted power law, and the verdict."""

import itertools
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from darkroom.cli import main
from darkroom.dataset.targets.interface import stored_target
from darkroom.errors import UserError
from darkroom.learning_curve.curve import Curve, make_curve
from darkroom.learning_curve.extrapolation import fit_power_laws
from darkroom.learning_curve.subsets import SizedSubset, nested_subsets

SIZES = np.array([100, 200, 400, 800, 1000])
PERCENTS = [10.0, 20.0, 40.0, 80.0, 100.0]


def nested(
    labels: NDArray[Any], groups: NDArray[np.int64], names: list[str], percents: list[float], seed: int
) -> tuple[list[SizedSubset], list[str]]:
    kind = stored_target("several_labels" if labels.dtype == np.uint8 else "one_class")
    indicators = kind.indicators(labels, len(names))
    return nested_subsets(kind.strata(labels), indicators, groups, names, percents, seed)


def test_subsets_are_nested_and_stratified_as_in_a_table_made_by_hand() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 20])
    subsets, remarks = nested(labels, np.arange(170), ["a", "b", "c"], PERCENTS, seed=1)
    counts = [np.bincount(labels[part.rows]).tolist() for part in subsets]
    assert counts == [[10, 5, 2], [20, 10, 4], [40, 20, 8], [80, 40, 16], [100, 50, 20]]
    assert not remarks
    for smaller, larger in itertools.pairwise(subsets):
        assert set(smaller.rows) < set(larger.rows)
    again, other = (nested(labels, np.arange(170), ["a", "b", "c"], PERCENTS, n)[0] for n in (1, 2))
    assert again[0].rows.tolist() == subsets[0].rows.tolist() != other[0].rows.tolist()
    assert [len(part.repeated(170)) for part in subsets] == [170, 170, 136, 136, 170]


def test_groups_stay_together() -> None:
    labels, groups = np.repeat([0, 1], 60), np.arange(120) // 3
    subsets, _ = nested(labels, groups, ["a", "b"], PERCENTS, seed=0)
    for part in subsets:
        assert not set(groups[part.rows]) & set(np.delete(groups, part.rows))
    alone, _ = nested(labels, np.arange(120), ["a", "b"], PERCENTS, seed=0)
    assert set(groups[alone[0].rows]) & set(np.delete(groups, alone[0].rows))  # the negative twin


def test_several_labels_are_stratified_by_the_rarest() -> None:
    labels = np.zeros((200, 3), np.uint8)
    labels[:, 0], labels[:40, 1], labels[:20, 2] = 1, 1, 1
    subsets, _ = nested(labels, np.arange(200), ["a", "b", "c"], PERCENTS, seed=0)
    assert [labels[part.rows].sum(axis=0).tolist() for part in subsets[:2]] == [[20, 4, 2], [40, 8, 4]]


def test_a_size_without_a_class_is_left_out_and_too_few_sizes_are_refused() -> None:
    labels = np.repeat([0, 1], [100, 3])
    subsets, [remark] = nested(labels, np.arange(103), ["a", "rare"], PERCENTS, seed=0)
    assert [part.percent for part in subsets] == PERCENTS[1:]
    assert remark == "10 % is left out: it would hold no image of the class rare"
    with pytest.raises(UserError, match=r"at least 3 sizes.*there are 2 sizes"):
        nested(labels, np.arange(103), ["a", "rare"], [10.0, 50.0, 100.0], seed=0)


@pytest.mark.parametrize(("a", "b", "c"), [(0.05, 0.1, 0.5), (0.0, 0.05, 0.3), (0.1, 0.02, 1.0)])
def test_a_planted_power_law_is_found(a: float, b: float, c: float) -> None:
    errors = a + b * (SIZES / 1000) ** -c
    laws = fit_power_laws(SIZES, errors[None], np.full(5, 1e-4))
    assert (laws.a[0], laws.b[0], laws.c[0]) == pytest.approx((a, b, c), abs=1e-9)
    assert laws.gain(2)[0] == pytest.approx(b * (1 - 2**-c), abs=1e-9)
    falling = fit_power_laws(SIZES, errors[None, ::-1], np.full(5, 1e-4))
    assert falling.gain(2)[0] == 0


def planted(errors: NDArray[np.float64], num_repeats: int = 1) -> Curve:
    """The curve of predictions that are wrong at random as often as ``errors`` says."""
    random = np.random.default_rng(0)
    targets = np.arange(2000) % 4
    hidden = random.random(2000)
    preds = [
        [
            np.where(hidden + random.normal(0, 0.01, 2000) < one, (targets + 1) % 4, targets)
            for one in errors
        ]
        for _ in range(num_repeats)
    ]
    one_hot = [[one[:, None] == np.arange(4) for one in some] for some in preds]
    names = ["a", "b", "c", "d"]
    curve = make_curve(PERCENTS, SIZES.tolist(), targets[:, None] == np.arange(4), one_hot, names)
    expected = np.mean([f1_score(targets, some[0], average="macro") for some in preds])
    assert curve.steps[0].f1_macro == pytest.approx(expected, abs=1e-12)
    return curve


@pytest.mark.slow
def test_labels_and_groups_of_validation_images_count() -> None:
    random = np.random.default_rng(0)
    targets = random.random((60, 3)) < 0.5
    preds = [targets ^ (random.random((60, 3)) < share) for share in (0.4, 0.3, 0.2, 0.1, 0.1)]
    names = ["a", "b", "c"]
    # equal repeats: only the images vary
    alone = make_curve(PERCENTS, SIZES.tolist(), targets, [preds] * 2, names)
    scores = [f1_score(targets, one, average="macro") for one in preds]
    assert [step.f1_macro for step in alone.steps] == pytest.approx(scores, abs=1e-12)
    copies = np.repeat(np.arange(60), 5)
    fivefold = (PERCENTS, SIZES.tolist(), targets[copies], [[one[copies] for one in preds]] * 2, names)
    grouped, naive = make_curve(*fivefold, copies), make_curve(*fivefold)
    widths = [one.twice.high - one.twice.low for one in (grouped, alone, naive)]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)
    assert widths[2] < 0.7 * widths[0]  # copies that are taken for independent images


def test_the_verdict_is_that_of_the_planted_errors() -> None:
    steep = planted(0.02 + 0.15 * (SIZES / 1000) ** -0.5)
    assert steep.verdict == "more"
    assert steep.gain.low <= 0.15 * (1 - 2**-0.5) <= steep.gain.high
    assert steep.sentence.startswith("Twice as many images would raise macro F1 from 0.8")
    flat = planted(np.full(5, 0.05))
    assert flat.verdict == "enough"
    assert flat.sentence.startswith("More images of the same kind would hardly help")
    slow = planted(0.05 + 0.03 * (SIZES / 1000) ** -0.4)
    assert slow.verdict == "unclear"
    assert slow.to_json()["twice"]["gain"] is None  # an interval, but no figure
    assert slow.to_json()["twice"]["gain_low"] < 0.03 * (1 - 2**-0.4)
    falling = planted(np.linspace(0.05, 0.12, 5))
    assert falling.verdict == "unclear"
    assert "say nothing of more images" in falling.sentence
    assert falling.to_json()["twice"] is None


@pytest.mark.parametrize("sizes", ["10,abc", "0,50", "10,200", "nan", ""])
def test_sizes_that_are_no_percentages_are_refused(sizes: str) -> None:
    result = CliRunner().invoke(main, ["learning-curve", "--sizes", sizes])
    assert (result.exit_code, sizes in result.stderr) == (2, True)
    assert "--sizes" in result.stderr

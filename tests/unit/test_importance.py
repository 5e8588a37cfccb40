"""Permutation importance of columns, against scikit-learn and by simulation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import permutation_importance
from support import make_spec

from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.evaluation.evaluate import evaluate
from darkroom.evaluation.importance import (
    NUM_REPEATS,
    Importance,
    column_importance,
    positions_of,
    write_importance,
)
from darkroom.inputs import Category, ColumnKind, Encoding, Number
from darkroom.models.factory import make_classifier

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NUM_ROWS = 300
WEIGHTS = np.array([[3.0, -2.0, 0.0], [1.0, 0.5, -1.0], [0.0, 0.0, 0.0], [0.0, 1.0, -1.0]])
"""Of three numbers and a category, for three classes: the first is the strongest, the third has none."""
NAMES = ("strong", "weak", "none", "kind")


def encoding_of() -> Encoding:
    numbers = tuple(Number(name=name, median=0.0, mean=0.0, std=1.0) for name in NAMES[:3])
    return Encoding(
        columns={**dict.fromkeys(NAMES[:3], "number"), "kind": "category"},
        numbers=numbers,
        categories=(Category(name="kind", values=("a", "b")),),
    )


def importance_of(folder: Path, seed: int = 0) -> tuple[list[Importance], Any, NDArray, NDArray]:
    """The importance of the columns for a linear model with WEIGHTS, and what it is computed from."""
    random = np.random.default_rng(0)
    values = np.column_stack([random.normal(size=(NUM_ROWS, 3)), random.integers(1, 3, NUM_ROWS)])
    spec = make_spec(
        name="mlp",
        width=8,
        depth=0,
        class_names=("a", "b", "c"),
        input_size=(1, 1),
        channels=4,
        mean=(),
        std=(),
        encoding=encoding_of(),
        training={"seed": seed},
    )
    model = make_classifier(spec).eval()
    [matrix] = [one for one in model.parameters() if one.ndim == 2]
    [bias] = [one for one in model.parameters() if one.ndim == 1]
    with torch.no_grad():
        bias.zero_()
        matrix.copy_(torch.from_numpy(np.vstack([WEIGHTS[:3], -WEIGHTS[3], WEIGHTS[3]]).T))

    def logits_of(rows: NDArray) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.from_numpy(rows))

    labels = (logits_of(values).numpy() + random.gumbel(size=(NUM_ROWS, 3))).argmax(axis=1)
    with ShardWriter(folder, (1, 1, 4), NUM_ROWS, input_="row") as writer:
        for index, (row, label) in enumerate(zip(values, labels.tolist(), strict=True)):
            writer.add(row, label, f"rows.csv:{index + 2}")
    shards = Shards(folder, num_classes=3)
    evaluation = evaluate(spec, torch.from_numpy(labels), logits_of(values), shards.paths)
    done: list[int] = []
    found = column_importance(evaluation, model, spec, shards, None, done.append)
    assert sum(done) == 4
    return found, logits_of, values, labels


class Fitted(ClassifierMixin, BaseEstimator):
    """A model as scikit-learn calls it."""

    def __init__(self, logits_of: Any = None) -> None:
        self.logits_of = logits_of
        self.classes_ = np.arange(3)

    def fit(self, rows: NDArray, labels: NDArray) -> "Fitted":
        return self

    def predict(self, rows: NDArray) -> NDArray:
        return self.logits_of(rows).numpy().argmax(axis=1)


def test_drops_are_those_of_scikit_learn_up_to_the_chance_of_permutations(tmp_path: Path) -> None:
    found, logits_of, values, labels = importance_of(tmp_path)
    reference = permutation_importance(
        Fitted(logits_of), values, labels, scoring="f1_macro", n_repeats=50, random_state=0
    )
    assert found[0].column == "strong"
    for one in found:
        position = NAMES.index(one.column)
        chance = reference.importances_std[position] * np.sqrt(1 / NUM_REPEATS + 1 / 50)
        assert abs(one.drop - reference.importances_mean[position]) <= 4 * chance + 1e-6
        assert one.spread == pytest.approx(reference.importances_std[position], rel=0.8, abs=1e-6)
        assert one.low <= one.drop <= one.high
    by_name = {one.column: one for one in found}
    assert by_name["strong"].low > 0
    assert by_name["none"] == Importance("none", 0.0, 0.0, 0.0, 0.0)


def test_the_draws_depend_on_the_seed_of_the_training_alone(tmp_path: Path) -> None:
    first, again, other = (
        importance_of(tmp_path / name, seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert first != other


def test_a_table_and_a_picture_are_written(tmp_path: Path) -> None:
    write_importance(
        [Importance("a,b", 0.5, 0.25, 0.75, 0.1), Importance("c", 0.0, 0.0, 0.0, 0.0)], tmp_path
    )
    lines = (tmp_path / "importance.csv").read_text().splitlines()
    assert lines == [
        "column,f1_macro_drop,low,high,spread",
        '"a,b",0.5,0.25,0.75,0.1',
        "c,0.0,0.0,0.0,0.0",
    ]
    assert (tmp_path / "importance.png").stat().st_size > 1000


def test_the_parts_of_a_date_are_permuted_together() -> None:
    parts = ("day", "joined.days", "joined.month")
    numbers = tuple(Number(name=name, median=0.0, mean=0.0, std=1.0) for name in parts)
    kinds: dict[str, ColumnKind] = {"day": "number", "joined": "date", "kind": "category"}
    categories = (Category(name="kind", values=("a",)),)
    encoding = Encoding(columns=kinds, numbers=numbers, categories=categories)
    assert positions_of(encoding) == {"day": [0], "joined": [1, 2], "kind": [3]}


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "num_rows", "group_size"), [(0.2, 60, 1), (1, 60, 1), (1, 180, 3)])
def test_the_interval_of_a_noise_column_holds_0_as_often_as_stated(
    weight: float, num_rows: int, group_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from importance_coverage import holds_zero

    covered = np.mean([holds_zero(seed, weight, num_rows, group_size) for seed in range(100)])
    assert covered >= 0.92  # 0.95 is stated, and the standard error of 100 is 0.02

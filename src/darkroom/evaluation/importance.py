"""Permutation importance: how much worse a model of rows becomes without what one column tells."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.dataset.shards import Shards
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.targets.interface import evaluation_target
from darkroom.inputs import Encoding
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.paired import pixel_units
from darkroom.metrics.resampling import CHUNK, CONFIDENCE, draw
from darkroom.models.classifier import Classifier, probabilities_of
from darkroom.models.spec import ModelSpec
from darkroom.reporting.figures import BLUE, GREY, name_ticks, new_figure, save_figure
from darkroom.reporting.tables import write_csv

IMPORTANCE = "importance"
"""Name of the table and the picture."""
NUM_REPEATS = 10
"""Permutations of each column. Their spread is then small beside that of the rows, on which the interval
rests; scikit-learn's default is 5."""
NUM_RESAMPLES = 1_000
MAX_ROWS = 10_000
"""Maximum number of test rows that are used; of more, evenly spaced ones."""
ROWS_AT_ONCE = 16_384
MAX_BARS = 30
"""Maximum number of columns in the picture: the most important ones."""

Indicators = NDArray[np.bool_]
"""``(n, num_classes)``"""


@dataclass(frozen=True)
class Importance:
    """By how much macro F1 drops if the values of a column are exchanged among the rows."""

    column: str
    drop: float
    """The mean over permutations; below 0 if the model does better without the column."""
    low: float
    """Of the 95 % interval over rows."""
    high: float
    spread: float
    """Standard deviation over permutations."""


def column_importance(
    evaluation: Evaluation,
    model: Classifier,
    spec: ModelSpec,
    shards: Shards,
    groups: NDArray[np.int64] | None,
    advance: Callable[[int], None],
) -> list[Importance]:
    """Return the importance of each column of a table, the most important first.

    The drop is that of scikit-learn's ``permutation_importance`` (Breiman, "Random Forests", 2001;
    Fisher, Rudin and Dominici, "All Models are Wrong, but Many are Useful", 2019). All parts of a date
    are permuted together. The draws depend on the seed of the training alone.

    Args:
        groups: the group of each row, ``(n,)``; None: each row is by itself.
        advance: called with the number of columns that are done since the last call.
    """
    assert spec.encoding is not None
    rows = np.linspace(0, len(shards) - 1, min(len(shards), MAX_ROWS)).round().astype(np.int64)
    values = torch.from_numpy(shards.gather(rows).reshape(len(rows), -1))
    target, device = evaluation_target(spec.target), next(model.parameters()).device

    def predict(inputs: Tensor) -> Indicators:
        with torch.inference_mode():
            logits = [model(part.to(device)).cpu() for part in inputs.split(ROWS_AT_ONCE)]
        probabilities = probabilities_of(torch.cat(logits).double(), spec)
        preds = target.preds(probabilities, evaluation.own_thresholds)
        return evaluation.indicators(preds).numpy()

    random = np.random.Generator(np.random.Philox(int(spec.training["seed"])))
    truth = evaluation.indicators(evaluation.targets[torch.from_numpy(rows)]).numpy()
    columns = positions_of(spec.encoding)

    def permuted() -> Iterator[list[Indicators]]:
        for places in columns.values():
            yield [predict(_exchanged(values, places, random)) for _ in range(NUM_REPEATS)]
            advance(1)

    grouped = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    found = drops(truth, predict(values), permuted(), grouped)
    ranked = [Importance(name, *numbers) for name, numbers in zip(columns, found, strict=True)]
    return sorted(ranked, key=lambda one: -one.drop)


def positions_of(encoding: Encoding) -> dict[str, list[int]]:
    """Return the positions of each column's values in an encoded row; a date has several."""
    names = encoding.names
    return {
        column: [
            place
            for place, name in enumerate(names)
            if name == column or (kind == "date" and name.rpartition(".")[0] == column)
        ]
        for column, kind in encoding.columns.items()
    }


def _exchanged(values: Tensor, places: Sequence[int], random: np.random.Generator) -> Tensor:
    """Return rows with the values at some places taken from other rows."""
    order = torch.from_numpy(random.permutation(len(values)))
    exchanged = values.clone()
    exchanged[:, list(places)] = values[order][:, list(places)]
    return exchanged


def drops(
    truth: Indicators,
    preds: Indicators,
    permuted: Iterator[list[Indicators]],
    groups: NDArray[np.int64] | None = None,
) -> Iterator[tuple[float, float, float, float]]:
    """Yield drop, bounds of its interval and spread over permutations of each column.

    The interval is the wider of two, because a bootstrap is too narrow where hardly any prediction
    changes. The percentile interval of the paired bootstrap (Efron and Tibshirani, "An Introduction to
    the Bootstrap", 1993) says what other test rows could give: rows, or whole groups, are drawn with
    their predictions. The prediction interval over the permutations says what chance gives: a column
    without influence is as good as a permuted one, so that its score is one more of the same kind.

    Args:
        truth, preds: true and predicted classes of each row.
        permuted: the predictions after each permutation, for each column.
    """
    from scipy.stats import t

    right = _scores(truth, [truth & preds, preds])
    units = pixel_units([part.astype(np.int64) for part in (truth, truth & preds, preds)], groups)
    random = np.random.Generator(np.random.Philox(0))
    drawn = [draw(units, min(CHUNK, NUM_RESAMPLES - n), random) for n in range(0, NUM_RESAMPLES, CHUNK)]
    weights = np.concatenate(drawn).astype(np.float32)
    support, *hits_and_preds = np.split(weights @ units.rows, 3, axis=1)
    resampled = _f1(support, *hits_and_preds)
    tails = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    quantile = t.ppf((1 + CONFIDENCE) / 2, NUM_REPEATS - 1) * np.sqrt(1 + 1 / NUM_REPEATS)
    for repeats in permuted:
        scores = np.array([_scores(truth, [truth & one, one]) for one in repeats])
        hits = np.mean([truth & one for one in repeats], axis=0)
        columns = np.concatenate([hits, np.mean(repeats, axis=0)], axis=1)
        sums = _by_unit(columns, groups)
        after = _f1(support, *np.split(weights @ sums.astype(np.float32), 2, axis=1))
        observed = right - _scores(truth, np.split(columns, 2, axis=1))
        drop = float(right - scores.mean())
        low, high = np.percentile(resampled - after, tails) - observed + drop
        chance = quantile * scores.std(ddof=1)
        numbers = drop, min(low, drop - chance), max(high, drop + chance), scores.std()
        first, *others = (round(float(number), DIGITS) + 0.0 for number in numbers)  # no -0.0
        yield first, others[0], others[1], others[2]


def _by_unit(columns: NDArray[np.float64], groups: NDArray[np.int64] | None) -> NDArray[np.float64]:
    if groups is None:
        return columns
    sums = np.zeros((int(groups.max()) + 1, columns.shape[1]))
    np.add.at(sums, groups, columns)
    return sums


def _scores(truth: Indicators, hits_and_preds: Sequence[NDArray]) -> float:
    sums = [part.sum(axis=0, dtype=np.float64)[None] for part in (truth, *hits_and_preds)]
    return float(_f1(*sums)[0])


def _f1(support: NDArray, hits: NDArray, predicted: NDArray) -> NDArray[np.float64]:
    """Return macro F1 over the classes with rows, from sums ``(m, num_classes)``: ``(m,)``."""
    f1 = np.where(support > 0, 2 * hits / np.maximum(support + predicted, 1), 0)
    means: NDArray[np.float64] = f1.sum(axis=1) / np.maximum((support > 0).sum(axis=1), 1)
    return means


def write_importance(found: Sequence[Importance], folder: Path) -> None:
    """Write the drops as a table, and as a bar chart of the first columns."""
    rows = ((one.column, one.drop, one.low, one.high, one.spread) for one in found)
    write_csv(("column", "f1_macro_drop", "low", "high", "spread"), rows, folder / f"{IMPORTANCE}.csv")
    shown = found[:MAX_BARS]
    figure, axes = new_figure(7, 1.2 + 0.26 * len(shown))
    places, drops_of = np.arange(len(shown)), np.array([one.drop for one in shown])
    ends = np.array([[one.drop - one.low, one.high - one.drop] for one in shown]).T
    axes.barh(places, drops_of, color=BLUE, alpha=0.75, xerr=np.maximum(ends, 0), ecolor=GREY, capsize=2)
    axes.axvline(0, color="black", linewidth=0.8)
    name_ticks(axes, "y", [one.column for one in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("drop of macro F1 if the column is permuted, with 95 % interval")
    save_figure(figure, folder / f"{IMPORTANCE}.png")

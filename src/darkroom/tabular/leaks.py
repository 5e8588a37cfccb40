"""Leaks in a table: digests by which equal rows are found, and columns that give the label away."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.inputs import Encoding
from darkroom.tabular.encoding import UNKNOWN

TELLING = 0.995
"""Minimum balanced accuracy at which a single column is reported as a leak of the label."""
MAX_ROWS = 20_000
_FOLDS = 5
SCREENED_ROWS = 2_000
"""Rows on which a column is first tried without cross-validation, which takes a fraction of the time."""
SCREENED = 0.98
"""Balanced accuracy on the very rows of the fit, below which a column is passed over: one that reaches
``TELLING`` on other rows reaches more on these."""
MIN_PER_CLASS = 2 * _FOLDS
"""With fewer rows in a class, chance alone can make a column look telling."""


def row_digests(numbers: NDArray[np.float64], codes: NDArray[np.int64]) -> list[bytes]:
    """Return the SHA-256 of each row. Rows with the same values have the same digest.

    Args:
        numbers, codes: as ``encode`` returns them, of an encoding that was fitted to all rows; one
            that was fitted to a split would give all categories that the split lacks the same code.
    """
    if (codes == UNKNOWN).any():
        raise ValueError("the encoding was not fitted to all rows")
    same_zero = numbers + 0.0  # -0.0 becomes 0.0
    same_nan = np.where(np.isnan(same_zero), np.nan, same_zero)
    rows = zip(np.ascontiguousarray(same_nan), np.ascontiguousarray(codes), strict=True)
    return [hashlib.sha256(a.tobytes() + b.tobytes()).digest() for a, b in rows]


def telling_columns(
    encoding: Encoding, numbers: NDArray[np.float64], codes: NDArray[np.int64], labels: NDArray[np.int64]
) -> dict[str, float]:
    """Return the columns of which one alone predicts the label, and how well it does.

    For each number a decision tree is fitted, and for each category its most frequent class taken, with
    cross-validation of five folds on up to ``MAX_ROWS`` evenly spaced rows. A column that predicts
    almost every row is usually a consequence of the label, such as the date of a treatment, and is
    not known when the model is used.

    Args:
        numbers, codes: of the train split, as ``encode`` returns them.
        labels: int64 ``(num_rows,)``; classes with fewer than ``MIN_PER_CLASS`` of the rows
            are not considered.

    Returns:
        By name, the mean over classes of the fraction that is predicted correctly, ``TELLING`` to 1.
    """
    # imported here because scikit-learn takes a second
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.naive_bayes import CategoricalNB
    from sklearn.tree import DecisionTreeClassifier

    chosen = np.linspace(0, len(labels) - 1, min(len(labels), MAX_ROWS)).round().astype(np.int64)
    classes, counts = np.unique(labels[chosen], return_counts=True)
    chosen = chosen[np.isin(labels[chosen], classes[counts >= MIN_PER_CLASS])]
    actual = labels[chosen]
    if len(np.unique(actual)) < 2:
        return {}
    medians = np.array([number.median for number in encoding.numbers])
    filled = np.where(np.isnan(numbers), medians, numbers)[chosen]
    tree = DecisionTreeClassifier(min_samples_leaf=2, random_state=0)
    candidates: dict[str, tuple[Any, NDArray[Any]]] = {}
    for position, number in enumerate(encoding.numbers):
        candidates[number.name] = tree, filled[:, position, None]
    for position, category in enumerate(encoding.categories):
        inputs = codes[chosen, position, None]
        # without smoothing, its decision is the most frequent class of each category
        majority = CategoricalNB(alpha=1e-9, min_categories=len(category.values) + 1)
        candidates[category.name] = majority, inputs
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    found = {}
    few = np.linspace(0, len(actual) - 1, min(len(actual), SCREENED_ROWS)).round().astype(np.int64)
    for name, (classifier, inputs) in candidates.items():
        fitted = classifier.fit(inputs[few], actual[few])
        if _mean_recall(actual[few], fitted.predict(inputs[few])) < SCREENED:
            continue
        predicted = cross_val_predict(classifier, inputs, actual, cv=folds)
        if (score := _mean_recall(actual, predicted)) >= TELLING:
            found[name] = score
    return found


def _mean_recall(actual: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    recalls = [np.mean(predicted[actual == label] == label) for label in np.unique(actual)]
    return float(np.mean(recalls))

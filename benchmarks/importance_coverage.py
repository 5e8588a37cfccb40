"""Measures how often the interval of permutation importance holds 0, for a column without influence.

    python benchmarks/importance_coverage.py [--sets 500]

Three classes depend on two columns; the third one is noise, to which the model gives a weight all the
same. Test rows are drawn anew for each set. 0.95 is stated. Adds a line per case to
benchmarks/results/importance-coverage.jsonl.
"""

import argparse

import numpy as np
from machine import keep
from numpy.typing import NDArray

from darkroom.evaluation.importance import NUM_REPEATS, drops

WEIGHTS = np.array([[3.0, -2.0, 0.0], [1.0, 0.5, -1.0], [1.0, -1.0, 0.5]])
"""Of the two columns on which the classes depend, and of the noise."""
CASES = [
    (weight, num_rows, group_size)
    for weight in (0.2, 1.0)
    for num_rows, group_size in ((40, 1), (60, 1), (120, 1), (180, 3))
]


def holds_zero(seed: int, weight: float, num_rows: int, group_size: int = 1) -> bool:
    """Returns whether the interval of the noise holds 0, for new rows of a model that gives it a weight.

    Rows of a group are copies.
    """
    random = np.random.default_rng(seed)
    values = np.repeat(random.normal(size=(num_rows // group_size, 3)), group_size, axis=0)
    noise = np.repeat(random.gumbel(size=(num_rows // group_size, 3)), group_size, axis=0)
    labels = (2 * values[:, :2] @ WEIGHTS[:2] + noise).argmax(axis=1)

    def predict(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
        logits = rows[:, :2] @ WEIGHTS[:2] + weight * rows[:, 2:] @ WEIGHTS[2:]
        return np.eye(3, dtype=bool)[logits.argmax(axis=1)]

    permuted = []
    for _ in range(NUM_REPEATS):
        other = values.copy()
        other[:, 2] = random.permutation(values[:, 2])
        permuted.append(predict(other))
    groups = np.arange(num_rows) // group_size if group_size > 1 else None
    truth = np.eye(3, dtype=bool)[labels]
    [(_, low, high, _)] = drops(truth, predict(values), iter([permuted]), groups)
    return low <= 0 <= high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500)
    num_sets = parser.parse_args().sets
    for weight, num_rows, group_size in CASES:
        held = [holds_zero(seed, weight, num_rows, group_size) for seed in range(num_sets)]
        case = {"weight": weight, "num_rows": num_rows, "group_size": group_size, "sets": num_sets}
        keep("importance-coverage", {**case, "holds_zero": round(float(np.mean(held)), 4)})


if __name__ == "__main__":
    main()

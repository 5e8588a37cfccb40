"""How often `darkroom drift` reports drift: without a change, and with changes of several sizes.

    python benchmarks/drift.py [PREDICTIONS]

PREDICTIONS are those of the digits, reports/evaluate/predictions.parquet, unless they are named. Both
samples are drawn from them with replacement: a reference of as many images, and new ones, of which some
are drawn from other images.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from machine import keep
from numpy.typing import NDArray

from darkroom.comparison.drift import Sample, find_drift

NUM_NEW = (300, 1_000)
NUM_SAMPLES = 200


def main() -> None:
    table = pq.read_table(sys.argv[1] if len(sys.argv) > 1 else "reports/evaluate/predictions.parquet")
    preds = np.array(table["pred"].to_pylist())
    confidence, unfamiliarity = (table[name].to_numpy() for name in ("probability", "unfamiliarity"))
    everything = np.ones(len(preds), bool)
    first = preds == sorted({*preds.tolist()})[0]
    unsure = confidence <= np.quantile(confidence, 0.25)
    strange = unfamiliarity >= np.quantile(unfamiliarity, 0.75)
    changes = {
        "none": (everything, 0.0),
        "10 % more of one class of ten": (first, 0.1),
        "20 % more of one class of ten": (first, 0.2),
        "20 % more of the least confident quarter": (unsure, 0.2),
        "20 % more of the most unfamiliar quarter": (strange, 0.2),
    }
    random = np.random.default_rng(0)

    def sample(chosen: NDArray[np.int64]) -> Sample:
        counts = Counter(preds[chosen].tolist())
        numbers = {"confidence": confidence[chosen], "unfamiliarity": unfamiliarity[chosen]}
        return Sample(counts, counts, numbers)

    for name, (others, share) in changes.items():
        for num_new in NUM_NEW:
            alarms: Counter[str] = Counter()
            for _ in range(NUM_SAMPLES):
                new = random.integers(0, len(preds), num_new)
                exchanged = random.random(num_new) < share
                new[exchanged] = random.choice(np.flatnonzero(others), exchanged.sum())
                reference = random.integers(0, len(preds), len(preds))
                changed = find_drift(sample(reference), sample(new)).changed
                alarms.update(["any"] * bool(changed) + [change.name for change in changed])
            keep(
                "drift",
                {
                    "predictions": Path(sys.argv[1]).name if len(sys.argv) > 1 else "digits",
                    "change": name,
                    "num_reference": len(preds),
                    "num_new": num_new,
                    "num_samples": NUM_SAMPLES,
                    **{
                        each: alarms[each] / NUM_SAMPLES
                        for each in ("any", "classes", "confidence", "unfamiliarity")
                    },
                },
            )


if __name__ == "__main__":
    main()

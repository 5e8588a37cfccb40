"""How often `darkroom drift` reports drift: without a change, and with changes of several sizes.

    python benchmarks/drift.py [PREDICTIONS] [--binned]

PREDICTIONS are those of the digits, reports/evaluate/predictions.parquet, unless they are named. Both
samples are drawn from them with replacement: a reference of as many images, and new ones, of which some
are drawn from other images. With --binned, confidence and unfamiliarity are put into the bins of the
hourly log of `darkroom serve` first.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from machine import keep
from numpy.typing import NDArray

from darkroom.comparison.drift import Sample, find_drift
from darkroom.comparison.drift_log import binned

NUM_NEW = (300, 1_000)
NUM_SAMPLES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("predictions", nargs="?", type=Path)
    parser.add_argument("--binned", action="store_true")
    options = parser.parse_args()
    table = pq.read_table(options.predictions or "reports/evaluate/predictions.parquet")
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
        found = Sample(counts, counts, numbers)
        return binned(found) if options.binned else found

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
                    "predictions": options.predictions.name if options.predictions else "digits",
                    **({"numbers": "binned"} if options.binned else {}),
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

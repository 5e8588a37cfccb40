"""Times the stages of the pipeline as params.yaml has it, and what an epoch's logging costs.

Prints one JSON line and adds it to benchmarks/results/pipeline.jsonl. Run it with `make bench`, after
`make repro`, on a machine that does nothing else.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import hardware, keep

from darkroom.tracking.mlflow_run import mlflow_run
from darkroom.tracking.store import open_store

STAGES = ("prepare", "train", "evaluate", "export")
NUM_LOGGED_EPOCHS = 1_000


def stage_seconds() -> dict[str, float]:
    """Runs each stage once, as DVC would, and returns wall seconds, start of Python included."""
    seconds = {}
    for stage in STAGES:
        began = time.perf_counter()
        subprocess.run([sys.executable, f"stages/{stage}.py"], check=True, stdout=subprocess.DEVNULL)
        seconds[stage] = round(time.perf_counter() - began, 2)
    return seconds


def logging_cost() -> dict[str, float]:
    """Compares the time of one epoch's logging, in the training's own thread, with the epoch's.

    The epoch is the median one of the last training, as the stage itself measured it; its metrics are
    logged a thousand times into a fresh database.
    """
    store = open_store()
    [run] = store.client.search_runs(
        [store.experiment.experiment_id], "tags.stage = 'train'", max_results=1
    )
    epochs = store.client.get_metric_history(run.info.run_id, "train/epoch_seconds")
    epoch_seconds = sorted(point.value for point in epochs)[len(epochs) // 2]
    metrics = {name: 0.5 for name in run.data.metrics if not name.startswith("test/")}
    with TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        with mlflow_run("benchmark") as tracked:
            began = time.perf_counter()
            for epoch in range(NUM_LOGGED_EPOCHS):
                tracked.log_metrics(metrics, step=epoch)
            logging_seconds = (time.perf_counter() - began) / NUM_LOGGED_EPOCHS
    return {
        "logging_share_of_epoch": round(logging_seconds / epoch_seconds, 6),
        "logging_seconds_per_epoch": round(logging_seconds, 7),
        "epoch_seconds": round(epoch_seconds, 4),
    }


def main() -> None:
    seconds = stage_seconds()
    result = {
        **logging_cost(),
        "stage_seconds": seconds,
        "data": json.loads(Path("data/prepared/dataset.json").read_text())["digest"],
        "environment": json.loads(Path("environment.json").read_text()),
        **hardware(),
    }
    keep("pipeline", result)


if __name__ == "__main__":
    main()

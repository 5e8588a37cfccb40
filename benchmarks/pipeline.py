"""Times the stages of the pipeline as params.yaml has it, and what an epoch's logging costs.

Prints one JSON line and adds it to benchmarks/results/pipeline.jsonl. Run it with `make bench`, on a
machine that does nothing else.
"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

RESULTS = Path("benchmarks/results/pipeline.jsonl")
STAGES = ("prepare", "train", "evaluate", "export")


def stage_seconds() -> dict[str, float]:
    """Runs each stage once, as DVC would, and returns wall seconds, start of Python included."""
    seconds = {}
    for stage in STAGES:
        began = time.perf_counter()
        subprocess.run([sys.executable, f"stages/{stage}.py"], check=True, stdout=subprocess.DEVNULL)
        seconds[stage] = round(time.perf_counter() - began, 2)
    return seconds


def logging_share() -> dict[str, float]:
    """Returns the time that one epoch's logging takes in the training's own thread, and an epoch.

    The metrics are those of `train`, logged into a fresh database; the epoch's time is what the
    stage itself measured last.
    """
    from mlflow import MlflowClient

    from darkroom.tracking.mlflow_run import mlflow_run
    from darkroom.tracking.store import open_store

    store = open_store()
    [run] = store.client.search_runs(
        [store.experiment.experiment_id], "tags.stage = 'train'", max_results=1
    )
    epochs = store.client.get_metric_history(run.info.run_id, "train/epoch_seconds")
    epoch_seconds = sorted(point.value for point in epochs)[len(epochs) // 2]
    metrics = {name: 0.5 for name in run.data.metrics if not name.startswith("test/")}
    num_epochs = 1_000
    with TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db")
        import os

        os.environ["DVC_ROOT"] = folder
        with mlflow_run("benchmark") as tracked:
            began = time.perf_counter()
            for epoch in range(num_epochs):
                tracked.log_metrics(metrics, step=epoch)
            logging_seconds = (time.perf_counter() - began) / num_epochs
    return {
        "logging_share_of_epoch": round(logging_seconds / epoch_seconds, 6),
        "logging_seconds_per_epoch": round(logging_seconds, 7),
        "epoch_seconds": round(epoch_seconds, 4),
    }


def main() -> None:
    seconds = stage_seconds()
    result = {
        **logging_share(),
        "stage_seconds": seconds,
        "data": json.loads(Path("data/prepared/dataset.json").read_text())["digest"],
        "environment": json.loads(Path("environment.json").read_text()),
        "cpu": cpu_name(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    line = json.dumps(result, sort_keys=False)
    print(line)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def cpu_name() -> str:
    """Returns the processor's name and the number of cores."""
    import os
    import platform

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(": ")[2] if lines else name
    return f"{name}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()

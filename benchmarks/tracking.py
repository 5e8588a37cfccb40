"""What tracking costs: the train stage with it over the train stage without, interleaved.

Three ways: logged into mlflow.db, logged to a server that is down, not logged. Prints a JSON line a way
and adds it to benchmarks/results/tracking.jsonl:

- steps_ratio: steps/s of the training loop over those without tracking, the median of the repeats;
- start_seconds: what the stage needs more until its first step;
- end_seconds: what it needs more after its last step, which is waiting for MLflow.

Each training follows a preparation, as in `dvc repro`, whose sender is at work already. With --cold it
does not: then the sender imports MLflow beside the training.

Run it after `make repro`, on a machine that does nothing else.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import hardware_of_training, keep

from darkroom.tracking.mlflow.sender import LINGER_SECONDS

NEEDED = (
    "data/fetched",
    "data/prepared",
    "models/weights",
    "src",
    "stages",
    "dvc.yaml",
    "params.yaml",
    ".dvc/config",
)

WAYS = {
    "off": {"DARKROOM_TRACKING": "off"},
    "mlflow.db": {},
    "server down": {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
}

PROGRAM = """
import json, runpy, sys, time
from contextlib import contextmanager
began = float(sys.argv.pop())
import darkroom.progress as progress
seen = {}
bar = progress.progress_bar
@contextmanager
def watched(title, *arguments, **options):
    with bar(title, *arguments, **options) as shown:
        count = shown.count
        def counted(batches):
            for batch in count(batches):
                seen.setdefault("first", time.time())
                seen["steps"] = seen.get("steps", 0) + 1
                yield batch
        shown.count = counted
        yield shown
    seen["last"] = time.time()
progress.progress_bar = watched
sys.argv = ["stages/train.py"]
runpy.run_path("stages/train.py", run_name="__main__")
ended = time.time()
print(json.dumps({
    "start": seen["first"] - began,
    "steps_per_second": seen["steps"] / (seen["last"] - seen["first"]),
    "end": ended - seen["last"],
}))
"""


def train(project: Path, environ: dict[str, str], is_cold: bool) -> dict[str, float]:
    """Runs the train stage once; returns seconds from its start to the first step, steps/s, and
    seconds from the last step to the stage's end."""
    shutil.rmtree(project / ".darkroom" / "train", ignore_errors=True)
    given = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    env = {**given, **environ, "PYTHONPATH": str(project / "src")}
    if is_cold:
        time.sleep(LINGER_SECONDS + 2)
    else:
        command = [sys.executable, "stages/prepare.py"]
        subprocess.run(command, cwd=project, env=env, check=True, capture_output=True)
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{time.time()}"],
        cwd=project,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def measure(project: Path, repeats: int, is_cold: bool) -> dict[str, list[dict[str, float]]]:
    """Returns the figures of all repeats of each way, taken in turns."""
    figures: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    train(project, WAYS["mlflow.db"], is_cold)  # makes the database, and has the disk's cache warm
    for i in range(repeats):
        turn = list(WAYS) if i % 2 == 0 else list(reversed(WAYS))
        for way in turn:
            figures[way].append(train(project, WAYS[way], is_cold))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="What tracking costs the train stage.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="no sender is at work yet")
    arguments = parser.parse_args()
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a sender may still end
        project = Path(folder)
        for name in NEEDED:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if Path(name).is_dir() else shutil.copy
            copy(name, project / name)
        figures = measure(project, arguments.repeats, arguments.cold)
    without = figures["off"]
    for way in ("mlflow.db", "server down"):
        pairs = list(zip(figures[way], without, strict=True))
        ratios = sorted(one["steps_per_second"] / off["steps_per_second"] for one, off in pairs)
        keep(
            "tracking",
            {
                "way": way,
                "sender": "cold" if arguments.cold else "at work",
                "steps_ratio": round(statistics.median(ratios), 4),
                "spread": [round(ratios[0], 4), round(ratios[-1], 4)],
                "start_seconds": _difference(figures[way], without, "start"),
                "end_seconds": _difference(figures[way], without, "end"),
                "start_seconds_without": round(statistics.median(one["start"] for one in without), 2),
                "steps_per_second": round(
                    statistics.median(one["steps_per_second"] for one in without), 1
                ),
                "repeats": arguments.repeats,
                **hardware_of_training("cpu"),
            },
        )


def _difference(one: list[dict[str, float]], other: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(a[name] - b[name] for a, b in zip(one, other, strict=True)), 3)


if __name__ == "__main__":
    main()

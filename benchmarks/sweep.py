"""Compares a sweep of 40 trials on the digits with as many separate `dvc repro`s.

    python benchmarks/sweep.py [--trials 40] [--min-epochs 10] [--repros 3]

Both work in a copy of the project, with tracking on. The sweep is timed as a whole. Of the `dvc repro`s
(train, evaluate and export with the values of a trial), only some are run, and the time of all is their
mean times the number of trials. CPU time is that of all processes that were waited for; beside other
work on the machine, it says more than the seconds on the clock.

Adds a summary to benchmarks/results/sweep.jsonl.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import hardware_of_training, keep
from project_copies import change_params, project_copy

SPACE = """\
space:
  train.lr: {low: 0.005, high: 0.5, log: true}
  train.weight_decay: {low: 0.00001, high: 0.01, log: true}
  train.label_smoothing: {low: 0, high: 0.2, step: 0.05}
  model.dropout: {low: 0, high: 0.5, step: 0.1}
  augment.rotate: {low: 0, high: 20, step: 4}
  augment.scale: {low: 0, high: 0.3, step: 0.05}
"""


def timed(folder: Path, *command: str) -> dict[str, float]:
    """Runs a command, and returns its seconds and those of the CPU."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environ = {**os.environ, "PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(cpu, 1)}


def measure(num_trials: int, min_epochs: int, num_repros: int) -> dict[str, Any]:
    """Runs the sweep and some pipelines."""
    with project_copy("data/fetched", "src") as folder:
        timed(folder, "git", "init", "--quiet")
        timed(folder, "dvc", "init", "--quiet")
        timed(folder, "dvc", "repro", "prepare")
        head = f"trials: {num_trials}\npruning: {{min_epochs: {min_epochs}, factor: 3}}\n"
        (folder / "sweep.yaml").write_text(head + SPACE)
        of_sweep = timed(folder, "darkroom", "sweep")
        found = json.loads((folder / "sweeps/sweep/sweep.json").read_text())
        trials = found["trials"]
        of_repros = []
        for index in range(1, num_trials, max(1, (num_trials - 1) // num_repros))[:num_repros]:
            change_params(folder / "params.yaml", trials[index]["params"])
            of_repros.append(timed(folder, "dvc", "repro"))
        print(json.dumps({"sweep": of_sweep, "repros": of_repros}), flush=True)
        every = {
            name: round(num_trials * statistics.mean(one[name] for one in of_repros), 1)
            for name in of_sweep
        }
        return {
            "trials": num_trials,
            "rungs": found["rungs"],
            "best_f1_macro": trials[found["best"]]["f1_macro"],
            "default_f1_macro": trials[0]["f1_macro"],
            "default_state": trials[0]["state"],
            "sweep": of_sweep,
            "repros_measured": of_repros,
            "repros_extrapolated": every,
            "ratio": round(every["seconds"] / of_sweep["seconds"], 2),
            "cpu_ratio": round(every["cpu_seconds"] / of_sweep["cpu_seconds"], 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--min-epochs", type=int, default=10)
    parser.add_argument("--repros", type=int, default=3, help="number of `dvc repro`s that are run")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    args = parser.parse_args()
    summary = measure(args.trials, args.min_epochs, args.repros)
    keep("sweep", {**summary, **hardware_of_training("cpu")}, args.dry)


if __name__ == "__main__":
    main()

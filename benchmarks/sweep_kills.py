"""Kills sweeps at random moments, and compares them with sweeps that nobody disturbed.

    python benchmarks/sweep_kills.py [--kills 25] [--seed 0]

Each sweep of a small network on the digits is run twice: once undisturbed, and once killed (SIGKILL) at
moments that are drawn uniformly from a third of the time that the undisturbed one took, and started
again until it ends. Kinds of sweeps take turns: random, TPE, TPE with successive halving, a grid, two
seeds per trial. Further sweeps are begun until the number of kills is reached. Both must end with the
same sweep.json (all trials, values, scores and the best one) and the same bytes of the model; in MLflow,
each trial of a killed sweep must be one finished run.

A process that has loaded all libraries forks for each attempt, so that the kills hit the work of the
sweep and not the loading. Needs a platform with fork.

Adds a line to benchmarks/results/sweep-kills.jsonl.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from machine import hardware, keep
from project_copies import change_params, project_copy, run_stage

SMALL = {"model.name": "mlp", "model.width": 4, "train.epochs": 3}
MAX_KILLS = 8
"""Per sweep."""

RATE = "  train.lr: {low: 0.005, high: 0.5, log: true}\n"
KINDS = {
    "random": f"sampler: random\ntrials: 6\nspace:\n{RATE}",
    "tpe": f"sampler: tpe\ntrials: 6\nspace:\n{RATE}  train.optimizer: [sgd, adamw]\n"
    "  train.momentum: {when: {train.optimizer: sgd}, low: 0.5, high: 0.95, otherwise: null}\n"
    "  train.nesterov: {when: {train.optimizer: sgd}, choices: [true], otherwise: null}\n",
    "halving": f"sampler: tpe\ntrials: 9\npruning: {{min_epochs: 1, factor: 3}}\nspace:\n{RATE}",
    "grid": "sampler: grid\nspace:\n  train.lr: [0.01, 0.05, 0.1]\n  train.label_smoothing: [0, 0.1]\n",
    "seeds": f"sampler: random\ntrials: 3\nseeds: 2\nspace:\n{RATE}",
}
TRIALS = """SELECT trial.value, runs.status FROM runs
JOIN tags trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'trial'
JOIN tags sweep ON sweep.run_uuid = runs.run_uuid AND sweep.key = 'sweep'
WHERE sweep.value = ? AND runs.lifecycle_stage = 'active'"""
ALL_RUNS = "SELECT count(*) FROM runs WHERE name LIKE 'sweep %'"


def start(folder: Path, file: str, tracking: str) -> int:
    """Forks a process that runs `darkroom sweep FILE` in ``folder``; returns its id."""
    from darkroom.cli import main

    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["DARKROOM_TRACKING"] = tracking
        with open(f"{file}.log", "ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        main(["sweep", file], standalone_mode=True)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(1)


def ended_alone(process: int, seconds: float | None = None) -> bool:
    """Waits until a process ends, and kills it after ``seconds``; returns whether it was not killed."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            if os.waitstatus_to_exitcode(status) != 0:
                sys.exit(f"a sweep failed: {os.waitstatus_to_exitcode(status)}")
            return True
        if until is not None and time.monotonic() >= until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return False
        time.sleep(0.002)


def sends_all(folder: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path("src").resolve())}
    code = "from darkroom.cli import main; main(['sync'])"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environ, stdout=sys.stderr, check=False)


def measure(num_kills: int, seed: int, whole: Path, killed: Path) -> dict[str, object]:
    draw = random.Random(seed)
    figures: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    names: list[str] = []
    while figures["kills"] < num_kills:
        kind = [*KINDS][(seed + len(names)) % len(KINDS)]
        name = f"{kind}{len(names)}"
        names.append(name)
        text = f"seed: {1000 * seed + len(names)}\n{KINDS[kind]}"
        for folder in (whole, killed):
            (folder / f"{name}.yaml").write_text(text)
        began = time.monotonic()
        ended_alone(start(whole, f"{name}.yaml", "off"))
        seconds = time.monotonic() - began
        for _ in range(min(MAX_KILLS, num_kills - figures["kills"])):
            if ended_alone(start(killed, f"{name}.yaml", "on"), draw.uniform(0, seconds / 3)):
                break
            figures["kills"] += 1
            kinds[kind] += 1
        else:
            ended_alone(start(killed, f"{name}.yaml", "on"))
        results = [(folder / f"sweeps/{name}/sweep.json").read_text() for folder in (whole, killed)]
        models = [(f / f"sweeps/{name}/model.safetensors").read_bytes() for f in (whole, killed)]
        figures["sweeps"] += 1
        figures["trials"] += len(json.loads(results[0])["trials"])
        figures["same_trials_and_best"] += results[0] == results[1]
        figures["same_model"] += models[0] == models[1]
        print(name, f"{seconds:.1f} s", dict(figures), file=sys.stderr, flush=True)
    sends_all(killed)
    with closing(sqlite3.connect(killed / "mlflow.db")) as database:
        for name in names:
            wanted = json.loads((killed / f"sweeps/{name}/sweep.json").read_text())["trials"]
            found = Counter(database.execute(TRIALS, [name]))
            complete = {(f"{one['trial']}", "FINISHED"): 1 for one in wanted}
            figures["complete_in_mlflow"] += found == complete
            if found != complete:
                print(name, found, file=sys.stderr)
        [(num_runs,)] = database.execute(ALL_RUNS)
    return {
        "seed": seed,
        **figures,
        "kills_by_kind": dict(kinds),
        "runs_beside_trials_and_sweeps": num_runs - figures["trials"] - figures["sweeps"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the sweeps")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    args = parser.parse_args()
    from darkroom.compute.determinism import configure_libraries

    configure_libraries()
    import matplotlib.pyplot  # noqa: F401
    import optuna  # noqa: F401

    import darkroom.sweep.page
    import darkroom.sweep.run  # noqa: F401

    with project_copy() as whole, project_copy() as killed:
        for folder in (whole, killed):
            change_params(folder / "params.yaml", SMALL)
            run_stage("fetch", folder)
            run_stage("prepare", folder)
        figures = measure(args.kills, args.seed, whole, killed)
    keep("sweep-kills", {**figures, **hardware()}, args.dry)


if __name__ == "__main__":
    main()

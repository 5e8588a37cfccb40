"""Measures trainings on features of a frozen backbone: cold, from the cache, and whether bytes repeat.

    python benchmarks/frozen_features.py --weights mobilenet_v2.pth --data hymenoptera.tar
        [--recipe probe] [--seeds 0 1 2] [--set train.weight_decay=0.1 ...]

For each seed, in processes of their own: a training with an empty cache; one that changes only train.lr;
that one with each step divided among all threads; and an epoch on images, for comparison. Seconds are
those of the training alone: the features, the choice of the weight decay and all epochs, without the
start of the process. With the first seed, two trainings from the cache also run at once, with and
without divided steps; and the first training is repeated from the cache, after a kill within the
features, with several numbers of workers, and in another folder with encoded images; all must write the
same model.

Prints a line per seed, one on two trainings at once and one on the bytes, and adds them to
benchmarks/results/frozen-features.jsonl.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from machine import hardware_of_training, keep
from project_copies import change_params, parse_changes, project_copy, run_stage

from darkroom.recipes import use_recipe

NAME = "frozen-features"
FEATURES = Path(".darkroom/features")
MODEL = Path("models/model.safetensors")


def train_here(mode: str) -> dict[str, Any]:
    """Trains in the current folder.

    Args:
        mode: ``images`` is one epoch on images, ``divided`` the training with all threads for each step,
            anything else the training.
    """
    from darkroom.compute.determinism import configure_libraries
    from darkroom.config.train import TrainConfig
    from darkroom.params import flatten, load_params
    from darkroom.paths import PARAMS
    from darkroom.runtime import load_runtime

    config = TrainConfig.of(load_params(PARAMS))
    configure_libraries(config.is_deterministic)
    from darkroom.training import features
    from darkroom.training.engine import fit
    from darkroom.training.job import make_job
    from darkroom.training.outputs import write_outputs
    from darkroom.training.session import open_session

    if mode == "divided":
        features.SHARED_FROM = 0
    job = make_job(config, load_runtime())
    began, cpu_began = time.perf_counter(), time.process_time()
    figures: dict[str, Any] = {}
    if mode == "images":
        options = job.settled(0.001, weight_decay=0.0, epochs=1)
        list(fit(job.new_state(options), job.epoch, job.validation, job.loss, options, config.seed))
    else:
        with open_session(job, "benchmark", checkpoint_seconds=60) as session:
            for _ in session.epochs():
                pass
        kept = session.history.course.kept
        figures = {"val_accuracy": kept.val_accuracy, "val_f1_macro": kept.val_f1_macro}
        figures["weight_decay"] = session.options.weight_decay
    figures["seconds"] = round(time.perf_counter() - began, 2)
    figures["cpu_seconds"] = round(time.process_time() - cpu_began, 2)
    if mode != "images":
        write_outputs(session, flatten(config))
    return figures


def start(folder: Path, mode: str = "features", workers: int = 2) -> subprocess.Popen[str]:
    """Starts a training of ``train_here`` in ``folder``."""
    environment = {"DARKROOM_TRACKING": "off", "DARKROOM_WORKERS": f"{workers}"}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--child", mode],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(Path("src").resolve())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(folder: Path, mode: str = "features", workers: int = 2) -> dict[str, Any]:
    """Trains in ``folder`` in a process of its own, and returns its figures."""
    return figures_of(start(folder, mode, workers))


def figures_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Waits for a training, and returns its figures."""
    output, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(errors)
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def kill_within_features(folder: Path) -> int:
    """Kills a training after its first chunk of features; returns the number of chunks that it wrote."""
    process = start(folder)
    logs = folder / FEATURES
    while process.poll() is None:
        if num_chunks := sum(len(log.read_text().splitlines()) for log in logs.glob("*/chunks.txt")):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return num_chunks
        time.sleep(0.02)
    sys.exit("the training ended before it could be killed")


def prepare(folder: Path, args: argparse.Namespace, seed: int, **changes: Any) -> None:
    """Sets the parameters of a project and prepares its data."""
    use_recipe(args.recipe, folder / "recipes", folder / "params.yaml")
    shutil.copy(args.weights, folder / "models/weights")
    given = {
        "seed": seed,
        "data.fetch": [],
        "data.path": str(args.data.resolve()),
        "model.weights": f"models/weights/{args.weights.name}",
    }
    change_params(folder / "params.yaml", {**given, **changes, **parse_changes(args.set)})
    run_stage("prepare", folder)


def measure(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Returns the figures of one seed."""
    with project_copy() as folder:
        prepare(folder, args, seed)
        cold = train(folder)
        change_params(folder / "params.yaml", {"train.lr": args.other_lr})
        warm = train(folder)
        divided = train(folder, "divided")
        images = train(folder, "images")
    return {
        "part": "speed",
        "recipe": args.recipe,
        "changes": parse_changes(args.set),
        "seed": seed,
        "cold": cold,
        "another lr, from the cache": warm,
        "another lr, all threads for each step": divided,
        "one epoch on images": images,
    }


def measure_two_at_once(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Returns the seconds of two trainings that run at once, three times, as they are and divided."""
    seconds: dict[str, list[list[float]]] = {"features": [], "divided": []}
    with project_copy() as one, project_copy() as other:
        for folder in (one, other):
            prepare(folder, args, seed)
            train(folder)
        for _ in range(3):
            for mode, found in seconds.items():
                processes = [start(folder, mode) for folder in (one, other)]
                found.append([figures_of(process)["seconds"] for process in processes])
    return {
        "part": "two at once",
        "recipe": args.recipe,
        "seed": seed,
        "as they are": seconds["features"],
        "all threads for each step": seconds["divided"],
    }


def compare_bytes(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Returns the hash of the model by the way in which it came about."""
    hashes: dict[str, str] = {}

    def note(name: str, folder: Path, workers: int = 2) -> None:
        train(folder, workers=workers)
        hashes[name] = sha256((folder / MODEL).read_bytes()).hexdigest()

    with project_copy() as folder:
        prepare(folder, args, seed)
        note("cold", folder)
        note("from the cache", folder)
        for workers in (1, 4):
            shutil.rmtree(folder / FEATURES)
            note(f"cold, {workers} workers", folder, workers)
        shutil.rmtree(folder / FEATURES)
        num_chunks = kill_within_features(folder)
        note(f"killed after {num_chunks} chunk(s) of features", folder)
        rows = next((folder / FEATURES).glob("*/rows.npy"))
        content = bytearray(rows.read_bytes())
        content[len(content) // 2] ^= 1
        rows.write_bytes(content)
        note("a flipped bit in the cache", folder)
    with project_copy() as folder:
        prepare(folder, args, seed, **{"prepare.storage": "encoded"})
        note("another folder, encoded images, 3 workers", folder, 3)
    return {
        "part": "bytes",
        "recipe": args.recipe,
        "seed": seed,
        "num_hashes": len(set(hashes.values())),
        "ways": list(hashes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a file for model.weights")
    parser.add_argument("--data", type=Path, help="images, as data.path takes them")
    parser.add_argument("--recipe", default="probe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    parser.add_argument("--other-lr", type=float, default=0.02, help="of the second training")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(train_here(args.child)))
        return
    lines = [partial(measure, args, seed) for seed in args.seeds]
    first = args.seeds[0]
    lines += [partial(measure_two_at_once, args, first), partial(compare_bytes, args, first)]
    for line in lines:
        figures = line()
        keep(NAME, {**figures, **hardware_of_training("cpu")}, args.dry)


if __name__ == "__main__":
    main()

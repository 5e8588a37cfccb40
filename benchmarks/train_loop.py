"""Measures what training costs beside the model's own step.

    python benchmarks/train_loop.py [--parts loop mode checkpoint start resume]
                                    [--sizes digits cifar 224px cifar1000 resnet50] [--device cpu]
                                    [--train ema_decay=0.999 precision=bfloat16] [--augment ...]
    python benchmarks/train_loop.py --table

Prints a JSON line a measurement, adds it to benchmarks/results/train-loop.jsonl, and ends with a table;
``--table`` makes the table of the newest lines there. Images are made. Ratios are medians over repeats,
with the least and the greatest; whatever is compared takes turns, since machines change their pace.

- ``loop``: images/s of an epoch (gather, crop, flip, step, schedule) over those of the same step on one
  batch that lies on the device already; in the same process, step by step in turns on a CPU, before and
  after each epoch on a GPU or where workers load ahead. Storages: ``resident``
  (on a GPU), ``mapped``, ``encoded``. For encoded images the epoch is compared with the smaller of step
  and decode rate, and also with what is left where both need all cores of a CPU (``loop_over_shared``);
  with ``--train``, ``loop_over_plain_step`` compares with a step that neither clips nor averages;
- ``mode``: images/s of ``train.deterministic: true`` over ``false``, in fresh processes;
- ``checkpoint``: images/s with a state saved as often as the rules allow (each second, at 1 % of the
  time) over those without, each until the last state lies on the disk;
- ``start``: seconds from the start of ``python stages/train.py`` to its first step, on the default data,
  over those of ``python -c "import torch"``;
- ``resume``: seconds to the first step of a training that resumes at an early and at a late step of an
  epoch of 1,563, over those of one that begins.

The last two run the stage itself, so they need all packages of requirements.lock.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import describe, hardware_of_training, keep, kept, num_cores

from darkroom.compute.determinism import configure_libraries

NAME = "train-loop"
PARTS = ("loop", "mode", "checkpoint", "start", "resume")
SIZES = ("digits", "cifar", "224px")
GPU_SIZES = ("cifar1000", "resnet50")
"""Batches that fill a GPU: 1,000 images of 32 x 32 pixels, and 256 of 224 x 224."""
LONG_EPOCH_IMAGES = 100_000
EARLY_STEP, LATE_STEP = 10, 1550
CHECKPOINT_BLOCK_SECONDS = 5.0
"""Long enough for several states."""
HERE = Path(__file__).parent
BARS = {"loop": 0.97, "encoded": 0.95, "checkpoint": 0.99, "resume": 1.05}

Figures = dict[str, Any]


def spread(name: str, ratios: Sequence[float]) -> Figures:
    """Returns the median of ``ratios`` under ``name``, and how far they lie apart."""
    return {
        name: round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def median_rate(rates: Sequence[float]) -> float:
    return round(statistics.median(rates), 1)


def between(bare: Sequence[float]) -> list[float]:
    """Returns the mean of each two neighbours: what held while something ran between them."""
    return [(before + after) / 2 for before, after in pairwise(bare)]


def measure_loop(size: str, args: argparse.Namespace) -> list[Figures]:
    """Compares the loop with its bare step, for each storage."""
    import torch
    from training import WORKLOADS, Training, make_shards, no_room_on_gpu

    workload, device = WORKLOADS[size], torch.device(args.device)
    training = Training(
        workload, device, args.threads, True, args.seconds, changes(args.train), changes(args.augment)
    )
    workers = num_cores()
    with TemporaryDirectory(dir=args.folder) as folder:
        batches = {}
        if device.type == "cuda":
            shards = make_shards(Path(folder, "resident"), workload.shape, training.num_images)
            batches["resident"] = training.batches(shards)
        with no_room_on_gpu():
            shards = make_shards(Path(folder, "mapped"), workload.shape, training.num_images)
            batches["mapped"] = training.batches(shards)
            shards = make_shards(Path(folder, "encoded"), workload.shape, training.num_images, "encoded")
            batches["encoded"] = training.batches(shards, workers)
        one_batch = training.one_batch(batches["mapped"])
        for loaded in batches.values():
            training.loop_rate(loaded)  # starts the workers, and warms up
        loads: list[float] = []
        plain: list[float] = []
        loops: dict[str, list[float]] = {storage: [] for storage in batches}
        steps: dict[str, list[float]] = {storage: [] for storage in batches}
        in_turns = {
            storage
            for storage in batches
            # else workers would load ahead while the bare step runs
            if device.type == "cpu" and (storage == "mapped" or workers <= args.threads)
        }
        before = training.bare_rate(one_batch)
        for _ in range(args.repeats):
            if training.has_extras:
                plain.append(training.plain_rate(one_batch))
            for storage, loaded in batches.items():
                if storage == "encoded":
                    loads.append(training.load_rate(loaded))
                if storage in in_turns:
                    loop, step = training.rates_in_turns(loaded)
                    loops[storage].append(loop)
                    steps[storage].append(step)
                    continue
                loops[storage].append(training.loop_rate(loaded))
                after = training.bare_rate(one_batch)
                steps[storage] += between([before, after])
                before = after
    return [
        {
            "size": " ".join([size, *args.train, *args.augment]),
            "storage": storage,
            **_loop_figures(loops[storage], steps[storage], loads if storage == "encoded" else None),
            **_over_plain(loops[storage], plain),
            "batch_size": workload.batch_size,
            "steps": training.num_steps,
            "repeats": args.repeats,
            "threads": args.threads,
            "workers": workers if storage == "encoded" else 0,
        }
        for storage in batches
    ]


def _over_plain(loops: Sequence[float], plain: Sequence[float]) -> Figures:
    """Returns the loop over a step without clipping and averaging, where the loop has either."""
    if not plain:
        return {}
    ratios = [loop / step for loop, step in zip(loops, plain, strict=True)]
    return {"loop_over_plain_step": round(statistics.median(ratios), 3)}


def changes(given: Sequence[str]) -> dict[str, Any]:
    """Returns parameters given as ``name=value``; a value is JSON, or a word."""
    found: dict[str, Any] = {}
    for name, _, value in (text.partition("=") for text in given):
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _loop_figures(
    loops: Sequence[float], steps: Sequence[float], loads: Sequence[float] | None
) -> Figures:
    rates = {"loop_images_per_second": median_rate(loops), "step_images_per_second": median_rate(steps)}
    over_step = [loop / step for loop, step in zip(loops, steps, strict=True)]
    if loads is None:
        return {**spread("loop_over_step", over_step), **rates}
    pairs = list(zip(loops, steps, loads, strict=True))
    over_smaller = [loop / min(step, load) for loop, step, load in pairs]
    over_shared = [loop * (1 / step + 1 / load) for loop, step, load in pairs]
    return {
        **spread("loop_over_smaller", over_smaller),
        "loop_over_step": round(statistics.median(over_step), 3),
        "loop_over_shared": round(statistics.median(over_shared), 3),
        **rates,
        "decode_images_per_second": median_rate(loads),
    }


def measure_rate(size: str, args: argparse.Namespace) -> list[float]:
    """Returns images/s of some epochs."""
    import torch
    from training import WORKLOADS, Training, make_shards

    workload = WORKLOADS[size]
    training = Training(
        workload, torch.device(args.device), args.threads, args.mode == "exact", args.seconds
    )
    with TemporaryDirectory(dir=args.folder) as folder:
        shards = make_shards(Path(folder, "train"), workload.shape, training.num_images)
        batches = training.batches(shards)
        training.loop_rate(batches)  # warms up
        return [training.loop_rate(batches) for _ in range(3)]


def measure_mode(size: str, args: argparse.Namespace) -> Figures:
    """Compares the modes, each in processes of its own: libraries read their settings once."""
    rates: dict[str, list[float]] = {"exact": [], "fast": []}
    for _ in range(max(args.repeats // 2, 2)):
        for mode, found in rates.items():
            found.append(statistics.median(in_child("rate", size, args, mode)))
    ratios = [exact / fast for exact, fast in zip(*rates.values(), strict=True)]
    return {
        "size": size,
        **spread("exact_over_fast", ratios),
        **{f"{mode}_images_per_second": median_rate(found) for mode, found in rates.items()},
        "threads": args.threads,
    }


def measure_checkpoint(size: str, args: argparse.Namespace) -> Figures:
    """Compares epochs in which states are saved with epochs in which none is."""
    import torch
    from training import WORKLOADS, Training, make_shards

    from darkroom.training.checkpoint import Checkpoints
    from darkroom.training.interruption import Interruption

    class Counted(Checkpoints):
        num_saved = 0

        def save(self, state: Any) -> None:
            self.num_saved += 1
            super().save(state)

    workload = WORKLOADS[size]
    seconds = max(args.seconds, CHECKPOINT_BLOCK_SECONDS)
    training = Training(workload, torch.device(args.device), args.threads, True, seconds)
    with TemporaryDirectory(dir=args.folder) as folder:
        shards = make_shards(Path(folder, "train"), workload.shape, training.num_images)
        batches = training.batches(shards)
        with Counted(Path(folder, "states"), 1, Interruption()) as checkpoints:
            training.loop_rate(batches, checkpoints)  # warms up
            checkpoints.num_saved = 0
            without, saving = [training.loop_rate(batches)], []
            for _ in range(args.repeats):
                saving.append(training.loop_rate(batches, checkpoints))
                without.append(training.loop_rate(batches))
            num_bytes = max(file.stat().st_size for file in Path(folder, "states").iterdir())
    return {
        "size": size,
        **spread(
            "saving_over_not", [on / off for on, off in zip(saving, between(without), strict=True)]
        ),
        "images_per_second": median_rate(without),
        "states_saved": checkpoints.num_saved,
        "state_bytes": num_bytes,
        "seconds": round(args.repeats * training.num_images / statistics.median(saving), 1),
    }


def seconds_to_line(command: Sequence[str], folder: Path) -> tuple[float, str]:
    """Returns how long a fresh process takes to a line that begins with "first", and that line."""
    # with compiled modules, as Python makes them unless it is told not to
    environment = {**os.environ, "DARKROOM_TRACKING": "off", "PYTHONPATH": str(folder / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("first"):
                return time.perf_counter() - began, line.strip()
        sys.exit(f"{' '.join(command)}\n{process.stderr.read()}")


IMPORT_TORCH = [sys.executable, "-c", "import torch, os; print('first', flush=True); os._exit(0)"]
FIRST_STEP = [sys.executable, str(HERE / "first_step.py")]


def make_project(folder: Path, args: argparse.Namespace) -> Path:
    """Copies the project, prepares its default data, and returns ``folder``."""
    os.environ["DARKROOM_DEVICE"] = args.device
    for name in ("stages", "src", "dvc.yaml", "params.yaml"):
        copy = shutil.copytree if Path(name).is_dir() else shutil.copy
        copy(name, folder / name)
    environment = {**os.environ, "DARKROOM_TRACKING": "off", "PYTHONPATH": str(folder / "src")}
    for script in ("stages/fetch.py", "stages/prepare.py"):
        subprocess.run(
            [sys.executable, script],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return folder


def measure_start(args: argparse.Namespace) -> Figures:
    """Compares the start of the stage with that of a process which only imports torch."""
    with TemporaryDirectory(dir=args.folder) as name:
        folder = make_project(Path(name), args)
        for command in (FIRST_STEP, IMPORT_TORCH):
            seconds_to_line(command, folder)  # fills caches: of the disk, of compiled modules
        starts, imports = [], []
        for _ in range(args.repeats):
            starts.append(seconds_to_line(FIRST_STEP, folder)[0])
            imports.append(seconds_to_line(IMPORT_TORCH, folder)[0])
    return {
        **spread("start_over_import_torch", [a / b for a, b in zip(starts, imports, strict=True)]),
        "start_seconds": round(statistics.median(starts), 2),
        "import_torch_seconds": round(statistics.median(imports), 2),
        "repeats": args.repeats,
    }


def record_shards(split: Path) -> None:
    """Lets dataset.json name the shards that now lie in the folder of a split."""
    from darkroom.dataset.info import load_info
    from darkroom.digests import FileDigest

    dataset = split.parent / "dataset.json"
    info = load_info(dataset)
    files = {
        path: digest for path, digest in info.files.items() if not path.startswith(f"{split.name}/")
    }
    files |= {f"{split.name}/{shard.name}": FileDigest.of(shard) for shard in sorted(split.iterdir())}
    dataset.write_text(json.dumps(info.model_copy(update={"files": files}).to_document()))


def measure_resume(args: argparse.Namespace) -> Figures:
    """Compare starts that resume from a state with fresh starts."""
    from training import make_shards

    with TemporaryDirectory(dir=args.folder) as name:
        folder = make_project(Path(name), args)
        prepared, scratch = folder / "data/prepared/train", folder / ".darkroom/train"
        shutil.rmtree(prepared)
        make_shards(prepared, (8, 8, 1), LONG_EPOCH_IMAGES)
        record_shards(prepared)
        shutil.rmtree(scratch, ignore_errors=True)
        states: dict[int, Path] = {0: folder / "states/0"}
        states[0].mkdir(parents=True)
        for step in (EARLY_STEP, LATE_STEP):
            stopped = subprocess.run(
                [*FIRST_STEP, str(step)],
                cwd=folder,
                env={**os.environ, "DARKROOM_TRACKING": "off", "PYTHONPATH": str(folder / "src")},
                capture_output=True,
                text=True,
            )
            if not any(scratch.rglob("*.pt")):
                sys.exit(f"no state was saved\n{stopped.stderr}")
            states[step] = scratch.rename(folder / f"states/{step}")
        seconds: dict[int, list[float]] = {step: [] for step in states}
        for repeat in range(args.repeats + 1):
            for step, saved in states.items():
                shutil.rmtree(scratch, ignore_errors=True)
                shutil.copytree(saved, scratch)
                took, line = seconds_to_line(FIRST_STEP, folder)
                if line != f"first step: {step}":
                    sys.exit(f"{line}, not {step}")
                if repeat > 0:  # the first one fills caches
                    seconds[step].append(took)
    ratios = {
        step: [a / b for a, b in zip(seconds[step], seconds[0], strict=True)]
        for step in (EARLY_STEP, LATE_STEP)
    }
    return {
        **spread("resume_over_fresh", [ratio for found in ratios.values() for ratio in found]),
        "early_over_fresh": round(statistics.median(ratios[EARLY_STEP]), 3),
        "late_over_fresh": round(statistics.median(ratios[LATE_STEP]), 3),
        "fresh_seconds": round(statistics.median(seconds[0]), 2),
        "early_step": EARLY_STEP,
        "late_step": LATE_STEP,
        "repeats": args.repeats,
    }


CHILD: dict[str, Callable[[str, argparse.Namespace], Any]] = {
    "machine": lambda _, args: hardware_of_training(args.device),
    "loop": measure_loop,
    "rate": measure_rate,
    "checkpoint": measure_checkpoint,
}


def in_child(what: str, size: str, args: argparse.Namespace, mode: str = "exact") -> Any:
    """Measures in a fresh process, and returns what was found."""
    command = [sys.executable, __file__, "--child", what, "--sizes", size, "--mode", mode]
    for option in ("device", "seconds", "repeats", "threads", "folder"):
        if (value := getattr(args, option)) is not None:
            command += [f"--{option}", str(value)]
    for option in ("train", "augment"):
        if getattr(args, option):
            command += [f"--{option}", *getattr(args, option)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(lines: Sequence[Figures]) -> str:
    """Makes a Markdown table of the newest line of each kind."""
    newest: dict[tuple[str, ...], Figures] = {}
    for line in lines:
        key = [describe(line), line["part"], line.get("size", ""), line.get("storage", "")]
        newest[tuple(key)] = line
    rows = ["| hardware | measured | ratio | least to greatest | bar |", "|---|---|---|---|---|"]
    for (hardware, part, size, storage), line in sorted(newest.items()):
        name, ratio = next((k, v) for k, v in line.items() if "_over_" in k)
        bar = BARS.get("encoded" if storage == "encoded" else part, "")
        what = ", ".join(filter(None, (part, size, storage)))
        least, greatest = line["spread"]
        named = name.replace("_", " ")
        rows.append(f"| {hardware} | {what}: {named} | {ratio} | {least} to {greatest} | {bar} |")
    return "\n".join(rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", nargs="+", choices=SIZES + GPU_SIZES, default=SIZES)
    parser.add_argument("--train", nargs="*", default=[], help="of loop: NAME=VALUE of train")
    parser.add_argument("--augment", nargs="*", default=[], help="of loop: of augment")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="of an epoch, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=num_cores(), help="that a CPU computes with")
    parser.add_argument("--folder", type=Path, help="where to make the images, up to 3 GB on a GPU")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table")
    parser.add_argument("--child", choices=CHILD, help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=("exact", "fast"), default="exact", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.child:
        configure_libraries(args.mode == "exact")  # before torch loads
        print(json.dumps(CHILD[args.child](args.sizes[0], args)))
        return
    if args.table:
        print(table(kept(NAME)))
        return
    machine = in_child("machine", args.sizes[0], args)  # libraries keep the settings they load with
    found: list[Figures] = []

    def report(part: str, figures: Figures) -> None:
        found.append({"part": part, **figures, **machine})
        keep(NAME, found[-1])

    for part in args.parts:
        if part in ("start", "resume"):
            if find_spec("mlflow") is None or find_spec("pydantic") is None:
                print(f"{part}: left out, since the stage needs all packages of requirements.lock")
                continue
            report(part, measure_start(args) if part == "start" else measure_resume(args))
            continue
        for size in args.sizes:
            if part == "loop":
                for figures in in_child("loop", size, args):
                    report(part, figures)
            else:
                report(part, measure_mode(size, args) if part == "mode" else in_child(part, size, args))
    print(table(found))


if __name__ == "__main__":
    main()

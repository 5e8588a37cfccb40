"""Measures how often intervals of the learning curve cover the truth, and whether a curve foretells.

    python benchmarks/learning_curve.py simulated [--curves 200]
    python benchmarks/learning_curve.py digits [--repeats 3] [--set train.epochs=15 ...]
    python benchmarks/learning_curve.py ants-bees --data hymenoptera.tar --weights mobilenet_v2.pth

Simulated trainings have errors that follow a known power law, vary by chance from training to training,
and are counted on 400 validation images; ``covered`` is the share of curves whose interval holds the
true rise with twice as many images. On images, the curve through 5 to 40 % of the training images is
compared with what training on 80 % gives. Adds JSON lines to benchmarks/results/learning-curve.jsonl.
"""

import argparse
import itertools
import os
import resource
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from machine import hardware, keep
from numpy.typing import NDArray
from project_copies import change_params, parse_changes, project_copy, run_stage

from darkroom.compute.determinism import configure_libraries
from darkroom.config.train import TrainConfig
from darkroom.learning_curve.curve import RATIO, Curve, make_curve
from darkroom.learning_curve.trainings import Repeat, curve_of, plan_repeats, predict_validation
from darkroom.params import load_params
from darkroom.paths import MANIFEST, PARAMS
from darkroom.recipes import use_recipe
from darkroom.retraining.groups import load_groups
from darkroom.retraining.parts import LabelledImages
from darkroom.runtime import load_runtime

SIZES = np.array([100, 200, 400, 800, 1000])
NUM_VALIDATION, NUM_CLASSES = 400, 4
LAWS = {
    "steep": (0.02, 0.15, 0.5),
    "slow": (0.0, 0.2, 0.15),
    "fast": (0.01, 0.01, 1.0),
    "flat": (0.05, 0, 1),
}
"""``a``, ``b`` and ``c`` of each kind of curve."""
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("digits", {"train.epochs": 8, "model.width": 16}),
    "ants-bees": ("probe", {"prepare.image_size": 160}),
}
"""The recipe of each task, and what is changed of it."""
SPLIT = {"prepare.val_fraction": 0.4, "prepare.test_fraction": 0.05}
"""More validation images than by default, so that there is something to measure."""


def simulated(errors: NDArray[np.float64], num_repeats: int, random: np.random.Generator) -> Curve:
    """Returns the curve of trainings with these errors on average; half of what is hard stays hard."""
    targets = np.arange(NUM_VALIDATION) % NUM_CLASSES
    hardness = random.random(NUM_VALIDATION)

    def preds(error: float) -> NDArray[np.bool_]:
        own = np.where(random.random(NUM_VALIDATION) < 0.5, hardness, random.random(NUM_VALIDATION))
        others = (targets + random.integers(1, NUM_CLASSES, NUM_VALIDATION)) % NUM_CLASSES
        return np.where(own < error, others, targets)[:, None] == np.arange(NUM_CLASSES)

    table = errors * (1 + 0.1 * random.standard_normal((num_repeats, len(SIZES))))
    return make_curve(
        (SIZES / 10).tolist(),
        SIZES.tolist(),
        targets[:, None] == np.arange(NUM_CLASSES),
        [[preds(error) for error in row] for row in table.tolist()],
        [f"{index}" for index in range(NUM_CLASSES)],
    )


def simulate(num_curves: int) -> None:
    for (name, (a, b, c)), num_repeats in itertools.product(LAWS.items(), (1, 3)):
        random = np.random.default_rng(0)
        errors, rise = a + b * (SIZES / SIZES[-1]) ** -c, b * (1 - RATIO**-c)
        curves = [simulated(errors, num_repeats, random) for _ in range(num_curves)]
        gains = [curve.gain for curve in curves]
        figures = {
            "law": name,
            "repeats": num_repeats,
            "curves": num_curves,
            "rise": round(rise, 4),
            "covered": float(np.mean([g.low - 1e-9 <= rise <= g.high + 1e-9 for g in gains])),
            "median_width": round(float(np.median([g.high - g.low for g in gains])), 4),
            "verdicts": dict(sorted(Counter(curve.verdict for curve in curves).items())),
        }
        keep("learning-curve", {**figures, **hardware()})


def foretell(args: argparse.Namespace) -> None:
    home, changes, (recipe, more) = Path.cwd(), parse_changes(args.set), TASKS[args.what]
    with project_copy() as folder:
        use_recipe(recipe, folder / "recipes", folder / "params.yaml")
        given = {**SPLIT, **more}
        if args.data is not None:
            shutil.unpack_archive(args.data, folder / "data/mine")
            given |= {"data.fetch": [], "data.path": "data/mine", "data.class_name": "leaf"}
            given["prepare.on_conflict"] = "drop"
        if args.weights is not None:
            shutil.copy(args.weights, folder / "models/weights")
            given["model.weights"] = f"models/weights/{args.weights.name}"
        change_params(folder / "params.yaml", {**given, **changes})
        run_stage("fetch", folder)
        run_stage("prepare", folder)
        os.chdir(folder)
        before = resource.getrusage(resource.RUSAGE_SELF)
        config = TrainConfig.of(load_params(PARAMS))
        configure_libraries(config.is_deterministic)
        images = LabelledImages("learning-curve")
        groups = load_groups(MANIFEST, images.shards.paths)
        planned, remarks = plan_repeats(config, images, groups, [5, 10, 20, 40, 80], args.repeats)
        preds = predict_validation(planned, images, load_runtime())
        measured = curve_of(planned, preds, images, groups, remarks).steps[-1]
        smaller = [Repeat(one.config, one.subsets[:-1]) for one in planned]
        curve = curve_of(smaller, [some[:-1] for some in preds], images, groups, remarks)
        after = resource.getrusage(resource.RUSAGE_SELF)
        os.chdir(home)
    figures = {
        "task": args.what,
        "repeats": args.repeats,
        "sizes": [step.num_images for step in curve.steps],
        "f1_macro": [round(step.f1_macro, 4) for step in curve.steps],
        "verdict": curve.verdict,
        "foretold": [round(value, 4) for value in (curve.twice.rise, curve.twice.low, curve.twice.high)],
        "images": measured.num_images,
        "measured": round(measured.f1_macro, 4),
        "measured_repeats": [round(score, 4) for score in measured.repeats],
        "validation_images": curve.num_validation,
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "changes": changes,
    }
    keep("learning-curve", {**figures, **hardware()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["simulated", *TASKS])
    parser.add_argument("--curves", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, help="archive of class folders")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    args = parser.parse_args()
    if args.what == "simulated":
        simulate(args.curves)
    else:
        foretell(args)


if __name__ == "__main__":
    main()

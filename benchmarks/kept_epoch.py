"""Compares rules that choose the epoch whose weights are kept, on small validation sets.

    python benchmarks/kept_epoch.py simulate
    python benchmarks/kept_epoch.py tasks --data FOLDER --weights mobilenet_v2.pth [--task digits ...]
    python benchmarks/kept_epoch.py --table

``simulate`` draws validation sets from courses of macro F1 that are known, and tells the true macro F1
of the epoch that each rule keeps. ``tasks`` trains on real images, ten seeds each, and scores each epoch
on test images too, so that all rules are read off the same trainings; FOLDER has cifar10-jpeg.tar.xz and
hymenoptera.tar. Both add lines to benchmarks/results/kept-epoch.jsonl.
"""

import argparse
import io
import math
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import hardware_of_training, keep, kept
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from training import TRAIN

from darkroom.catalogue.counting import blank_spec
from darkroom.compute.determinism import set_determinism
from darkroom.config.train import SettledTrain
from darkroom.loading.batches import Batch, TrainBatch
from darkroom.metrics.confusion import confusion_matrix, macro_f1
from darkroom.models.factory import make_classifier
from darkroom.training.course import EpochResult, course_of, judge
from darkroom.training.engine import evaluate, fit
from darkroom.training.losses import make_loss
from darkroom.training.state import TrainingState
from darkroom.training.targets import one_class
from darkroom.training.uncertainty import standard_error_of_classes

NAME = "kept-epoch"
NEW_RULE = "one standard error"


class Epoch(NamedTuple):
    """What is read of an epoch, by the rules and by ``course_of``."""

    epoch: int
    val_loss: float
    val_accuracy: float
    val_f1_macro: float
    val_f1_standard_error: float
    is_best: bool
    is_kept: bool


RULES: dict[str, Callable[[Any], int]] = {
    NEW_RULE: lambda epochs: course_of(epochs).kept.epoch,
    "best, of equals the later": lambda epochs: (
        max(epochs, key=lambda e: (e.val_f1_macro, e.epoch)).epoch
    ),
    "last": lambda epochs: epochs[-1].epoch,
    "lowest loss": lambda epochs: min(epochs, key=lambda e: e.val_loss).epoch,
}
"""Each returns the epoch that it keeps, from 1."""


# simulation

NUM_EPOCHS = 30
NUM_CLASSES = 4
NUM_TRAININGS = 200
SIZES = (50, 100, 200)
CORRELATION = 0.8
"""Of an image's difficulty between two epochs: an image that is hard in one is hard in the next."""

_E = np.arange(NUM_EPOCHS)
SHAPES: dict[str, NDArray[np.float64]] = {
    "rising to the end": 0.95 - 0.35 * np.exp(-_E / 10),
    "early plateau": 0.93 - 0.33 * np.exp(-_E / 2),
    "plateau near 1": 0.985 - 0.2 * np.exp(-_E / 2),
    "good at once, better later": 0.96 - 0.08 * np.exp(-_E / 8),
    "overfitting mildly": 0.93 - 0.33 * np.exp(-_E / 2) - 0.03 * np.maximum(_E - 7, 0) / 22,
    "overfitting strongly": 0.93 - 0.33 * np.exp(-_E / 2) - 0.15 * np.maximum(_E - 7, 0) / 22,
    "collapsing at the end": 0.93 - 0.33 * np.exp(-_E / 2) - 0.3 * (_E >= NUM_EPOCHS - 3),
}
"""True macro F1 by epoch, where classes have as many images and mistakes fall on all others alike."""


def simulate(truth: NDArray[np.float64], num_images: int, seed: int) -> list[Epoch]:
    """Validates each epoch on the same images, drawn once."""
    random = np.random.default_rng(seed)
    targets = torch.arange(num_images) % NUM_CLASSES
    ease = random.normal(size=num_images)
    thresholds = torch.special.ndtri(torch.from_numpy(truth)).numpy()
    epochs: list[Epoch] = []
    best: Any = None
    for number, threshold in enumerate(thresholds.tolist(), start=1):
        noise = random.normal(size=num_images)
        is_right = math.sqrt(CORRELATION) * ease + math.sqrt(1 - CORRELATION) * noise < threshold
        wrong_by = torch.from_numpy(random.integers(1, NUM_CLASSES, num_images))
        preds = torch.where(torch.from_numpy(is_right), targets, (targets + wrong_by) % NUM_CLASSES)
        f1 = macro_f1(confusion_matrix(targets, preds, NUM_CLASSES))
        verdict = judge(f1, best)
        error = (
            standard_error_of_classes(targets, preds, NUM_CLASSES, 0) if verdict.is_best else math.nan
        )
        epochs.append(Epoch(number, math.nan, math.nan, f1, error, *verdict))
        best = epochs[-1] if verdict.is_best else best
    return epochs


def simulate_all() -> None:
    rules = {name: rule for name, rule in RULES.items() if name != "lowest loss"}  # no losses here
    for shape, truth in SHAPES.items():
        for num_images in SIZES:
            chosen: dict[str, list[int]] = {name: [] for name in rules}
            for seed in range(NUM_TRAININGS):
                epochs = simulate(truth, num_images, seed)
                for name, rule in rules.items():
                    chosen[name].append(rule(epochs))
            of_rules = {name: truth[np.array(epochs) - 1] for name, epochs in chosen.items()}
            keep(
                NAME,
                {
                    "part": "simulation",
                    "shape": shape,
                    "val_images": num_images,
                    "trainings": NUM_TRAININGS,
                    "highest": round(float(truth.max()), 4),
                    "f1_macro": summary(of_rules),
                    "epoch": {name: round(float(np.mean(each)), 1) for name, each in chosen.items()},
                },
            )


# real tasks

SEEDS = range(10)


class Task(NamedTuple):
    """Images or features with their labels, and how they are learnt."""

    inputs: Tensor
    """uint8 ``(n, channels, height, width)``, or float32 ``(n, features)``."""
    labels: Tensor
    num_train: int
    num_val: int
    """All others are for the test."""
    batch_size: int
    make_model: Callable[[], nn.Module]
    options: Mapping[str, Any]
    flips: bool = False
    """Whether images are mirrored at random."""


def digits(_: argparse.Namespace) -> Task:
    bunch = load_digits()
    images = torch.from_numpy(bunch.images * 255 / 16).to(torch.uint8)[:, None]
    options = {"epochs": 20, "lr": 0.05, "label_smoothing": 0.0}
    return Task(
        images,
        torch.from_numpy(bunch.target).long(),
        num_train=200,
        num_val=100,
        batch_size=32,
        make_model=lambda: cnn(10, tuple(images.shape[1:]), width=16),
        options=options,
    )


def cifar(args: argparse.Namespace) -> Task:
    names = {"bird": 0, "cat": 1, "deer": 2, "dog": 3, "frog": 4}
    images, labels = read_images(args.data / "cifar10-jpeg.tar.xz", "cifar10/test", names, 32, 400)
    options = {"epochs": 20, "lr": 0.05, "label_smoothing": 0.0}
    return Task(
        images,
        labels,
        num_train=900,
        num_val=150,
        batch_size=64,
        make_model=lambda: cnn(len(names), (3, 32, 32), width=16),
        options=options,
        flips=True,
    )


def hymenoptera(args: argparse.Namespace) -> Task:
    names = {"ants": 0, "bees": 1}
    images, labels = read_images(args.data / "hymenoptera.tar", "hymenoptera", names, 224, 500)
    features = features_of(images, args.weights)
    options = {"epochs": 15, "lr": 0.02, "label_smoothing": 0.05}
    return Task(
        features,
        labels,
        num_train=120,
        num_val=60,
        batch_size=16,
        make_model=lambda: nn.Linear(features.shape[1], 2),
        options=options,
    )


TASKS = {"digits": digits, "cifar": cifar, "hymenoptera": hymenoptera}
ABOUT = {
    "digits": "handwritten digits, 200 to train on, small cnn",
    "cifar": "CIFAR-10, five animals, 900 to train on, small cnn",
    "hymenoptera": "ants and bees, 120 to train on, frozen mobilenet_v2",
}


def cnn(num_classes: int, shape: tuple[int, ...], width: int) -> nn.Module:
    channels, height, image_width = shape
    spec = blank_spec(
        name="cnn",
        width=width,
        depth=2,
        dropout=0.1,
        num_classes=num_classes,
        input_size=(height, image_width),
        channels=channels,
    )
    return make_classifier(spec)


def read_images(
    archive: Path, folder: str, names: Mapping[str, int], side: int, most: int
) -> tuple[Tensor, Tensor]:
    """Returns up to ``most`` images of each class, in the order of their names: uint8, and labels."""
    images: dict[str, tuple[Tensor, int]] = {}
    num_left = dict.fromkeys(names, most)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).parent.name
            if not member.isfile() or name not in names or not member.name.startswith(f"{folder}/"):
                continue
            file = tar.extractfile(member)
            if not num_left[name] or file is None:
                continue
            with Image.open(io.BytesIO(file.read())) as image:
                if image.format != "JPEG":  # one is a notice that there is no image
                    continue
                pixels = np.array(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
            images[member.name] = torch.from_numpy(pixels).permute(2, 0, 1), names[name]
            num_left[name] -= 1
    pixels_of, labels = zip(*(images[name] for name in sorted(images)), strict=True)
    return torch.stack(pixels_of), torch.tensor(labels)


@torch.inference_mode()
def features_of(images: Tensor, weights: Path) -> Tensor:
    """Returns what the frozen backbone makes of images: float32 ``(n, 1280)``."""
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.classifier = nn.Identity()
    network.eval()
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    return torch.cat([network((part / 255 - mean) / std) for part in images.split(32)]).clone()


def train(task: Task, seed: int) -> tuple[list[EpochResult], list[float]]:
    """Returns the epochs, and the macro F1 of each on the test images."""
    set_determinism(seed, 1)
    order = torch.randperm(len(task.labels), generator=torch.Generator().manual_seed(seed))
    parts = order.split([task.num_train, task.num_val, len(order) - task.num_train - task.num_val])
    learnt, val, test = ((task.inputs[part], task.labels[part]) for part in parts)
    options = SettledTrain(**{**TRAIN, **task.options})
    num_classes = int(task.labels.max()) + 1
    names, counts = [f"{label}" for label in range(num_classes)], [1] * num_classes
    state = TrainingState(task.make_model(), options, -(-task.num_train // task.batch_size))

    def train_batches(epoch: int, _: int) -> Iterator[TrainBatch]:
        generator = torch.Generator().manual_seed(1_000 * seed + epoch)
        shuffled = torch.randperm(task.num_train, generator=generator)
        for rows in shuffled.split(task.batch_size):
            inputs = learnt[0][rows]
            if task.flips:
                mirrored = torch.rand(len(rows), generator=generator) < 0.5
                inputs = torch.where(mirrored[:, None, None, None], inputs.flip(3), inputs)
            yield TrainBatch(inputs, learnt[1][rows])

    loss = make_loss(one_class, options, names, counts, sum(counts), torch.device("cpu"))
    tests = []
    epochs = fit(state, train_batches, lambda _: batches(*val), loss, options, seed)
    for _ in epochs:
        tests.append(evaluate(state.evaluated_model, batches(*test), loss, seed).f1_macro)
    return state.results, tests


def batches(inputs: Tensor, labels: Tensor) -> list[Batch]:
    return list(zip(inputs.split(256), labels.split(256), strict=True))


def measure_task(name: str, args: argparse.Namespace) -> None:
    task = TASKS[name](args)
    scores: dict[str, list[float]] = {rule: [] for rule in RULES}
    chosen: dict[str, list[int]] = {rule: [] for rule in RULES}
    for seed in SEEDS:
        epochs, tests = train(task, seed)
        for rule, choose in RULES.items():
            chosen[rule].append(choose(epochs))
            scores[rule].append(tests[chosen[rule][-1] - 1])
    keep(
        NAME,
        {
            "part": "task",
            "task": name,
            "val_images": task.num_val,
            "epochs": task.options["epochs"],
            "seeds": len(SEEDS),
            "f1_macro": summary(scores),
            "epoch": {rule: round(float(np.mean(each)), 1) for rule, each in chosen.items()},
            "kept": chosen,
            "test_f1_macro": {
                rule: [round(score, 4) for score in each] for rule, each in scores.items()
            },
            **hardware_of_training("cpu"),
        },
    )


def summary(scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns by rule the mean, its standard error, and the same of the new rule's lead over it."""
    of_new = np.array(scores[NEW_RULE])
    return {
        rule: {
            "mean": round(float(np.mean(values)), 4),
            "error": _error(np.array(values)),
            "new_rule_leads_by": round(float(np.mean(of_new - values)), 4),
            "lead_error": _error(of_new - np.array(values)),
        }
        for rule, values in scores.items()
    }


def _error(values: NDArray[np.float64]) -> float:
    return round(float(values.std(ddof=1)) / math.sqrt(len(values)), 4)


def table(lines: list[dict[str, Any]]) -> str:
    """Makes Markdown tables of the newest lines."""
    newest = {
        (line["part"], line.get("task"), line.get("shape"), line["val_images"]): line for line in lines
    }
    parts = []
    for part, title in (("task", "task"), ("simulation", "course of the true macro F1")):
        of_part = [line for line in newest.values() if line["part"] == part]
        if not of_part:
            continue
        rules = list(of_part[0]["f1_macro"])
        rows = [
            f"| {title} | val images | {' | '.join(rules)} |",
            f"|---|---|{'---|' * len(rules)}",
        ]
        for line in of_part:
            name = (
                ABOUT[line["task"]] if part == "task" else f"{line['shape']} (at most {line['highest']})"
            )
            cells = [
                f"{line['f1_macro'][rule]['mean']:.4f} ± {line['f1_macro'][rule]['error']:.4f}, "
                f"epoch {line['epoch'][rule]:g}"
                for rule in rules
            ]
            rows.append(f"| {name} | {line['val_images']} | {' | '.join(cells)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["simulate", "tasks"])
    parser.add_argument("--task", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2.pth"))
    parser.add_argument("--table", action="store_true", help="print the tables of what was measured")
    args = parser.parse_args()
    if args.part == "simulate":
        simulate_all()
    if args.part == "tasks":
        for name in args.task:
            measure_task(name, args)
    if args.table:
        print(table(kept(NAME)))


if __name__ == "__main__":
    main()

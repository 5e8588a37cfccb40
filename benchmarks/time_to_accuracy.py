"""Measures seconds from image files to a saved model, of darkroom and of other training scripts.

    python benchmarks/time_to_accuracy.py --ants hymenoptera.tar --weights mobilenet_v2.pth
        --cifar cifar10-jpeg.tar.xz [--images-per-class 1000] [--rounds 1] [--peers hand_written ...]

Two tasks, each with a network of its own: ants and bees with a frozen mobilenet_v2 from ``--weights``,
scored on ``val``; and CIFAR-10 with a small residual network from scratch, scored on ``test``.

- ``darkroom``: the stages prepare and train with a recipe (probe, cifar10-fast), with empty caches, and
  ``darkroom_warm``: train alone, with another learning rate. The test images are never seen in training;
- ``hand_written``: PyTorch's transfer learning tutorial (SGD, 0.001, momentum 0.9, divided by 10 every 7
  epochs) or a one-cycle schedule, with ImageFolder and a DataLoader with a worker per core;
- ``timm``: the same with timm's loader and optimizer; its train script is not part of its package;
- ``lightning``: the hand-written model, loader and schedule in Lightning's Trainer;
- ``fastai``: ``vision_learner(...).fine_tune`` or ``fit_one_cycle``, with its defaults;
- ultralytics is not measured, because it cannot start from these weights.

Each is a process of its own, in turns; imports count. A peer that reaches the accuracy may end after
any epoch, where darkroom trains all epochs. Lightning and fastai are installed into throw-away
environments; a peer that cannot be installed is reported as not measured. Prints a JSON line per task
and round, and adds it to benchmarks/results/time-to-accuracy.jsonl.
"""

import argparse
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_TEST_IMAGES = 200
"""Most of each class."""
PACKAGES = {"lightning": "pytorch-lightning!=2.6.2,!=2.6.3", "fastai": "fastai"}


@dataclass(frozen=True)
class Task:
    """Images in ``images/{train,test}/CLASS``, and when a model of them is good enough."""

    name: str
    images: str
    weights: str
    accuracy: float
    epochs: int
    size: int
    num_classes: int
    batch_size: int

    @property
    def is_pretrained(self) -> bool:
        return self.name == "ants_bees"


def train_by_hand(task: Task, save: Callable[[Any], float]) -> None:
    model = make_model(task)
    _train(task, model, _image_folder_loader(task), *_sgd(task, model), save)


def train_with_timm(task: Task, save: Callable[[Any], float]) -> None:
    from timm.data import ImageDataset, create_loader
    from timm.optim import create_optimizer_v2

    dataset = ImageDataset(f"{task.images}/train")
    loader = create_loader(
        dataset,
        input_size=(3, task.size, task.size),
        batch_size=task.batch_size,
        is_training=True,
        use_prefetcher=False,
        mean=MEAN,
        std=STD,
        num_workers=os.cpu_count() or 1,
        pin_memory=False,
        **({} if task.is_pretrained else {"scale": (0.6, 1.0)}),
    )
    model = make_model(task)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.01, weight_decay=0.0001)
    _train(task, model, loader, optimizer, _one_cycle(task, optimizer, len(loader), 0.1), save)


def train_with_lightning(task: Task, save: Callable[[Any], float]) -> None:
    import pytorch_lightning as pl
    import torch.nn.functional as F

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = make_model(task)

        def training_step(self, batch: Any, batch_index: int) -> Any:
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer, schedule = _sgd(task, self.model)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

        def on_train_epoch_end(self) -> None:
            self.trainer.should_stop = save(self.model) >= task.accuracy

    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=task.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), _image_folder_loader(task))


def train_with_fastai(task: Task, save: Callable[[Any], float]) -> None:
    import torch
    from fastai.vision import all as fastai

    class Score(fastai.Callback):
        def after_epoch(self) -> None:
            if save(self.learn.model) >= task.accuracy:
                raise fastai.CancelFitException

    loaders = fastai.ImageDataLoaders.from_folder(
        task.images,
        train="train",
        valid_pct=0.1,
        seed=0,
        bs=task.batch_size,
        item_tfms=fastai.Resize(task.size),
        batch_tfms=[*fastai.aug_transforms(), fastai.Normalize.from_stats(MEAN, STD)],
        num_workers=os.cpu_count(),
        device=torch.device("cpu"),
    )
    learner = fastai.Learner(
        loaders,
        make_model(task),
        loss_func=fastai.CrossEntropyLossFlat(),
        splitter=lambda model: (
            [fastai.params(model.features), fastai.params(model.classifier)]
            if task.is_pretrained
            else fastai.trainable_params(model)
        ),
        cbs=Score(),
    )
    with learner.no_bar(), learner.no_logging():
        if task.is_pretrained:
            learner.freeze()
            learner.fine_tune(task.epochs)
        else:
            learner.fit_one_cycle(task.epochs, 0.01)


PEERS: dict[str, Callable[[Task, Callable[[Any], float]], None]] = {
    "hand_written": train_by_hand,
    "timm": train_with_timm,
    "lightning": train_with_lightning,
    "fastai": train_with_fastai,
}


def make_model(task: Task) -> Any:
    """Returns mobilenet_v2 with a frozen backbone and a new head, or a ResNet-8 of darkroom's."""
    import torch

    torch.manual_seed(0)
    if task.is_pretrained:
        from torchvision.models import mobilenet_v2

        model = mobilenet_v2()
        model.load_state_dict(torch.load(task.weights, weights_only=True))
        model.requires_grad_(False)
        model.classifier[1] = torch.nn.Linear(1280, task.num_classes)
        return model
    from darkroom.models.backbones.resnet import ResNet
    from darkroom.models.heads import LinearHead
    from darkroom.models.network import Network

    backbone = ResNet(3, width=16, depth=1, stochastic_depth=0, activation="relu", pooling="stride")
    return Network(backbone, LinearHead(64, task.num_classes, 0))


def _sgd(task: Task, model: Any) -> tuple[Any, Any]:
    """Returns optimizer and schedule, which is advanced after every step."""
    from torch import optim

    steps = _num_steps(task)
    if task.is_pretrained:
        optimizer = optim.SGD(model.classifier[1].parameters(), lr=0.001, momentum=0.9)
        return optimizer, optim.lr_scheduler.StepLR(optimizer, 7 * steps, 0.1)
    optimizer = optim.SGD(model.parameters(), 0.2, 0.9, weight_decay=0.0005, nesterov=True)
    return optimizer, _one_cycle(task, optimizer, steps, 0.2)


def _one_cycle(task: Task, optimizer: Any, steps: int, lr: float) -> Any:
    from torch.optim.lr_scheduler import OneCycleLR

    return OneCycleLR(optimizer, lr, epochs=task.epochs, steps_per_epoch=steps)


def _num_steps(task: Task) -> int:
    return -(-sum(1 for _ in Path(task.images, "train").glob("*/*")) // task.batch_size)


def _transform(task: Task, training: bool) -> Any:
    from torchvision import transforms as t

    if not task.is_pretrained:
        changes = [t.RandomCrop(32, padding=4), t.RandomHorizontalFlip()] if training else []
    elif training:
        changes = [t.RandomResizedCrop(task.size), t.RandomHorizontalFlip()]
    else:
        changes = [t.Resize(256), t.CenterCrop(task.size)]
    return t.Compose([*changes, t.ToTensor(), t.Normalize(MEAN, STD)])


def _image_folder_loader(task: Task, split: str = "train") -> Any:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    is_train = split == "train"
    dataset = ImageFolder(f"{task.images}/{split}", _transform(task, is_train))
    return DataLoader(dataset, task.batch_size, shuffle=is_train, num_workers=os.cpu_count() or 1)


def _train(
    task: Task, model: Any, loader: Any, optimizer: Any, schedule: Any, save: Callable[[Any], float]
) -> None:
    import torch.nn.functional as F

    for _ in range(task.epochs):
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            schedule.step()
        if save(model) >= task.accuracy:
            return


def run_peer(name: str, task: Task) -> None:
    """Trains one peer in this process; prints the seconds and the accuracy of each saved model."""
    import torch

    excluded = 0.0
    scoring: list[Any] = []

    def save(model: Any) -> float:
        """Saves a model after an epoch, and returns its accuracy, which is not in the seconds."""
        nonlocal excluded
        torch.save(model.state_dict(), "model.pt")
        paused = time.time()
        if not scoring:
            scoring.extend(_image_folder_loader(task, "test"))
        was_training = model.training
        model.eval()
        with torch.no_grad():
            hits = [(model(inputs).argmax(1) == targets).float() for inputs, targets in scoring]
        model.train(was_training)
        accuracy = torch.cat(hits).mean().item()
        excluded += time.time() - paused
        print(json.dumps({"accuracy": round(accuracy, 4), "scoring_seconds": excluded}), flush=True)
        return accuracy

    PEERS[name](task, save)


def measure_peer(name: str, task: Task, python: Path, folder: Path) -> dict[str, Any]:
    """Runs a peer in a fresh process; its seconds are those until it ended, without scoring."""
    command = [str(python), __file__, "--child", name, "--task", json.dumps(asdict(task))]
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path("src").resolve())},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"accuracy"')]
    if done.returncode != 0 or not lines:
        return {"not_measured": (done.stderr.strip().splitlines() or ["no model"])[-1]}
    return _figures(seconds - lines[-1]["scoring_seconds"], lines[-1]["accuracy"], task)


def measure_darkroom(task: Task, seed: int) -> dict[str, dict[str, Any]]:
    """Runs the stages in a copy of the project with a recipe: cold, and train once more (warm)."""
    from project_copies import change_params, project_copy, run_stage

    from darkroom.params import load_params
    from darkroom.recipes import use_recipe

    recipe = "probe" if task.is_pretrained else "cifar10-fast"
    with project_copy() as folder:
        use_recipe(recipe, folder / "recipes", folder / "params.yaml")
        changes = {
            "seed": seed,
            "data.fetch": [],
            "data.path": task.images,
            "prepare.duplicates": "keep",
        }
        if task.is_pretrained:
            shutil.copy(task.weights, folder / "models/weights")
            changes["model.weights"] = f"models/weights/{Path(task.weights).name}"
        else:
            changes |= {"train.epochs": task.epochs, "prepare.image_size": task.size}
            changes["prepare.channels"] = 3
        changes["prepare.on_bad_image"] = "skip"
        change_params(folder / "params.yaml", changes)
        prepare_seconds = run_stage("prepare", folder)
        cold_seconds = prepare_seconds + run_stage("train", folder)
        cold = _figures(cold_seconds, _evaluate(folder), task)
        lr = load_params(folder / "params.yaml").train.lr
        change_params(folder / "params.yaml", {"train.lr": 0.9 * float(lr)})
        warm = _figures(run_stage("train", folder), _evaluate(folder), task)
    return {
        "darkroom": {**cold, "prepare_seconds": round(prepare_seconds, 2)},
        "darkroom_warm": warm,
    }


def _evaluate(folder: Path) -> float:
    from project_copies import run_stage

    run_stage("evaluate", folder)
    return json.loads((folder / "reports/evaluate/metrics.json").read_text())["test"]["accuracy"]


def _figures(seconds: float, accuracy: float, task: Task) -> dict[str, Any]:
    reached = accuracy >= task.accuracy
    return {"seconds": round(seconds, 2), "accuracy": round(accuracy, 4), "reached": reached}


def unpack(archive: Path, folder: Path, test: str, images_per_class: int | None) -> str:
    """Writes the archive's images to ``folder/{train,test}/CLASS``; ``test``: its name for test images.

    Files that are no JPEG are left out, because the peers would stop at them.
    """
    counts: Counter[Path] = Counter()
    with tarfile.open(archive) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
            split, label, name = Path(member.name).parts[-3:]
            source = tar.extractfile(member)
            if split not in ("train", test) or source is None:
                continue
            target = folder / ("test" if split == test else "train") / label
            most = images_per_class if split == "train" else NUM_TEST_IMAGES
            content = source.read()
            if not content.startswith(b"\xff\xd8") or counts[target] == most:
                continue
            counts[target] += 1
            target.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
    return str(folder)


def make_tasks(args: argparse.Namespace, folder: Path) -> Iterator[Task]:
    if args.ants:
        images = unpack(args.ants, folder / "ants", "val", None)
        weights, epochs = str(args.weights.resolve()), args.epochs or 25  # as in the tutorial
        yield Task("ants_bees", images, weights, args.ants_accuracy, epochs, 224, 2, 32)
    if args.cifar:
        images = unpack(args.cifar, folder / "cifar", "test", args.images_per_class)
        name = f"cifar10_{10 * args.images_per_class}"
        yield Task(name, images, "", args.cifar_accuracy, args.epochs or 8, 32, 10, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ants", type=Path, help="hymenoptera.tar")
    parser.add_argument("--ants-accuracy", type=float, default=0.9)
    parser.add_argument("--weights", type=Path, help="mobilenet_v2.pth")
    parser.add_argument("--cifar", type=Path, help="cifar10-jpeg.tar.xz")
    parser.add_argument("--images-per-class", type=int, default=1_000, help="of CIFAR-10; 5000: all")
    parser.add_argument("--cifar-accuracy", type=float, default=0.55)
    parser.add_argument("--epochs", type=int, help="another number of epochs")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--child", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run_peer(args.child, Task(**json.loads(args.task)))
        return
    if args.ants and not args.weights:
        parser.error("--ants needs --weights")
    from environments import make_environments
    from machine import hardware, keep

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with compiled modules, as is usual
    with TemporaryDirectory() as name:
        folder = Path(name)
        packages = {peer: PACKAGES.get(peer) for peer in args.peers}
        pythons, failed = make_environments(packages, folder)
        for task in make_tasks(args, folder):
            for seed in range(args.rounds):
                figures = measure_darkroom(task, seed) | failed
                for peer, python in pythons.items():
                    figures[peer] = measure_peer(peer, task, python, folder)
                keep(
                    "time-to-accuracy",
                    {
                        "task": task.name,
                        "accuracy": task.accuracy,
                        "epochs": task.epochs,
                        "figures": figures,
                        "over_darkroom": {
                            peer: round(line["seconds"] / figures["darkroom"]["seconds"], 2)
                            for peer, line in figures.items()
                            if "seconds" in line
                        },
                        **hardware(),
                    },
                )


if __name__ == "__main__":
    main()

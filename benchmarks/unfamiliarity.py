"""Compares ways to tell images unlike the training data, on images that a model was never meant for.

    python benchmarks/unfamiliarity.py digits
    python benchmarks/unfamiliarity.py cifar10 --data cifar10-jpeg.tar.xz --camvid camvid.tar
    python benchmarks/unfamiliarity.py ants-bees --data hymenoptera.tar --weights mobilenet_v2.pth \
        --camvid camvid.tar --cifar10 cifar10-jpeg.tar.xz

Trains a model, then scores its test images and those of other kinds by each method. ``auroc`` is the
area under the ROC curve of unlike images against test images; ``detected`` is the share of unlike images
above the 95 % quantile of the validation images, and ``false_alarms`` that of test images. CIFAR-10 is
trained on eight classes, and the two others (truck, cat) count as unlike. ``kilobytes`` is what a method
stores. Prints a line per method and kind of image, and adds each to benchmarks/results/unfamiliarity.jsonl.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import hardware, keep
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from stages import change_params, parse_changes, project_copy, run_stage

from darkroom.dataset.info import load_info
from darkroom.dataset.prepared import open_split
from darkroom.decoding.decode import PixelLayout, decode
from darkroom.models.file import load_model
from darkroom.recipes import use_recipe

Array = NDArray[np.float64]

PER_CLASS = 1000
"""Images per class of CIFAR-10."""
HELD_OUT = ("cat", "truck")
NUM_UNLIKE = 500
"""Maximum number of images of each unlike kind."""
RANK = 64
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("digits", {}),
    "cifar10": ("cifar10-fast", {"train.epochs": 12, "prepare.val_fraction": 0.15}),
    "ants-bees": ("probe", {}),
}
"""The recipe of each task, and what is changed of it."""


class Passed(NamedTuple):
    """What a model makes of images."""

    vectors: Array
    logits: Array


def run(model: Any, images: NDArray[np.uint8]) -> Passed:
    """Returns pooled features and logits of uint8 images ``(n, height, width, channels)``."""
    vectors, logits = [], []
    with torch.inference_mode():
        for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(64):
            vectors.append(model.network.head.pool(model.features(part)))
            logits.append(model.network.head.classify(vectors[-1]))
    return Passed(torch.cat(vectors).double().numpy(), torch.cat(logits).double().numpy())


def pictures(folder: Path, layout: PixelLayout, pattern: str = "*") -> NDArray[np.uint8]:
    """Returns files as ``prepare`` and ``predict`` read them."""
    files = sorted(path for path in folder.rglob(pattern) if path.suffix in (".jpg", ".png"))
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(len(files), NUM_UNLIKE)).astype(int)]
    return np.stack([decode(path.read_bytes(), layout)[1] for path in chosen])


def letters(layout: PixelLayout) -> NDArray[np.uint8]:
    """Returns letters, white on black, as the digits are."""
    images = []
    for number in range(520):
        picture = Image.new("L", (64, 64))
        font = ImageFont.truetype("DejaVuSans.ttf", 56 - number // 26) if False else ImageFont.load_default(60 - number // 26)
        ImageDraw.Draw(picture).text((32, 32), chr(65 + number % 26), 255, font, anchor="mm")
        images.append(np.asarray(picture.resize((layout.width, layout.height))))
    return np.stack(images)[..., None].repeat(layout.channels, axis=3)


def unlike(
    task: str, args: argparse.Namespace, folder: Path, test: NDArray[np.uint8], layout: PixelLayout
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    rng = np.random.default_rng(0)
    yield "noise", rng.integers(0, 256, (NUM_UNLIKE, *test.shape[1:]), np.uint8)
    yield "inverted", 255 - test[:NUM_UNLIKE]
    yield "shuffled pixels", rng.permuted(test[:NUM_UNLIKE].reshape(min(len(test), NUM_UNLIKE), -1, test.shape[3]), axis=1).reshape(test[:NUM_UNLIKE].shape)
    if task == "digits":
        yield "letters", letters(layout)
    if task == "cifar10":
        for name in HELD_OUT:
            yield f"class {name}", pictures(folder / "unlike" / name, layout)
    if args.camvid:
        yield "camvid", pictures(args.camvid, layout, "*.jpg")
    if args.cifar10:
        yield "cifar10", pictures(args.cifar10, layout)


# methods: (train, labels, number of classes) -> score function; larger is less familiar


def shrunk(vectors: Array) -> Array:
    from sklearn.covariance import ledoit_wolf

    return ledoit_wolf(vectors, assume_centered=True)[0]


def mahalanobis(train: Passed, labels, centred: bool = True):
    means = np.stack([train.vectors[labels == c].mean(0) for c in range(labels.max() + 1)]) if centred else train.vectors.mean(0)[None]
    centres = means[labels] if centred else means
    root = np.linalg.inv(np.linalg.cholesky(shrunk(train.vectors - centres)))
    centres = means @ root.T

    def score(p: Passed):
        z = p.vectors @ root.T
        return np.stack([((z - c) ** 2).sum(1) for c in centres]).min(0)

    return score, root.size + means.size


def relative(train, labels):
    a, n = mahalanobis(train, labels)
    b, m = mahalanobis(train, labels, False)
    return (lambda p: a(p) - b(p)), n + m


def reduced(train, labels, rank=RANK, centred=True):
    """PCA of all, Mahalanobis within, plus the residual in units of its variance."""
    mean = train.vectors.mean(0)
    x = train.vectors - mean
    values, axes = np.linalg.eigh(x.T @ x / len(x))
    axes, values = axes[:, ::-1][:, :rank], values[::-1]
    z = x @ axes
    means = np.stack([z[labels == c].mean(0) for c in range(labels.max() + 1)]) if centred else z.mean(0)[None]
    root = np.linalg.inv(np.linalg.cholesky(shrunk(z - (means[labels] if centred else 0))))
    left = max(x.shape[1] - axes.shape[1], 1)
    sigma = max(values[rank:].sum() / left, values.sum() * 1e-6 / len(values))

    def score(p):
        y = p.vectors - mean
        w = y @ axes
        rest = ((y - w @ axes.T) ** 2).sum(1) / sigma if x.shape[1] > rank else 0
        return np.stack([((w @ root.T - m) ** 2).sum(1) for m in means @ root.T]).min(0) + rest

    return score, mean.size + axes.size + root.size + means.size


def neighbours(train, labels, k=1, kept=1000, rank=None, normed=True):
    x = train.vectors
    norm = (lambda v: v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)) if normed else (lambda v: v)
    x = norm(x)
    if kept and len(x) > kept:
        x = x[np.random.default_rng(0).permutation(len(x))[:kept]]
    axes = None

    def score(p):
        y = norm(p.vectors)
        d = (y**2).sum(1)[:, None] - 2 * y @ x.T + (x**2).sum(1)
        return np.sqrt(np.maximum(np.sort(d, axis=1)[:, k - 1], 0))

    return score, x.size


def energy(train, labels):
    return (lambda p: -np.logaddexp.reduce(p.logits, axis=1)), 0


def confidence(train, labels):
    return (lambda p: -(p.logits - np.logaddexp.reduce(p.logits, axis=1)[:, None]).max(1)), 0


METHODS = {
    "confidence": confidence,
    "energy": energy,
    "mahalanobis": mahalanobis,
    "mahalanobis, one mean": lambda t, l: mahalanobis(t, l, False),
    "relative mahalanobis": relative,
    "reduced mahalanobis": reduced,
    "reduced 32": lambda t, l: reduced(t, l, 32),
    "reduced, one mean": lambda t, l: reduced(t, l, RANK, False),
    "knn 1": neighbours,
    "knn 5": lambda t, l: neighbours(t, l, 5),
    "knn 5 all": lambda t, l: neighbours(t, l, 5, None),
    "knn 5 raw": lambda t, l: neighbours(t, l, 5, normed=False),
}


def threshold_of(scores: Array) -> float:
    return float(np.sort(scores)[int(np.ceil(0.95 * (len(scores) + 1))) - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args()
    recipe, more = TASKS[args.task]
    with project_copy() as folder:
        params = folder / "params.yaml"
        use_recipe(recipe, folder / "recipes", params)
        given = {**more, **parse_changes(args.set)}
        if args.task == "digits":
            run_stage("fetch", folder)
        else:
            given |= {"data.fetch": [], "data.path": "data/mine"}
            files = sorted(f for f in args.data.rglob("*") if f.suffix == ".jpg")
            count: dict[str, int] = {}
            for file in files:
                name = file.parent.name
                count[name] = count.get(name, 0) + 1
                if args.task == "cifar10" and count[name] > PER_CLASS:
                    continue
                away = args.task == "cifar10" and name in HELD_OUT
                target = folder / ("unlike" if away else "data/mine") / name / f"{count[name]}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        if args.weights:
            shutil.copy(args.weights, folder / "models/weights")
            given["model.weights"] = f"models/weights/{args.weights.name}"
        change_params(params, given)
        for stage in ("prepare", "train"):
            print(stage, run_stage(stage, folder), flush=True)
        model, spec = load_model(folder / "models/model.safetensors")
        info = load_info(folder / "data/prepared/dataset.json")
        splits = {n: open_split(folder / "data/prepared" / n, info) for n in ("train", "val", "test")}
        images = {n: s.gather(np.arange(len(s))) for n, s in splits.items()}
        passed = {n: run(model, i) for n, i in images.items()}
        print({n: len(i) for n, i in images.items()}, (passed["test"].logits.argmax(1) == splits["test"].labels).mean())
        layout = PixelLayout(*info.input_size, info.channels, info.resize)
        kinds = {n: run(model, i) for n, i in unlike(args.task, args, folder, images["test"], layout)}
        if os.environ.get("SAVE"):
            np.savez(os.environ["SAVE"], labels=splits["train"].labels, **{f"{n}|{f}": getattr(p, f) for n, p in {**passed, **kinds}.items() for f in p._fields})
    compare(passed, kinds, splits["train"].labels)


def compare(passed, kinds, labels):
    from sklearn.metrics import roc_auc_score

    print(f"{'':24}", "kB   false", *(f"{n[:12]:>14}" for n in kinds))
    for name, method in METHODS.items():
        try:
            score, size = method(passed["train"], labels)
        except np.linalg.LinAlgError as e:
            print(name, e)
            continue
        val, test = score(passed["val"]), score(passed["test"])
        t = threshold_of(val)
        cells = []
        for p in kinds.values():
            s = score(p)
            auc = roc_auc_score(np.r_[np.zeros(len(test)), np.ones(len(s))], np.r_[test, s])
            cells.append(f"{auc:.3f} {np.mean(s > t):.3f}".rjust(14))
        print(f"{name:24} {size * 4 / 1e3:6.0f} {np.mean(test > t):.3f}", *cells)


if __name__ == "__main__":
    main()

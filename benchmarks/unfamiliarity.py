"""Compares ways to tell images unlike the training data, on images that a model was never meant for.

    python benchmarks/unfamiliarity.py digits --cifar10 CIFAR10
    python benchmarks/unfamiliarity.py cifar10 --data CIFAR10 --camvid CAMVID
    python benchmarks/unfamiliarity.py ants-bees --data HYMENOPTERA --weights mobilenet_v2.pth \
        --cifar10 CIFAR10 --camvid CAMVID

Names in capitals are folders with the unpacked images. Trains a model, then scores its test images and
those of other kinds by each method. ``auroc`` is the area under the ROC curve of unlike images against
test images, and ``detected`` the share of unlike images above the threshold of the validation images,
for each kind; ``false_alarms`` is the share of test images above it. CIFAR-10 is trained on eight
classes; the two others count as unlike. ``kilobytes`` is what a method stores. ``--vectors FILE.npz``
keeps what the model makes of the images, and takes it from there if the file exists, so that another
method needs no training.

Prints a line per method, and adds each to benchmarks/results/unfamiliarity.jsonl.
"""

import argparse
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import hardware, keep
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from project_copies import change_params, parse_changes, project_copy, run_stage
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from darkroom.dataset.info import load_info
from darkroom.dataset.prepared import open_split
from darkroom.decoding.decode import PixelLayout, decode
from darkroom.models.classifier import Classifier
from darkroom.models.file import load_model
from darkroom.recipes import use_recipe
from darkroom.training.unfamiliarity import fit, threshold_rank

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

PER_CLASS = 1000
"""Images per class of CIFAR-10."""
HELD_OUT = ("cat", "truck")
NUM_UNLIKE = 500
"""Maximum number of images of each unlike kind."""
NUM_NEIGHBOURS = 1000
"""Number of training images that nearest neighbours are looked for among."""
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


Score = Callable[[Passed], Array]
"""Returns how unlike the training images each image is, ``(n,)``, in any unit."""


def passed(model: Classifier, images: NDArray[np.uint8]) -> Passed:
    """Returns pooled features and logits of uint8 images ``(n, height, width, channels)``."""
    head, vectors = model.network.head, []
    with torch.inference_mode():
        for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(64):
            vectors.append(model.vectors(part))
        logits = head.classify(torch.cat(vectors))
    return Passed(torch.cat(vectors).double().numpy(), logits.double().numpy())


# images of other kinds


def pictures(folder: Path, layout: PixelLayout) -> NDArray[np.uint8]:
    """Returns files as ``prepare`` and ``predict`` read them, evenly spaced."""
    files = sorted(folder.rglob("*.jpg"))
    chosen = np.linspace(0, len(files) - 1, min(len(files), NUM_UNLIKE)).astype(int)
    return np.stack([decode(files[index].read_bytes(), layout)[1] for index in chosen])


def letters(layout: PixelLayout) -> NDArray[np.uint8]:
    """Returns letters of several sizes, white on black, as the digits are."""
    images = []
    for number in range(NUM_UNLIKE):
        picture, font = Image.new("L", (64, 64)), ImageFont.load_default(60 - number // 26)
        ImageDraw.Draw(picture).text((32, 32), chr(65 + number % 26), 255, font, anchor="mm")
        images.append(np.asarray(picture.resize((layout.width, layout.height))))
    return np.stack(images)[..., None].repeat(layout.channels, axis=3)


def unlike(
    args: argparse.Namespace, folder: Path, test: NDArray[np.uint8], layout: PixelLayout
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yields the name and the images of each kind."""
    rng, test = np.random.default_rng(0), test[:NUM_UNLIKE]
    yield "noise", rng.integers(0, 256, (NUM_UNLIKE, *test.shape[1:]), np.uint8)
    yield "inverted", 255 - test
    by_pixel = rng.permuted(test.reshape(len(test), -1, test.shape[3]), axis=1)
    yield "shuffled pixels", by_pixel.reshape(test.shape)
    if args.task == "digits":
        yield "letters", letters(layout)
    if args.task == "cifar10":
        for name in HELD_OUT:
            yield f"class {name}", pictures(folder / "unlike" / name, layout)
    if args.camvid:
        yield "camvid", pictures(args.camvid / "images", layout)
    if args.cifar10:
        yield "cifar10", pictures(args.cifar10, layout)


# methods


def confidence(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """Hendrycks and Gimpel (2017): the highest probability."""
    return lambda images: -(images.logits - logsumexp(images.logits, 1, keepdims=True)).max(axis=1), 0


def energy(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """Liu et al. (2020)."""
    return lambda images: -logsumexp(images.logits, axis=1), 0


def mahalanobis(train: Passed, labels: Labels, val: Passed, by_class: bool = True) -> tuple[Score, int]:
    """Lee et al. (2018), with the covariance of Ledoit and Wolf; or with one mean for all classes."""
    groups = labels if by_class else np.zeros_like(labels)
    means = np.stack([train.vectors[groups == group].mean(axis=0) for group in np.unique(groups)])
    root = np.linalg.inv(
        np.linalg.cholesky(ledoit_wolf(train.vectors - means[groups], assume_centered=True)[0])
    )
    centres = means @ root.T

    def score(images: Passed) -> Array:
        whitened = images.vectors @ root.T
        return np.stack([((whitened - centre) ** 2).sum(axis=1) for centre in centres]).min(axis=0)

    return score, root.size + centres.size


def one_mean(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    return mahalanobis(train, labels, val, by_class=False)


def normalised(vectors: Array) -> Array:
    """Returns vectors of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def normalised_mahalanobis(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """Müller and Hein (2025)."""
    score, size = mahalanobis(train._replace(vectors=normalised(train.vectors)), labels, val)
    return lambda images: score(images._replace(vectors=normalised(images.vectors))), size


def relative(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """Ren et al. (2021)."""
    nearest, size = mahalanobis(train, labels, val)
    overall, more = one_mean(train, labels, val)
    return lambda images: nearest(images) - overall(images), size + more


def darkroom(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """Normalised features, Mahalanobis's distance in 64 principal components, and what they lose."""
    vectors = [torch.from_numpy(part.vectors).float() for part in (train, val)]
    fitted = fit(vectors[0], labels, vectors[1])
    assert fitted is not None
    size = sum(buffer.numel() for buffer in fitted.module.buffers())

    def score(images: Passed) -> Array:
        return fitted.module(torch.from_numpy(images.vectors).float()).double().numpy()

    return score, size


def vim(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """Wang et al. (2022): energy against the part outside of the principal space, of half the size.

    The space is centred on the mean of the features, since not every head has the origin of the paper.
    """
    mean = train.vectors.mean(axis=0)
    _, axes = np.linalg.eigh((train.vectors - mean).T @ (train.vectors - mean))
    axes = axes[:, : axes.shape[1] // 2]  # the eigenvalues ascend

    def residual(images: Passed) -> Array:
        return np.linalg.norm((images.vectors - mean) @ axes, axis=1)

    scale = train.logits.max(axis=1).mean() / residual(train).mean()
    return lambda images: scale * residual(images) - logsumexp(images.logits, axis=1), axes.size


def darkroom_or_energy(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """The larger of the two, each with a median of 0 and a threshold of 1 on the validation images."""
    distance, size = darkroom(train, labels, val)
    parts = [distance, energy(train, labels, val)[0]]
    ranges = [np.quantile(part(val), [0.5, 0.95]) for part in parts]

    def score(images: Passed) -> Array:
        pairs = zip(parts, ranges, strict=True)
        return np.max([(part(images) - low) / (high - low) for part, (low, high) in pairs], axis=0)

    return score, size


def darkroom_and_energy(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    """The sum of the two, each standardised on the validation images."""
    distance, size = darkroom(train, labels, val)
    parts = [distance, energy(train, labels, val)[0]]
    scales = [(part(val).mean(), part(val).std()) for part in parts]

    def score(images: Passed) -> Array:
        pairs = zip(parts, scales, strict=True)
        return np.sum([(part(images) - mean) / std for part, (mean, std) in pairs], axis=0)

    return score, size


def neighbour(train: Passed, labels: Labels, val: Passed, rank: int = 1) -> tuple[Score, int]:
    """Sun et al. (2022): the distance of the nearest training image, of normalised features."""
    known = normalised(train.vectors)
    known = known[np.random.default_rng(0).permutation(len(known))[:NUM_NEIGHBOURS]]

    def score(images: Passed) -> Array:
        return -np.sort(normalised(images.vectors) @ known.T, axis=1)[:, -rank]

    return score, known.size


def fifth_neighbour(train: Passed, labels: Labels, val: Passed) -> tuple[Score, int]:
    return neighbour(train, labels, val, rank=5)


METHODS = (
    *(confidence, energy, neighbour, fifth_neighbour),
    *(mahalanobis, one_mean, relative, normalised_mahalanobis, darkroom),
    *(vim, darkroom_or_energy, darkroom_and_energy),
)


def compare(found: dict[str, Passed], labels: Labels, kinds: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the figures of each method."""
    rank = threshold_rank(len(found["val"].vectors))
    assert rank is not None
    for method in METHODS:
        score, size = method(found["train"], labels, found["val"])
        test = score(found["test"])
        threshold = np.sort(score(found["val"]))[rank - 1]
        scores = {kind: score(found[kind]) for kind in kinds}
        yield {
            "method": method.__name__,
            "auroc": {kind: _auroc(test, values) for kind, values in scores.items()},
            "detected": {kind: _share(values > threshold) for kind, values in scores.items()},
            "false_alarms": _share(test > threshold),
            "kilobytes": round(size * 4 / 1000, 1),
        }


def _auroc(test: Array, other: Array) -> float:
    truth = np.repeat([0, 1], [len(test), len(other)])
    return round(float(roc_auc_score(truth, np.concatenate([test, other]))), 4)


def _share(flags: NDArray[np.bool_]) -> float:
    return round(float(flags.mean()), 4)


def train_and_pass(args: argparse.Namespace) -> dict[str, NDArray[Any]]:
    """Returns vectors and logits of all images, and the labels of the training images."""
    recipe, more = TASKS[args.task]
    with project_copy() as folder:
        use_recipe(recipe, folder / "recipes", folder / "params.yaml")
        given = {**more, **parse_changes(args.set)}
        if args.task != "digits":
            given |= {"data.fetch": [], "data.path": "data/mine"}
            copy_images(args, folder)
        if args.weights:
            shutil.copy(args.weights, folder / "models/weights")
            given["model.weights"] = f"models/weights/{args.weights.name}"
        change_params(folder / "params.yaml", given)
        for stage in ("fetch", "prepare", "train"):
            if stage != "fetch" or args.task == "digits":
                run_stage(stage, folder)
        model, _ = load_model(folder / "models/model.safetensors")
        info = load_info(folder / "data/prepared/dataset.json")
        splits = {name: open_split(folder / "data/prepared" / name, info) for name in info.counts}
        images = {name: split.gather(np.arange(len(split))) for name, split in splits.items()}
        layout = PixelLayout(*info.input_size, 1 if info.channels == 1 else 3, info.resize)
        images |= unlike(args, folder, images["test"], layout)
        return {
            "labels": splits["train"].labels,
            **{
                f"{name}|{part}": values
                for name, pixels in images.items()
                for part, values in passed(model, pixels)._asdict().items()
            },
        }


def copy_images(args: argparse.Namespace, folder: Path) -> None:
    """Copies the images of a task into the project, those of held-out classes beside it."""
    counts: Counter[str] = Counter()
    for file in sorted(args.data.rglob("*.jpg")):
        name = file.parent.name
        counts[name] += 1
        if args.task == "cifar10" and counts[name] > PER_CLASS:
            continue
        is_held_out = args.task == "cifar10" and name in HELD_OUT
        target = folder / ("unlike" if is_held_out else "data/mine") / name / f"{counts[name]}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, help="folder with a folder per class")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    args = parser.parse_args()
    if args.vectors and args.vectors.exists():
        arrays = dict(np.load(args.vectors))
    else:
        arrays = train_and_pass(args)
        if args.vectors:
            np.savez(args.vectors, **arrays)  # type: ignore[arg-type]
    labels = arrays.pop("labels")
    names = list(dict.fromkeys(key.partition("|")[0] for key in arrays))
    found = {name: Passed(arrays[f"{name}|vectors"], arrays[f"{name}|logits"]) for name in names}
    splits = ("train", "val", "test")
    task = {"task": args.task, **{f"{name}_images": len(found[name].vectors) for name in splits}}
    model = {"features": found["test"].vectors.shape[1], "changes": parse_changes(args.set)}
    for figures in compare(found, labels, [name for name in names if name not in splits]):
        keep("unfamiliarity", {**task, **model, **figures, **hardware()}, args.dry)


if __name__ == "__main__":
    main()

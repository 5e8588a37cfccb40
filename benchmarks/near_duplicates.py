"""Measures the search for near duplicates: its cost, its false alarms and what it finds.

    python benchmarks/near_duplicates.py [FOLDER]

Prints a JSON line and adds it to benchmarks/results/near-duplicates.jsonl. FOLDER holds
cifar10-jpeg.tar.xz (60,000 images of 32 x 32 pixels), hymenoptera.tar (397 photographs) and camvid.tar
(701 frames of four drives); what is not there is left out. The cost is measured on made images and on
a crowd of look-alikes. False alarms are the pairs among images of which none is a copy of another, and
what is found is the share of the copies planted among them, by coarse cells alone and by the rule.
"""

import io
import multiprocessing
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from machine import hardware, keep
from numpy.typing import NDArray
from PIL import Image

from darkroom.preparation.duplicates import (
    NearDuplicates,
    comparable_cells,
    difference,
    group_of,
    near_duplicates,
)
from darkroom.preparation.measures import perceptual_hash

sys.path.append(str(Path(__file__).parents[1] / "tests" / "unit"))
from planted import photographs, plant, strokes

THRESHOLD = 0.1
CHUNK = 64
CHANGES = ("jpeg", "smaller", "larger", "brightness", "noise", "all")
"""Of planted copies; ``all`` is brightness, size, noise and JPEG one after the other."""


def made_images(num_images: int, seed: int) -> NDArray[np.uint8]:
    """Returns smooth random pictures, uint8 ``(n, 32, 32, 3)``."""
    rng = np.random.default_rng(seed)
    images = np.empty((num_images, 32, 32, 3), np.uint8)
    for start in range(0, num_images, 1_000):
        block = images[start : start + 1_000]
        values = np.full(block.shape, 128, np.float32)
        for side in (2, 4, 8, 16):
            coarse = rng.normal(0, 80 / side, (len(block), side, side, 3)).astype(np.float32)
            values += coarse.repeat(32 // side, axis=1).repeat(32 // side, axis=2)
        block[:] = np.clip(values, 10, 245)
    return images


def noisy(images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Returns copies with noise of -5..5 grey levels in each value."""
    copies = images.copy()
    for block in np.array_split(copies, max(1, len(images) // 1_000)):
        noise = np.random.default_rng((seed, len(block))).integers(-5, 6, block.shape)
        block[:] = np.clip(block + noise, 0, 255)
    return copies


def with_copies(num_images: int) -> NDArray[np.uint8]:
    """Returns made images of which the last tenth are near duplicates of the first."""
    originals = made_images(num_images - num_images // 10, seed=0)
    return np.concatenate([originals, noisy(originals[: num_images // 10], seed=1)])


def crowd(num_images: int) -> NDArray[np.uint8]:
    """Returns pictures of one scene that differ by noise alone."""
    return noisy(np.repeat(made_images(1, seed=2), num_images, axis=0), seed=3)


def image_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Image.Image:
    file = tar.extractfile(member)
    assert file is not None, member.name
    return Image.open(io.BytesIO(file.read()))


def cifar10(archive: Path) -> NDArray[np.uint8]:
    images = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith((".jpg", ".jpeg")):
                image = image_of(tar, member)
                images.append(np.asarray(image.convert("RGB")))
    return np.stack(images)


def pictures(archive: Path, side: int) -> NDArray[np.uint8]:
    """Returns the photographs of a tar, squeezed to squares."""
    images = []
    with tarfile.open(archive) as tar:
        for member in sorted(tar, key=lambda member: member.name.rpartition("/")[2]):
            if member.name.lower().endswith((".jpg", ".jpeg")):
                image = image_of(tar, member).convert("RGB")
                images.append(np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)))
    return np.stack(images)


def find(images: NDArray[np.uint8]) -> NearDuplicates:
    hashes = np.concatenate(
        [perceptual_hash(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    )
    return near_duplicates(hashes, lambda indices: images[indices], THRESHOLD, lambda _: None)


def reliability(images: NDArray[np.uint8], num_copies: int) -> dict[str, object]:
    """Counts pairs among the images, and finds copies of the first ones planted among all of them."""
    rng = np.random.default_rng(0)
    side = images.shape[1]
    copies = []
    for index in range(num_copies):
        picture = Image.fromarray(images[index].squeeze())
        changed = plant(picture, CHANGES[index % len(CHANGES)], rng)
        copies.append(np.asarray(changed.resize((side, side), Image.Resampling.BILINEAR)))
    planted = np.stack(copies).reshape(num_copies, *images.shape[1:])
    alone, found = find(images), find(np.concatenate([images, planted]))
    cells = [comparable_cells(part) for part in (images[:num_copies], planted)]
    is_coarse = difference(*cells) <= THRESHOLD
    is_found = np.zeros(num_copies, bool)
    is_found[found.pairs[found.pairs[:, 1] - found.pairs[:, 0] == len(images), 0]] = True
    kinds = np.arange(num_copies) % len(CHANGES)
    return {
        "num_images": len(images),
        "pairs_by_coarse_cells": int((alone.difference <= THRESHOLD).sum()) + alone.num_look_alikes,
        "pairs_by_the_rule": len(alone.pairs),
        "num_copies": num_copies,
        "found_by_coarse_cells": _shares(is_coarse, kinds),
        "found_by_the_rule": _shares(is_found, kinds),
    }


def _shares(is_found: NDArray[np.bool_], kinds: NDArray[np.int64]) -> dict[str, float]:
    return {name: round(float(is_found[kinds == kind].mean()), 3) for kind, name in enumerate(CHANGES)}


def peak_bytes() -> int:
    """Returns the most memory this process has held since the last reset (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(make: Callable[..., NDArray[np.uint8]], argument: object) -> dict[str, object]:
    """Searches the images that ``make(argument)`` returns, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, make, argument).result()


def _measure(make: Callable[..., NDArray[np.uint8]], argument: object) -> dict[str, object]:
    images = make(argument)
    started = time.perf_counter()
    hashes = np.concatenate(
        [perceptual_hash(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    )
    hashed = time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_bytes()
    found = near_duplicates(hashes, lambda indices: images[indices], THRESHOLD, lambda _: None)
    seconds = time.perf_counter() - hashed
    groups = np.bincount(group_of(len(images), found.pairs))
    return {
        "num_images": len(images),
        "hash_microseconds_per_image": round((hashed - started) / len(images) * 1e6, 1),
        "search_seconds": round(seconds, 2),
        "search_peak_bytes_per_image": round((peak_bytes() - before) / len(images)),
        "num_pairs": len(found.pairs),
        "num_groups": int((groups > 1).sum()),
        "num_crowded": found.num_crowded,
    }


def main() -> None:
    figures = {
        "made, 10k": measure(with_copies, 10_000),
        "made, 100k": measure(with_copies, 100_000),
        "made, 400k": measure(with_copies, 400_000),
        "crowd, 100k": measure(crowd, 100_000),
    }
    copies: dict[str, object] = {
        "strokes of 28 x 28, as many as MNIST has of the digit 1": reliability(strokes(7_877), 600),
        "strokes of 28 x 28, 30,000": reliability(strokes(30_000, seed=7), 600),
        "strokes of 28 x 28, 300": reliability(strokes(300, seed=8), 120),
        "strokes of 64 x 64": reliability(strokes(3_000, 64), 300),
        "made photographs of 32 x 32": reliability(photographs(1_000, 32), 300),
    }
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    if (archive := folder / "cifar10-jpeg.tar.xz").exists():
        figures["cifar10"] = measure(cifar10, archive)
        copies["CIFAR-10"] = reliability(cifar10(archive), 1_200)
    for name in ("hymenoptera", "camvid"):
        if (archive := folder / f"{name}.tar").exists():
            for side in (32, 64, 224):
                copies[f"{name}, {side} x {side}"] = reliability(pictures(archive, side), 180)
    keep("near-duplicates", {"threshold": THRESHOLD, **figures, "reliability": copies, **hardware()})


if __name__ == "__main__":
    main()

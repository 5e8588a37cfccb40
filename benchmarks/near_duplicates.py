"""Measures the search for near duplicates on made images, on a crowd of look-alikes, and on CIFAR-10.

    python benchmarks/near_duplicates.py [cifar10-jpeg.tar.xz]

Prints a JSON line and adds it to benchmarks/results/near-duplicates.jsonl. The archive holds JPEGs of
32 x 32 pixels; without it only made images are searched.
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

from darkroom.data.duplicates import group_of, near_duplicates
from darkroom.data.measures import perceptual_hash

THRESHOLD = 0.1
CHUNK = 64


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


def cifar10(archive: str) -> NDArray[np.uint8]:
    images = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith((".jpg", ".jpeg")):
                image = Image.open(io.BytesIO(tar.extractfile(member).read()))
                images.append(np.asarray(image.convert("RGB")))
    return np.stack(images)


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
    if len(sys.argv) > 1:
        figures["cifar10"] = measure(cifar10, sys.argv[1])
    keep("near-duplicates", {"threshold": THRESHOLD, **figures, **hardware()})


if __name__ == "__main__":
    main()

"""Measures prepare: throughput against one thread's decoding, and memory against the number of images.

    python benchmarks/prepare.py [--sizes 1000 10000 100000] [--cifar ../shared/data/cifar10-jpeg.tar.xz]

For each size it makes photograph-like JPEG files of 500 x 375 pixels, runs the stage as DVC would, in a
project of its own with an empty cache, and again with 1 % more images. It prints one JSON line a
collection and adds it to benchmarks/results/prepare.jsonl.

- ``decode_over_one_thread_times_cores``: images/s of the stage's decoding pass, over those of one thread
  that only reads, decodes and resizes, times the cores;
- ``decode_over_all_cores``: the same over such a thread on each core at once, which is what the hardware
  gives. Machines change their pace within minutes, so the stage is stopped (SIGSTOP) every ten seconds,
  and both are measured while it waits; their median counts, and the stage's clock leaves the pauses out;
- ``decode_over_plain_pillow_times_cores``: over a thread that opens, converts and resizes with Pillow's
  own functions, as a script would;
- ``stage_over_one_thread_times_cores``: of the whole stage, from Python's start to the report;
- ``anonymous_mib``: peak of the stage and its workers together, sampled every 0.2 s.
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from machine import hardware, keep, num_cores
from PIL import Image
from ruamel.yaml import YAML

from darkroom.decoding.decode import PixelLayout, decode

NUM_CLASSES = 10
SAMPLE = 1_000
PAUSE_EVERY_SECONDS = 10
IMAGE_SIZE = 64

DecodeOne = Callable[[Path, PixelLayout], None]


def make_photographs(folder: Path, numbers: range) -> None:
    """Writes JPEG files of 500 x 375 pixels, each a smooth picture of its own with grain."""
    for number in numbers:
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        grain = random.integers(-12, 13, (375, 500, 1), dtype=np.int16)
        path = folder / f"class{number % NUM_CLASSES}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8)).save(path, quality=85)


def make_collection(folder: Path, numbers: range) -> None:
    parts = [numbers[start : start + 500] for start in range(0, len(numbers), 500)]
    with ProcessPoolExecutor(num_cores()) as pool:
        list(pool.map(make_photographs, [folder] * len(parts), parts))
    os.sync()  # else writing them back would take its time from what is measured next


def decode_checked(path: Path, layout: PixelLayout) -> None:
    decode(path.read_bytes(), layout)


def decode_plainly(path: Path, layout: PixelLayout) -> None:
    """Decodes with Pillow alone, without darkroom's checks."""
    with Image.open(path) as image:
        size = (layout.width, layout.height)
        np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def decode_all(paths: list[Path], layout: PixelLayout, decode_one: DecodeOne = decode_checked) -> float:
    """Returns images/s of reading, decoding and resizing in one thread, and nothing else."""
    began = time.perf_counter()
    for path in paths:
        decode_one(path, layout)
    return len(paths) / (time.perf_counter() - began)


class BareRates:
    """Measures images/s of one thread alone, and the sum of one thread on each core at once.

    The second is what the hardware gives: cores that share a machine slow each other.
    """

    def __init__(self, folder: Path, layout: PixelLayout) -> None:
        self._found = sorted(folder.rglob("*.jpg"))
        self._layout = layout
        self._taken = 0
        self._cores = num_cores()
        self._pool = ProcessPoolExecutor(self._cores)
        self._on_all_cores([self._sample(20) for _ in range(self._cores)])  # start all of them
        self.alone: list[float] = []
        self.plain: list[float] = []
        self.together: list[float] = []

    def measure(self) -> None:
        size = min(SAMPLE, len(self._found) // (self._cores + 2))
        for rates, decode_one in ((self.alone, decode_checked), (self.plain, decode_plainly)):
            alone = self._pool.submit(decode_all, self._sample(size), self._layout, decode_one)
            rates.append(alone.result())
        self.together.append(sum(self._on_all_cores([self._sample(size) for _ in range(self._cores)])))

    def _on_all_cores(self, samples: list[list[Path]]) -> list[float]:
        return list(self._pool.map(decode_all, samples, [self._layout] * len(samples)))

    def _sample(self, size: int) -> list[Path]:
        """Returns other files each time: what was read just before is quicker to read again."""
        places = range(self._taken, self._taken + size)
        self._taken += size
        # steps of a prime, so that a sample comes from all over the collection
        return [self._found[place * 7919 % len(self._found)] for place in places]


class AnonymousMemory(threading.Thread):
    """Samples the anonymous memory of a process and all its children; ``peak_bytes`` at the end."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.peak_bytes = 0

    def run(self) -> None:
        while Path(f"/proc/{self._pid}").exists():
            total = sum(anonymous_bytes(pid) for pid in family(self._pid))
            self.peak_bytes = max(self.peak_bytes, total)
            time.sleep(0.2)


def family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def anonymous_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def run_stage(project: Path, rates: BareRates | None = None) -> dict[str, Any]:
    """Runs the stage, stopped now and then for ``rates``.

    Returns:
        Wall seconds of the stage and of its phases without the pauses, images/s of its decoding pass,
        and its peak memory.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "stages/prepare.py"],
        cwd=project,
        env={**os.environ, "DARKROOM_TRACKING": "off", "PYTHONPATH": str(project / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        memory = AnonymousMemory(process.pid)
        memory.start()
        assert process.stderr
        log = Log(process.stderr)
        log.start()
        pauses = list(pause_for(process, rates)) if rates else []
        log.join()
    seconds = time.perf_counter() - began - sum(end - start for start, end in pauses)
    if process.returncode != 0:
        sys.exit("\n".join(line for _, line in log.lines))
    phases = {}
    for ended, line in log.lines:
        if phase := re.match(r"(\w[\w ]*): ([\d,]+) images in ([\d.]+) s", line):
            started = ended - float(phase[3])
            paused = sum(max(0, min(end, ended) - max(start, started)) for start, end in pauses)
            num_images = int(phase[2].replace(",", ""))
            phases[phase[1]] = (num_images, ended - started - paused)
    num_decoded, decode_seconds = phases.get("decode", (0, 0))
    return {
        "seconds": round(seconds, 2),
        # no phase where it took less than two seconds
        "decode_images_per_second": round(num_decoded / decode_seconds, 1) if num_decoded else None,
        "anonymous_mib": round(memory.peak_bytes / 2**20, 1),
        "phases": {name: round(took, 1) for name, (_, took) in phases.items()},
    }


def pause_for(process: subprocess.Popen, rates: BareRates) -> Iterator[tuple[float, float]]:
    """Stops the stage every ten seconds to measure ``rates``; yields start and end of each pause."""
    while True:
        try:
            process.wait(PAUSE_EVERY_SECONDS)
            return
        except subprocess.TimeoutExpired:
            pass
        start = time.perf_counter()
        stopped = list(family(process.pid))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        rates.measure()
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        yield start, time.perf_counter()


class Log(threading.Thread):
    """Reads ``lines``, each with the time of its arrival."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.lines: list[tuple[float, str]] = []

    def run(self) -> None:
        for line in self._stream:
            self.lines.append((time.perf_counter(), line.rstrip()))


def measure(name: str, collection: Path, project: Path, image_size: int) -> dict[str, Any]:
    """Measures one collection, which lies in the project's folder ``data/images``."""
    shutil.rmtree(project / ".darkroom", ignore_errors=True)
    layout = PixelLayout(image_size, image_size, 3, "stretch")
    num_images = sum(len(files) for _, _, files in os.walk(collection))
    rates = BareRates(collection, layout)
    rates.measure()
    result = run_stage(project, rates)
    rates.measure()
    one_thread = statistics.median(rates.alone) * num_cores()
    plain = statistics.median(rates.plain) * num_cores()
    all_cores = statistics.median(rates.together)
    rate = result["decode_images_per_second"]
    return {
        "collection": name,
        "num_images": num_images,
        "decode_over_one_thread_times_cores": rate and round(rate / one_thread, 3),
        "decode_over_all_cores": rate and round(rate / all_cores, 3),
        "decode_over_plain_pillow_times_cores": rate and round(rate / plain, 3),
        "stage_over_one_thread_times_cores": round(num_images / result["seconds"] / one_thread, 3),
        **result,
        "one_thread_images_per_second": [round(rate, 1) for rate in rates.alone],
        "plain_pillow_images_per_second": [round(rate, 1) for rate in rates.plain],
        "all_cores_images_per_second": [round(rate, 1) for rate in rates.together],
    }


def make_project(folder: Path, image_size: int, **prepare: object) -> None:
    """Copies what the stage needs, with params for the images in data/images."""
    shutil.copytree("stages", folder / "stages")
    shutil.copy("dvc.yaml", folder)
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["data"] |= {"fetch": [], "path": "data/images"}
    params["prepare"] |= {"image_size": image_size, "channels": 3, **prepare}
    yaml.dump(params, folder / "params.yaml")
    shutil.copytree("src", folder / "src")  # so that the project may be edited meanwhile


def report(figures: dict[str, object]) -> None:
    keep("prepare", {**figures, **hardware()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--cifar", type=Path, help="cifar10-jpeg.tar.xz")
    parser.add_argument("--folder", type=Path, help="where to make the images (5 GB for 100,000)")
    arguments = parser.parse_args()
    with TemporaryDirectory(dir=arguments.folder) as folder:
        project = Path(folder) / "made"
        made = 0
        make_project(project, IMAGE_SIZE)
        for size in sorted(arguments.sizes):
            make_collection(project / "data" / "images", range(made, size))
            made = size
            report(measure(f"made {size}", project / "data" / "images", project, IMAGE_SIZE))
        if made:
            make_collection(project / "data" / "images", range(made, made + made // 100))
            grown = run_stage(project)
            report({"collection": f"made {made}, 1 % more", **grown})
        if arguments.cifar:
            project = Path(folder) / "cifar"
            make_project(project, 32, duplicates="keep")
            with tarfile.open(arguments.cifar) as tar:
                tar.extractall(project / "data", filter="data")
            (project / "data" / "cifar10").rename(project / "data" / "images")
            report(measure("CIFAR-10", project / "data" / "images", project, 32))


if __name__ == "__main__":
    main()

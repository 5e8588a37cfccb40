"""Measures the evaluation report: the cost of writing it, its size, and how long a browser opens it.

    python benchmarks/report.py

Prints JSON lines and adds them to benchmarks/results/report.jsonl. Images and logits are made: noise
around a pattern per class, and a model that is right in about three of four cases. Needs chromium and
chromedriver. Opening ends when the first frame after loading is drawn; the file is in the page cache.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import hardware, keep
from numpy.typing import NDArray

from darkroom.catalogue.counting import blank_spec
from darkroom.compute.determinism import set_determinism
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.evaluation.evaluate import evaluate
from darkroom.evaluation.explorer import explore
from darkroom.evaluation.hardest import hardest_images
from darkroom.evaluation.heatmaps import add_heatmaps
from darkroom.evaluation.plots import write_plots
from darkroom.evaluation.report import write_report
from darkroom.models.factory import make_classifier

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "browser"))

from browser import Browser, chromium

NUM_IMAGES = 10_000
NUM_OPENED = 5
OPENED = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
DRAWN = (
    "const done = arguments[0];"
    "requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))"
)
CLICK = (
    "const started = performance.now();"
    "document.querySelector('.matrix td.taken:not(.right) button').click();"
    "document.body.getBoundingClientRect(); return performance.now() - started"
)


def write(folder: Path, side: int, num_classes: int) -> Shards:
    """Writes images with the coarse and fine structure of photographs."""
    random = np.random.default_rng(0)
    patterns = random.integers(60, 190, (num_classes, side // 8, side // 8, 3))
    with ShardWriter(folder, (side, side, 3), NUM_IMAGES) as writer:
        for index in range(NUM_IMAGES):
            coarse = patterns[index % num_classes] + random.normal(0, 25, patterns.shape[1:])
            image: NDArray[np.float64] = coarse.repeat(8, axis=0).repeat(8, axis=1)
            image += random.normal(0, 8, image.shape)
            path = f"class_{index % num_classes:04d}/image_{index:06d}.jpg"
            writer.add(image.clip(0, 255).astype(np.uint8).tobytes(), index % num_classes, path)
    return Shards(folder)


def opened(browser: Browser, address: str) -> dict[str, float]:
    """Returns milliseconds: until the page is loaded, is drawn, and shows the images of a cell."""
    loaded, drawn, clicked = [], [], []
    for _ in range(NUM_OPENED):
        browser.open(address)
        drawn.append(browser.driver.execute_async_script(DRAWN))
        loaded.append(browser.driver.execute_script(OPENED))
        clicked.append(browser.driver.execute_script(CLICK))
    medians = {"loaded": loaded, "drawn": drawn, "cell_clicked": clicked}
    return {name: round(statistics.median(times), 1) for name, times in medians.items()}


def measure(folder: Path, browser: Browser, side: int, num_classes: int) -> None:
    shards = write(folder / "test", side, num_classes)
    spec = blank_spec(
        name="cnn",
        width=32,
        depth=3,
        num_classes=num_classes,
        input_size=(side, side),
        channels=3,
    )
    torch.manual_seed(0)
    model = make_classifier(spec).eval()
    targets = torch.arange(NUM_IMAGES) % num_classes
    logits = 2 * torch.randn(NUM_IMAGES, num_classes, dtype=torch.float64)
    logits[torch.arange(NUM_IMAGES), targets] += 4 + np.log2(num_classes) / 2
    evaluation = evaluate(spec, targets, logits, shards.paths)
    hardest = hardest_images(evaluation, shards)
    seconds = {}
    for name in ("heatmaps", "explore", "report"):
        started = time.process_time()
        if name == "heatmaps":
            hardest = add_heatmaps(hardest, model, evaluation)
        elif name == "explore":
            explorer = explore(evaluation, shards)
        else:
            write_plots(evaluation, hardest, None, folder / "plots")
            started = time.process_time()
            write_report(
                evaluation, hardest, explorer, spec, [], folder / "plots", folder / "report.html"
            )
        seconds[name] = round(time.process_time() - started, 3)
    keep(
        "report",
        {
            "images": NUM_IMAGES,
            "side": side,
            "classes": num_classes,
            "accuracy": evaluation.metrics["accuracy"],
            "bytes": (folder / "report.html").stat().st_size,
            "json_bytes": len(explorer.json),
            "listed": len(explorer.indices),
            "pictures": explorer.num_pictures,
            "cpu_seconds": seconds,
            "milliseconds": opened(browser, (folder / "report.html").as_uri()),
            "browser": browser.driver.capabilities["browserVersion"],
            **hardware(),
        },
    )


def main() -> None:
    set_determinism(0, 1)
    for side, num_classes in ((32, 10), (64, 1_000)):
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryDirectory() as profile,
            chromium(Path(folder), Path(profile)) as browser,
        ):
            measure(Path(folder), browser, side, num_classes)


if __name__ == "__main__":
    main()

"""The evaluation report of a model of masks in a Chromium: colours, pictures, narrow windows, dark mode.

Screenshots are left in .darkroom/screenshots/, or in the folder SCREENSHOTS.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from browser import Browser, chromium, needs_chromium
from numpy.typing import NDArray
from project import ROOT
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from torch import Tensor, nn

from darkroom.catalogue.counting import blank_spec
from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.evaluation.inputs import Inputs
from darkroom.evaluation.targets.mask import evaluate_masks
from darkroom.features.store import Store
from darkroom.params import load_params
from darkroom.reporting.palette import OPACITY, palette
from darkroom.void import VOID

pytestmark = [pytest.mark.slow, needs_chromium]

SIDE = 48
NAMES = ("ground", "disc", "</script><script>document.title='broken'</script>", "in no test image")


class ByColour(nn.Module):
    """Finds the class whose colour is closest to that of each pixel: a model that needs no training."""

    def __init__(self, colours: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("colours", torch.from_numpy(colours))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, num_classes, height, width)`` of uint8 ``(n, 3, height, width)``."""
        differences = images.float()[:, None] - self.colours[None, :, :, None, None]
        return -differences.square().sum(dim=2) / 500


@dataclass(frozen=True)
class Written:
    address: str
    test: dict[str, Any]
    """As in metrics.json."""


def write(
    folder: Path, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.uint8]],
    colours: NDArray[np.float32], names: Sequence[str],
) -> Written:  # fmt: skip
    """Evaluate ``ByColour`` on images and masks, and write its report into ``folder``."""
    shape = images[0].shape
    with ShardWriter(
        folder / "test", shape, len(images), target="mask", num_classes=len(names)
    ) as writer:
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            shown = np.unique(mask[mask != VOID]).tolist()
            path = f"images/{number:03d} <b>.png"
            writer.add(image.tobytes(), shown, path, mask=np.ascontiguousarray(mask))
    spec = replace(
        blank_spec(name="unet", num_classes=len(names), input_size=shape[:2], channels=3),
        class_names=tuple(names),
        target="mask",
    )
    counts = {split: dict.fromkeys(names, 1) for split in ("train", "val", "test")}
    info = DatasetInfo(
        format_version=2, class_names=list(names), target="mask", counts=counts, pixels=counts,
        labels_per_image={}, input_size=shape[:2], channels=3, resize="stretch",
        mean=[0.5] * 3, std=[0.25] * 3, digest="",
    )  # fmt: skip
    test = Shards(folder / "test")
    manifest = pa.table({name: pa.array([], pa.string()) for name in ("path", "group", "duplicate_of")})
    options = load_params(ROOT / "params.yaml").evaluate
    before = Path.cwd()
    os.chdir(folder)
    try:
        outcome = evaluate_masks(
            Inputs(options, ByColour(colours), spec, info, test, test, test, manifest,
                   torch.device("cpu"), 1, Store(folder, 1)),  # type: ignore[arg-type]
        )  # fmt: skip
    finally:
        os.chdir(before)
    return Written((folder / "reports/evaluate/report.html").as_uri(), outcome.test)


COLOURS = np.array([(60, 60, 60), (130, 130, 130), (200, 200, 200), (-900, 0, 0)], np.float32)


def draw() -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Noisy grey images of discs and squares, the noisier the later, whose masks have void lines."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    images, masks = [], []
    for number in range(24):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, left = rng.integers(12, 36, 2)
        mask[(y - top) ** 2 + (x - left) ** 2 < 100] = 1
        mask[np.maximum(abs(y - left), abs(x - top)) < 8] = 2
        image = COLOURS[mask] + rng.normal(0, 2 * number, (SIDE, SIDE, 1))
        mask[:3] = VOID
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return images, masks


@pytest.fixture(scope="module")
def drawn() -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    return draw()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> Iterator[tuple[Browser, Written]]:
    written = write(tmp_path_factory.mktemp("report"), *drawn, COLOURS, NAMES)
    screenshots = Path(os.environ.get("SCREENSHOTS", ROOT / ".darkroom" / "screenshots"))
    with chromium(screenshots, tmp_path_factory.mktemp("profile")) as window:
        window.driver.set_window_size(1100, 900)
        window.open(written.address)
        yield window, written
        assert window.driver.get_log("browser") == []  # no error, and nothing blocked
        assert window.driver.title == "darkroom: unet on 24 test images"


def texts(parent: WebElement, selector: str) -> list[str]:
    return [found.text for found in parent.find_elements(By.CSS_SELECTOR, selector)]


def pixels(window: Browser, picture: WebElement) -> NDArray[np.uint8]:
    """The pixels of a picture as the browser decodes it: uint8 ``(height, width, 3)``."""
    window.until("a picture", lambda: picture.get_property("complete"))
    width, height, values = window.driver.execute_script(
        """
        const [picture] = arguments;
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(picture, 0, 0);
        return [canvas.width, canvas.height,
                [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
        """,
        picture,
    )
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def test_tables_have_the_scores_and_the_colours_of_classes(page: tuple[Browser, Written]) -> None:
    window, written = page
    tables = window.driver.find_elements(By.CSS_SELECTOR, "table")
    rows = tables[0].find_elements(By.CSS_SELECTOR, "tr:has(td)")
    per_class = written.test["per_class"]
    scores = {row["class"]: row for row in per_class}
    order = [texts(row, "bdi")[0] for row in rows]
    ious = [scores[name]["iou"] for name in order[:3]]
    assert ious == sorted(ious)
    assert order[3] == NAMES[3]  # nothing is measured
    for row, name in zip(rows, order, strict=True):
        red, green, blue = palette()[NAMES.index(name)].tolist()
        colour = row.find_element(By.CLASS_NAME, "colour").value_of_css_property("background-color")
        assert colour == f"rgba({red}, {green}, {blue}, 1)"
        iou = scores[name]["iou"]
        assert texts(row, "td")[1] == ("" if iou is None else f"{iou:.3f}")
    shown = texts(tables[2], "td.right")
    assert [float(share) for share in shown[:3]] == pytest.approx(
        [100 * scores[name]["recall"] for name in NAMES[:3]], abs=0.051
    )


def test_the_worst_images_show_both_masks_and_where_they_differ(
    page: tuple[Browser, Written], drawn: tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]
) -> None:
    window, _ = page
    figures = window.driver.find_elements(By.CSS_SELECTOR, ".worst figure")
    ious = [float(texts(figure, "b")[0].removeprefix("IoU ")) for figure in figures]
    assert len(figures) == 20
    assert ious == sorted(ious)
    number = int(texts(figures[0], "figcaption > bdi")[0].removeprefix("images/").split()[0])
    image, mask = drawn[0][number], drawn[1][number]
    assert texts(figures[0], ".sides span") == ["image", "truth", "prediction", "wrong pixels"]
    pictures = [pixels(window, img) for img in figures[0].find_elements(By.TAG_NAME, "img")]
    assert (pictures[0] == image).all()
    pred = np.abs(image[..., None, 0] - COLOURS[:3, 0]).argmin(axis=2)
    for picture, codes in ((pictures[1], mask), (pictures[2], pred)):
        blended = (1 - OPACITY) * image + OPACITY * palette()[codes]
        expected = np.where((codes == VOID)[..., None], image, blended)
        assert np.abs(picture.astype(float) - expected).max() <= 1
    is_wrong = (pred != mask) & (mask != VOID)
    assert is_wrong.sum() > 100
    is_grey = (pictures[3] == pictures[3][..., :1]).all(axis=2)
    assert (is_grey == ~is_wrong).all()
    assert (pictures[3][~is_wrong] == image[~is_wrong]).all()
    told = texts(figures[0], "figcaption div")[0]
    true, predicted = max(
        ((a, b) for a in range(3) for b in range(3) if a != b),
        key=lambda pair: ((mask == pair[0]) & (pred == pair[1])).sum(),
    )
    share = ((mask == true) & (pred == predicted)).sum() / (mask != VOID).sum()
    expected = f"{NAMES[true]} as {NAMES[predicted]}: {100 * share:.1f} % of the pixels"
    assert "".join(told.split()) == expected.replace(" ", "")


def test_the_legend_stays_in_sight_beside_the_pictures(page: tuple[Browser, Written]) -> None:
    window, _ = page
    last = window.driver.find_elements(By.CSS_SELECTOR, ".worst figure")[-1]
    window.driver.execute_script("arguments[0].scrollIntoView({block: 'end'})", last)
    legend = window.find(".legend")
    assert texts(legend, "bdi") == list(NAMES)
    top = window.driver.execute_script("return arguments[0].getBoundingClientRect().top", legend)
    assert 0 <= top < 10
    window.shoot("mask-report")


LINES = """
return [...document.querySelectorAll("td.bar, td.number")].map((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].map((line) => line.top)).size;
});
"""
"""The number of lines of each cell with a number."""

WRAPPED = "<style id=wrapped>.scroll td { white-space: normal !important }</style>"


def test_numbers_stay_whole_in_a_narrow_window_and_in_the_dark(page: tuple[Browser, Written]) -> None:
    window, _ = page
    driver = window.driver
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    try:
        widths = driver.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert widths[0] == widths[1] <= 400
        lines = driver.execute_script(LINES)
        assert len(lines) > 20
        assert max(lines) == 1
        driver.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", WRAPPED)
        assert max(driver.execute_script(LINES)) > 1
        driver.execute_script("document.getElementById('wrapped').remove()")
        black = window.find(".legend .colour")
        outline = black.value_of_css_property("outline-color")
        body = driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        assert (outline, body) == ("rgba(147, 160, 173, 1)", "rgba(20, 25, 31, 1)")
        driver.execute_script("arguments[0].scrollIntoView()", window.find("table"))
        window.shoot("mask-report-narrow")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

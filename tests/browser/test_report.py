"""The evaluation report in a Chromium: click, filter, slider, keyboard, dark mode, no script.

Screenshots are left in .darkroom/screenshots/, or in the folder SCREENSHOTS.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser, chromium, needs_chromium
from project import ROOT
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sklearn import metrics as sk
from sklearn.datasets import load_digits

from darkroom.catalogue.counting import blank_spec
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.evaluation.evaluate import evaluate
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.explorer import explore
from darkroom.evaluation.hardest import hardest_images
from darkroom.evaluation.plots import write_plots
from darkroom.evaluation.report import write_report
from darkroom.evaluation.unfamiliarity import with_unfamiliarity
from darkroom.targets import Target

pytestmark = [pytest.mark.slow, needs_chromium]

NUM_IMAGES = 400
NAMES = ("</script><script>document.title='broken'</script>", *(f"digit {n}" for n in range(1, 10)))


@dataclass(frozen=True)
class Written:
    """A report and what it is about."""

    address: str
    evaluation: Evaluation
    paths: list[str]


def write(folder: Path, thresholds: tuple[float, ...] | None = None) -> Written:
    """Writes a report on digits under random logits that are better than chance."""
    digits = load_digits()
    images = (digits.images[:NUM_IMAGES] * 15.9).astype(np.uint8)[..., None]
    labels = np.eye(10)[digits.target[:NUM_IMAGES]]
    random = np.random.default_rng(0)
    if thresholds:
        labels = np.maximum(labels, random.random(labels.shape) < 0.1)
    target: Target = "several_labels" if thresholds else "one_class"
    with ShardWriter(folder / "test", (8, 8, 1), NUM_IMAGES, target=target, num_classes=10) as writer:
        for index, image in enumerate(images):
            its = np.flatnonzero(labels[index]).tolist()
            writer.add(image.tobytes(), its if thresholds else its[0], f"<i>{index:03d}.png")
    shards = Shards(folder / "test")
    spec = replace(
        blank_spec(name="cnn", width=8, depth=1, num_classes=10, input_size=(8, 8), channels=1),
        **{"class_names": NAMES, "target": target, "thresholds": thresholds},
    )
    logits = torch.from_numpy(3 * labels - 1.5 + random.normal(0, 1.3, labels.shape))
    targets = torch.from_numpy(labels).float() if thresholds else torch.from_numpy(labels.argmax(axis=1))
    evaluation = evaluate(spec, targets, logits, shards.paths)
    if not thresholds:
        scores = random.exponential(1, NUM_IMAGES).astype(np.float32)
        spec = replace(spec, unfamiliarity={"false_alarms": 0.05, "val_images": 400})
        evaluation = with_unfamiliarity(evaluation, spec, scores, shards.paths)
    hardest = hardest_images(evaluation, shards)
    write_plots(evaluation, hardest, None, folder / "plots")
    explorer = explore(evaluation, shards)
    write_report(evaluation, hardest, explorer, spec, [], folder / "plots", folder / "report.html")
    return Written((folder / "report.html").as_uri(), evaluation, shards.paths)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    screenshots = Path(os.environ.get("SCREENSHOTS", ROOT / ".darkroom" / "screenshots"))
    with chromium(screenshots, tmp_path_factory.mktemp("profile")) as window:
        window.driver.set_window_size(1100, 900)
        yield window


@pytest.fixture
def page(window: Browser, written: Written) -> Iterator[Browser]:
    window.open(written.address)
    window.find("#count")
    yield window
    assert window.driver.get_log("browser") == []  # no error, and nothing blocked
    assert window.driver.title.startswith("darkroom: ")


def num_selected(page: Browser) -> int:
    return int(page.find("#count").text.split()[0])


def focused(page: Browser) -> str:
    return page.driver.switch_to.active_element.text


def set_value(page: Browser, field: str, value: str) -> None:
    element = page.find(field)
    if element.tag_name == "input":
        element.clear()
    element.send_keys(value + Keys.TAB)


def test_a_click_on_a_cell_shows_its_images(page: Browser, written: Written) -> None:
    preds = written.evaluation.probabilities.argmax(dim=1).numpy()
    confusion = sk.confusion_matrix(written.evaluation.targets.numpy(), preds)
    wrong = confusion - np.diag(np.diag(confusion))
    true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    page.click(f"[data-show='{true},{predicted},'] button")
    assert num_selected(page) == wrong.max() > 1
    tiles = page.driver.find_elements(By.CSS_SELECTOR, "#tiles li")
    assert len(tiles) == wrong.max()
    assert all(NAMES[predicted] in tile.text and NAMES[true] in tile.text for tile in tiles)
    assert focused(page) == "Images"
    page.shoot("report-cell")
    # the address is a link to the selection
    address = page.driver.current_url
    page.open(address)
    assert num_selected(page) == wrong.max()


def test_filters_combine(page: Browser, written: Written) -> None:
    assert num_selected(page) == NUM_IMAGES
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#tiles li")) == 60
    page.click("#more")
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#tiles li")) == 120
    set_value(page, "#outcome", "wrong")
    set_value(page, "#from", "0.5")
    confidence, preds = written.evaluation.probabilities.max(dim=1)
    wrong = (preds != written.evaluation.targets) & (confidence >= 0.5)
    assert num_selected(page) == int(wrong.sum()) > 5
    set_value(page, "#sort", "most confident")
    hardest = int(torch.where(wrong, confidence, 0).argmax())
    label = page.find("#tiles button").get_attribute("aria-label")
    assert label is not None
    assert label.startswith(f"{written.paths[hardest]}: ")
    scores = written.evaluation.unfamiliarity
    assert scores is not None
    set_value(page, "[data-slice='unfamiliar']", "yes")
    assert num_selected(page) == int((wrong.numpy() & (scores > 1)).sum()) > 1
    set_value(page, "#sort", "most unfamiliar")
    strangest = int(np.where(wrong, scores, 0).argmax())
    page.click("#tiles button")
    assert page.find("#path").text == written.paths[strangest]
    assert page.find("#unfamiliarity").text == f"{scores[strangest]:.2f}"
    page.click("#close")
    page.driver.execute_script("arguments[0].scrollIntoView()", page.find("#explorer"))
    page.shoot("report-filter")
    page.click("#reset")
    assert num_selected(page) == NUM_IMAGES


def test_the_slider_moves_the_scores_of_a_class(page: Browser, written: Written) -> None:
    set_value(page, "#class", "digit 3")
    slider = page.find("#step")
    has_it = (written.evaluation.targets == 3).numpy()
    seen = set()
    for keys in (Keys.HOME, Keys.ARROW_RIGHT * 30, Keys.ARROW_RIGHT * 30, Keys.END):
        slider.send_keys(keys)
        threshold = float(page.find("#at").text)
        said = (written.evaluation.probabilities[:, 3] >= threshold).numpy()
        expected = sk.precision_recall_fscore_support(has_it, said, average="binary", zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert page.find(f"#score-{name}").text == f"{value:.3f}"
        seen.add(threshold)
    assert len(seen) == 4
    slider.send_keys(Keys.HOME, Keys.ARROW_RIGHT * 40)
    page.driver.execute_script("arguments[0].scrollIntoView()", page.find("#thresholds"))
    page.shoot("report-threshold")


def test_the_keyboard_opens_images_and_walks_through_them(page: Browser) -> None:
    tiles = page.driver.find_elements(By.CSS_SELECTOR, "#tiles button")
    tiles[0].send_keys(Keys.ARROW_RIGHT)
    assert page.driver.switch_to.active_element == tiles[1]
    tiles[1].send_keys(Keys.ARROW_LEFT)
    tiles[0].send_keys(Keys.ARROW_DOWN)
    below = page.driver.switch_to.active_element
    assert below.location["x"] == tiles[0].location["x"]
    assert below.location["y"] > tiles[0].location["y"]
    tiles[0].send_keys(Keys.ENTER)
    first = page.find("#path").text
    assert page.find("#place").text == f"1 of {NUM_IMAGES}"
    page.shoot("report-image")
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.find("#path").text != first
    assert page.find("#place").text == f"2 of {NUM_IMAGES}"
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until("closed dialog", lambda: not page.driver.find_element(By.ID, "image").is_displayed())
    assert page.driver.switch_to.active_element == tiles[0]
    page.click("[data-row] button", "details")
    assert page.find("#path").text.startswith("<i>")


def test_dark_mode_and_print_have_their_own_colours(page: Browser) -> None:
    def emulate(**values: object) -> tuple[str, bool]:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", values)
        body = page.driver.find_element(By.TAG_NAME, "body")
        form = page.driver.find_element(By.ID, "form")
        return body.value_of_css_property("background-color"), form.is_displayed()

    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    assert emulate() == ("rgba(245, 247, 249, 1)", True)
    assert emulate(features=dark) == ("rgba(20, 25, 31, 1)", True)
    page.driver.execute_script("arguments[0].scrollIntoView()", page.find(".matrix"))
    page.shoot("report-dark")
    assert emulate(media="print", features=dark) == ("rgba(255, 255, 255, 1)", False)
    emulate()


def test_without_script_the_page_has_its_tables_and_pictures(window: Browser, written: Written) -> None:
    window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.open(written.address)
        cells = window.driver.find_elements(By.CSS_SELECTOR, ".matrix td.taken")
        assert sum(int(cell.text) for cell in cells) == NUM_IMAGES
        assert len(window.driver.find_elements(By.CSS_SELECTOR, "ul.tiles li, .tiles figure")) == 30
        for hidden in ("#explorer", "#thresholds", "#image"):
            assert not window.driver.find_element(By.CSS_SELECTOR, hidden).is_displayed()
    finally:
        window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_labels_have_the_same_instrument(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    labels = write(tmp_path_factory.mktemp("labels"), thresholds=(0.5,) * 9 + (0.6125,))
    targets, preds = labels.evaluation.targets.bool(), labels.evaluation.preds
    window.open(labels.address)
    window.click("[data-show='4,4,'] button")
    assert num_selected(window) == int((targets[:, 4] & preds[:, 4]).sum())
    set_value(window, "#predicted", "any")
    set_value(window, "#outcome", "wrong")
    assert num_selected(window) == int((targets[:, 4] & ~preds[:, 4]).sum()) > 0
    set_value(window, "#class", "digit 9")
    assert "The threshold of the model is 0.6125." in window.text()
    assert window.find("#at").text == "0.61"
    assert window.driver.get_log("browser") == []

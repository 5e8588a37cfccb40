"""The page of `darkroom serve` in a Chromium: files chosen and dropped, answers, errors, rows.

Screenshots are left in .darkroom/screenshots/, or in the folder SCREENSHOTS.
"""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium, needs_chromium
from project import ROOT
from selenium.webdriver.common.by import By
from served import Served, serving
from served_exports import NAMES, draw, write_export, write_mask_export, write_row_export

pytestmark = [pytest.mark.slow, needs_chromium]

DROP = """
const [content, name] = arguments;
const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
const dragged = new DataTransfer();
dragged.items.add(new File([bytes], name, { type: "image/png" }));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", { dataTransfer: dragged, bubbles: true, cancelable: true }));
"""
"""What a browser does when a person lets go of a file above the page."""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    screenshots = Path(os.environ.get("SCREENSHOTS", ROOT / ".darkroom/screenshots"))
    with chromium(screenshots, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_export(tmp_path_factory.mktemp("page") / "animals")) as served:
        yield served


def check_answer(window: Browser, served: Served, content: bytes, name: str) -> None:
    """Checks that the page shows the answer that the server gives."""
    expected = served.predict(content).prediction
    window.shows("Answered in", name)
    answer = window.find(".answer")
    assert answer.find_element(By.TAG_NAME, "h2").text == expected["classes"][0]
    cells = [cell.text for cell in answer.find_elements(By.CSS_SELECTOR, "tbody td:first-child")]
    assert cells == [one["class"] for one in expected["top"]]
    shares = [cell.text for cell in answer.find_elements(By.CSS_SELECTOR, "td.bar")]
    assert [float(share.removesuffix(" %")) for share in shares] == pytest.approx(
        [100 * one["probability"] for one in expected["top"]], abs=0.05
    )
    assert ("Unlike the training data" in answer.text) == expected["unfamiliar"]
    image = answer.find_element(By.TAG_NAME, "img")
    window.until("the image", lambda: image.get_property("naturalWidth") == 40)


def test_a_chosen_and_a_dropped_image_get_their_class(
    window: Browser, served: Served, tmp_path: Path
) -> None:
    first, second = draw(2, (40, 30)), draw(5, (40, 30))
    (tmp_path / "chosen <b>.png").write_bytes(first)
    window.open(f"{served.address}/")
    window.driver.find_element(By.ID, "file").send_keys(f"{tmp_path / 'chosen <b>.png'}")
    check_answer(window, served, first, "chosen <b>.png")
    window.shoot("serve")
    window.driver.execute_script(DROP, base64.b64encode(second).decode(), "dropped.png")
    check_answer(window, served, second, "dropped.png")
    window.driver.execute_script(DROP, base64.b64encode(b"no image").decode(), "broken.png")
    window.shows("broken.png: ", "not an image")
    window.shoot("serve-error")
    assert NAMES[2] in served.ask("/model").json["class_names"]  # which the page shows, and does not run
    problems = [line for line in window.driver.get_log("browser") if "/predict" not in line["message"]]
    assert problems == []


def test_masks_and_rows_have_a_page_too(window: Browser, tmp_path: Path) -> None:
    with serving(write_mask_export(tmp_path / "masks")) as masks:
        window.open(f"{masks.address}/")
        window.driver.execute_script(DROP, base64.b64encode(draw(1, (40, 30))).decode(), "a.png")
        window.shows("Classes of the pixels", "ground", "a.png")
        mask = window.find("img[alt='The predicted mask']")
        window.until("the mask", lambda: mask.get_property("naturalWidth") == 40)
        window.shoot("serve-mask")
    with serving(write_row_export(tmp_path / "rows")) as rows:
        window.open(f"{rows.address}/")
        assert window.find("#rows").get_property("value").strip() == "age,colour"
        window.find("#rows").send_keys("44,red\n")
        window.click("button", "Classify")
        answer = rows.ask("/predict", b"age,colour\n44,red\n", content_type="text/csv").prediction
        window.shows("line 2", answer["classes"][0])
        window.shoot("serve-rows")

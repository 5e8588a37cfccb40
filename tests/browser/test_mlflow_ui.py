"""What a person sees after `make ui`: models in one table, compared; curves; the report.

Nothing here is a stand-in: runs of the pipeline, tools/ui.sh, MLflow's pages in a Chromium.
Screenshots are left in .darkroom/screenshots/, or in the folder SCREENSHOTS.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import PATIENCE_SECONDS, Browser, chromium, needs_chromium
from project import ROOT, Project, free_port

pytestmark = [pytest.mark.slow, needs_chromium]

FASTER, SLOWER = 0.1, 0.045  # a rate that no other test has used: DVC would have its result
"""The learning rates of the two trainings; all else is equal."""


@dataclass(frozen=True)
class Served:
    """What `make ui` serves: the address that it named, and what is known of the two trainings."""

    address: str
    names: dict[float, str]
    f1: dict[float, float]


@pytest.fixture(scope="module")
def compared(
    pristine: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, dict[float, str], dict[float, float]]:
    """A copy of the finished project, under a name that must be quoted, with a second experiment."""
    folder = tmp_path_factory.mktemp("copies") / "Kopie für später, 100%"
    project = pristine.copy(folder)

    def f1_macro() -> float:
        return json.loads(project.text("reports/evaluate/metrics.json"))["test"]["f1_macro"]

    f1 = {FASTER: f1_macro()}
    # the runs bear the commit that was checked out when they were made
    names = {FASTER: f"train cnn {project.git('rev-parse', 'HEAD~1')[:7]}", SLOWER: "train cnn slower"}
    project.dvc("exp", "run", "--name", "slower", "--set-param", f"train.lr={SLOWER}", "evaluate")
    project.run("darkroom", "sync")
    f1[SLOWER] = f1_macro()
    assert f1[SLOWER] != f1[FASTER]
    return project, names, f1


@pytest.fixture(scope="module")
def served(
    compared: tuple[Project, dict[float, str], dict[float, float]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """Runs tools/ui.sh in a subfolder of the project."""
    project, names, f1 = compared
    port = free_port()
    said = tmp_path_factory.mktemp("ui") / "said.txt"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    env |= {"PORT": str(port), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}
    with said.open("w") as output:
        process = subprocess.Popen(
            ["bash", ROOT / "tools" / "ui.sh"],
            cwd=project.folder / "data",
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, said)
        [address] = [word for word in said.read_text().split() if word.startswith("http://127.0.0.1")][
            :1
        ]
        yield Served(address, names, f1)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(address: str, process: subprocess.Popen[bytes], said: Path) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS):
                return
        except OSError:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < ends, said.read_text()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def browser(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    screenshots = Path(os.environ.get("SCREENSHOTS", ROOT / ".darkroom" / "screenshots"))
    with chromium(screenshots, tmp_path_factory.mktemp("profile")) as window:
        window.open(served.address)
        # MLflow's assistant takes a quarter of the page until it is closed, once a profile
        window.click("button[aria-label='Close']")
        yield window


@pytest.fixture
def table(browser: Browser, served: Served) -> Browser:
    """The page that tools/ui.sh names."""
    browser.open(served.address)
    browser.shows(*served.names.values())
    return browser


def row(browser: Browser, name: str) -> str:
    """Returns the selector of a run's row; MLflow draws a row in two parts, one that scrolls."""
    link = browser.find("[role=row] a[href*='/runs/']", name)
    run_id = str(link.get_attribute("href")).rpartition("/runs/")[2].partition("?")[0]
    return f"[role=row][row-id='{run_id}']"


def test_the_table_compares_models_without_a_click(table: Browser, served: Served) -> None:
    for header in ("test/f1_macro", "test/accuracy", "val/kept_f1_macro", "model.name", "train.lr"):
        table.find("[role=columnheader]", header)
    for lr, name in served.names.items():
        cells = row(table, name)
        table.find(f"{cells} [col-id='metrics.`test/f1_macro`']", f"{served.f1[lr]:g}")
        table.find(f"{cells} [col-id='params.`train.lr`']", f"{lr:g}")
    table.shoot("table")
    assert "prepare " not in table.text()


def test_two_runs_show_what_differs(table: Browser, served: Served) -> None:
    for name in served.names.values():
        table.click(f"{row(table, name)} .ag-checkbox-input-wrapper")
    table.click("button", "Compare")
    table.click("[role=button]", "Visualizations")  # closes it, so that the tables come first
    table.shows("Comparing 2 Runs", *served.names.values())
    table.shows("seed")
    table.click("button[aria-label='Parameters - Show diff only']")
    table.until("no parameter that is equal", lambda: "train.epochs" not in table.text())
    lines = table.text().splitlines()
    assert {f"train.lr {SLOWER} {FASTER}", f"train.lr {FASTER} {SLOWER}"} & set(lines)
    table.shoot("compare")
    wanted = {"test/f1_macro", *(f"{f1:.3g}" for f1 in served.f1.values())}
    table.until(f"{wanted}, on scrolling", lambda: not left(wanted, table))


def left(wanted: set[str], table: Browser) -> set[str]:
    """Scrolls on, and returns what was not read so far: the page draws only the rows that are seen."""
    table.driver.execute_script(
        "for (const e of document.querySelectorAll('*'))"
        " if (e.scrollHeight > e.clientHeight) e.scrollTop += 100"
    )
    wanted.difference_update(table.text().split())
    return wanted


def test_a_run_has_curves_and_its_report(table: Browser, served: Served) -> None:
    table.click("[role=row] a[href*='/runs/']", served.names[FASTER])
    table.click("[role=tab]", "Model metrics")
    search = "input[placeholder='Search metric charts']"
    table.find(search).send_keys("val/loss")
    table.find("[data-testid='experiment-view-compare-runs-card'] .js-plotly-plot .scatterlayer")
    table.shoot("metrics")
    table.click("[role=tab]", "Artifacts")
    for folder in ("reports", "evaluate", "report.html"):
        table.click(f"[data-testid='artifact-tree-node'][aria-label='{folder}']")
    table.find("iframe")
    table.shoot("artifacts")

"""Runs the stages in a copy of the project, with other parameters: shared by the benchmarks."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

COPIED = ("stages", "recipes", "dvc.yaml", "params.yaml", "models/weights")


def parse_changes(given: list[str]) -> dict[str, Any]:
    """Reads ``NAME=VALUE``, values as in YAML."""
    return {name: YAML(typ="safe").load(value) for name, value in (s.split("=", 1) for s in given)}


def change_params(path: Path, changes: Mapping[str, Any]) -> None:
    """Sets parameters, given by their full names."""
    yaml = YAML()
    values = yaml.load(path)
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        (values[section] if section else values)[key] = value
    yaml.dump(values, path)


@contextmanager
def project_copy(*more: str) -> Iterator[Path]:
    """Makes a folder with what the stages need, and with the files and folders ``more``."""
    with TemporaryDirectory() as name:
        for part in (*COPIED, *more):
            copy = shutil.copytree if Path(part).is_dir() else shutil.copy
            (Path(name) / part).parent.mkdir(parents=True, exist_ok=True)
            copy(part, Path(name) / part)
        yield Path(name)


def run_stage(stage: str, folder: Path) -> float:
    """Runs a stage in ``folder``, and returns the seconds that it took, its start included."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, f"stages/{stage}.py"],
        cwd=folder,
        env={**os.environ, "DARKROOM_TRACKING": "off", "PYTHONPATH": str(Path("src").resolve())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{stage}: {done.stderr}")
    return time.perf_counter() - began


def test_metrics(folder: Path) -> dict[str, Any]:
    """Reads what evaluate has written."""
    metrics: dict[str, Any] = json.loads((folder / "reports/evaluate/metrics.json").read_text())["test"]
    return metrics

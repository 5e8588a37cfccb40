"""Macro F1, size and latency of each exported format, for trained projects.

    python benchmarks/smaller_formats.py NAME=PROJECT ...

A PROJECT is a folder after `dvc repro evaluate`, with data/prepared and models/model.safetensors. A line
per project and format goes to benchmarks/results/smaller_formats.jsonl. In files with fewer bits, all
layers have them: `passes` says whether export.max_f1_drop at 0.005 would accept them so. The latencies
are those that `export` measures, of one file after the other, so they need a quiet machine:
`load` is the load average when the measurement began.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from machine import hardware, keep, num_cores

from darkroom.compute.determinism import set_determinism
from darkroom.config.export import Export
from darkroom.dataset.info import load_info
from darkroom.dataset.prepared import open_split
from darkroom.dataset.views import EvaluationView
from darkroom.export.checks import write_and_check
from darkroom.export.formats import FORMATS
from darkroom.export.onnx_int8 import calibration_images
from darkroom.export.source import Source
from darkroom.metrics.groups import COLUMNS, groups_of
from darkroom.models.file import load_model
from darkroom.paths import DATASET, MANIFEST, MODEL, PREPARED

MAX_F1_DROP = 0.005


def measure(name: str, project: Path, folder: Path) -> None:
    """Export a project in all formats but pt2, and keep a line for each file."""
    os.chdir(project)
    load = round(os.getloadavg()[0], 1)
    info = load_info(DATASET)
    model, spec = load_model(MODEL)
    view = EvaluationView.of(spec.input_size, spec.evaluate_crop)
    test = open_split(PREPARED / "test", info, view)
    groups = groups_of(pq.read_table(MANIFEST, columns=list(COLUMNS)), test.paths)
    source = Source(model, spec, calibration_images(open_split(PREPARED / "train", info, view)))
    formats: list[Any] = [one for one in FORMATS if one != "pt2"]
    options = Export(formats=formats, parity_tolerance=1e-3, max_f1_drop=1, golden_images=0)
    written = write_and_check(source, options, num_cores(), test, groups, folder)
    for file, entry in written.entries.items():
        passes = "f1_macro_change_low" not in entry or entry["f1_macro_change_low"] >= -MAX_F1_DROP
        latencies = {key: float(f"{value:.3g}") for key, value in written.latencies[file.name].items()}
        row = {"project": name, "model": spec.name, "file": file.name, **entry, "passes": passes}
        keep("smaller_formats", {**row, **latencies, "load": load, **hardware()})


def main() -> None:
    projects = [argument.partition("=") for argument in sys.argv[1:]]
    if not projects or any(not project for _, _, project in projects):
        sys.exit(f"{__doc__}")
    set_determinism(0, num_cores())
    for name, _, project in projects:
        with TemporaryDirectory() as folder:
            measure(name, Path(project).absolute(), Path(folder))


if __name__ == "__main__":
    main()

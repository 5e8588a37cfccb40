"""Runs ``prepare`` as its stage does, the report only on demand, and hands back what it left."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from darkroom.collection.collection import find_collection
from darkroom.collection.entries import SPLITS
from darkroom.collection.trouble import Troubles
from darkroom.config.data import DataSource
from darkroom.config.prepare import PrepareConfig
from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shards import Shards
from darkroom.params import load_params
from darkroom.preparation.candidates import check_candidates, select_candidates
from darkroom.preparation.counts import count
from darkroom.preparation.curation import curate, find_duplicates
from darkroom.preparation.decision import decide
from darkroom.preparation.inputs.interface import prepared_input
from darkroom.preparation.prepared import PreparedData
from darkroom.preparation.prepared_dataset import write_splits
from darkroom.preparation.prepared_manifest import write_manifest
from darkroom.reporting.tables import write_json

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
"""Those of the project: what a test relies on it sets itself."""


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` left in ``out``."""

    out: Path
    info: DatasetInfo
    counts: dict[str, dict[str, int]]
    num_done: int
    """Steps of the last progress bar: the images written."""
    series_remarks: list[str]
    """What the report says of groups and sequences."""
    data: PreparedData

    def report(self) -> list[str]:
        """Writes the report into ``out/report``; returns its remarks."""
        folder = self.out / "report"
        folder.mkdir()
        kind = prepared_input(self.info.input)
        return kind.write_report(self.data, self.out / "manifest.parquet", folder, self.series_remarks)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The manifest, by path."""
        table = pq.read_table(self.out / "manifest.parquet").to_pylist()
        by_path = {row["path"]: row for row in table}
        assert len(by_path) == len(table)
        return by_path

    @property
    def outcomes(self) -> dict[str, str]:
        return {path: row["outcome"] for path, row in self.rows.items()}

    @property
    def splits(self) -> dict[str, str]:
        """Of the images that are used, by path."""
        return {path: row["split"] for path, row in self.rows.items() if row["split"]}

    @property
    def problems(self) -> list[dict[str, str]]:
        return read_csv(self.out / "problems.csv")

    @property
    def pairs(self) -> list[dict[str, str]]:
        """What duplicates.csv lists."""
        return read_csv(self.out / "duplicates.csv")

    def shards(self, split: str) -> Shards:
        return Shards(self.out / "prepared" / split)

    @property
    def pixels(self) -> dict[str, bytes]:
        """The prepared image of each path."""
        return {
            path: shards.gather(np.array([index]))[0].tobytes()
            for shards in map(self.shards, SPLITS)
            for index, path in enumerate(shards.paths)
        }

    @property
    def files(self) -> dict[str, bytes]:
        """Every file that DVC or a person sees, by its path."""
        found = [path for path in self.out.rglob("*") if path.is_file()]
        relative = {str(path.relative_to(self.out)): path for path in found}
        return {
            name: path.read_bytes() for name, path in relative.items() if not name.startswith("cache/")
        }


def make_config(path: Path, seed: int = 0, **options: Any) -> PrepareConfig:
    """Returns what the stage reads of params.yaml, with changes.

    Args:
        options: fields of ``data`` and ``prepare``.
    """
    values = PrepareConfig.of(PARAMS).model_dump()
    values["seed"] = seed
    values["data"]["path"] = str(path)
    for name, value in options.items():
        values["data" if name in DataSource.model_fields else "prepare"][name] = value
    return PrepareConfig.model_validate(values)


def prepare(path: Path, out: Path, workers: int = 1, seed: int = 0, **options: Any) -> Prepared:
    """Prepares the collection at ``path``; ``options`` are as for ``make_config``."""
    config = make_config(path, seed, **options)
    asked, cache = config.prepare, out / "cache"
    cache.mkdir(parents=True, exist_ok=True)

    def ignore(num_done: int) -> None:
        pass

    troubles = Troubles()
    collection = find_collection(config.data, cache, troubles)
    kind = prepared_input(collection.input)
    images = kind.read(collection, config, cache, workers)
    problems = out / "problems.csv"
    candidates = select_candidates(collection, images)
    check_candidates(candidates, asked, problems, troubles)
    duplicates = find_duplicates(candidates, kind.threshold(asked), ignore)
    on_conflict = "keep" if kind.keeps_conflicts else asked.on_conflict
    curation = curate(
        candidates, duplicates, asked.duplicates, on_conflict, out / "duplicates.csv", troubles
    )
    decision = decide(candidates, curation, duplicates, asked, config.seed, troubles)
    troubles.refuse()

    done: list[int] = []
    info = write_splits(candidates, decision, out / "prepared", done.append)
    write_json(info.to_document(), out / "dataset.json")
    write_manifest(candidates, decision, out / "manifest.parquet", problems)
    data = PreparedData(candidates, decision, info)
    said = list(kind.remarks(data))
    images.remove_other_segments()
    return Prepared(out, info, count(info, candidates, decision), sum(done), said, data)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))

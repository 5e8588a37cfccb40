"""Scores of parts of the test images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact

from darkroom.evaluation.attributes import MAX_OWN, attributes_of
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.slices import (
    MAX_NAMES,
    filters_of,
    sorted_slices,
    with_slices,
    write_slices,
)
from darkroom.evaluation.targets.one_class import OneClassEvaluation
from darkroom.evaluation.targets.several_labels import SeveralLabelsEvaluation
from darkroom.metrics.holm import holm
from darkroom.metrics.remarks import remarks_on

PATHS = [f"{'indoors' if index % 3 else 'outdoors'}/{index:03}.png" for index in range(200)]


def write_manifest(folder: Path, paths: list[str] = PATHS, **columns: list[Any]) -> Path:
    length = len(paths)
    table = {
        "path": paths,
        "split": ["test"] * length,
        "format": ["PNG"] * length,
        "width": [8] * length,
        "height": [8] * length,
        "brightness": [float(index) for index in range(length)],
        "sharpness": [1.0] * length,
        "file_bytes": [70] * length,
        "own_values": pa.nulls(length, pa.string()),
        **columns,
    }
    pq.write_table(pa.table(table), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def predictions(is_right: NDArray[np.bool_]) -> Evaluation:
    targets = torch.arange(len(is_right)) % 2
    preds = torch.where(torch.from_numpy(is_right), targets, 1 - targets)
    probabilities = torch.nn.functional.one_hot(preds, 2).double()
    return OneClassEvaluation(["a", "b"], targets, probabilities, probabilities, {})


def found(evaluation: Evaluation, manifest: Path, **options: Any) -> list[dict[str, Any]]:
    attributes = attributes_of(pq.read_table(manifest), options.pop("paths", PATHS))
    slices = with_slices(evaluation, attributes, options.pop("groups", None))
    filters = filters_of(slices, attributes)
    assert list(filters) == list(dict.fromkeys(row["by"] for row in slices.metrics["slices"]))
    for row in slices.metrics["slices"]:
        assert filters[row["by"]].count(row["slice"]) == row["num_images"]
    rows: list[dict[str, Any]] = slices.metrics["slices"]
    return rows


def test_holm_by_hand() -> None:
    # 0.01 * 4 = 0.04; 0.02 * 3 = 0.06; 0.03 * 2 = 0.06; 0.2 * 1
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([]) == []


def test_dark_images_are_worse(tmp_path: Path) -> None:
    is_right = np.ones(200, dtype=bool)
    is_right[:50:5] = False  # ten of the darkest quarter
    is_right[100] = False
    rows = found(predictions(is_right), write_manifest(tmp_path))
    assert {row["by"] for row in rows} == {"brightness", "folder"}  # the others have one value
    worst = sorted_slices(rows)[0]
    p_value = 6 * fisher_exact([[40, 10], [149, 1]]).pvalue  # the lowest of six, by Holm's method
    interval = binomtest(40, 50).proportion_ci(method="wilson")
    assert (worst["by"], worst["slice"], worst["num_images"]) == ("brightness", "0 to 49", 50)
    assert (worst["score"], worst["rest"]) == (0.8, round(149 / 150, 6))
    assert worst["p_value"] == pytest.approx(p_value, abs=1e-6)
    assert (worst["low"], worst["high"]) == pytest.approx((interval.low, interval.high), abs=0.005)


@pytest.mark.slow
def test_nothing_is_named_without_a_difference(tmp_path: Path) -> None:
    """At most 5 % of the test sets name a slice if every image is right with the same probability."""
    manifest = write_manifest(tmp_path)
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(100):
        rows = found(predictions(rng.random(200) < 0.8), manifest)
        named += any(row["p_value"] < 0.05 for row in rows)
    assert named <= 10


def test_groups_are_not_counted_as_images(tmp_path: Path) -> None:
    """Forty groups that are right or wrong as a whole; taken as 200 images, one slice looks worse."""
    groups = np.arange(200) // 5
    is_right = ~np.isin(groups, [0, 2, 4, 20, 30])
    manifest = write_manifest(tmp_path, format=["PNG" if group % 2 else "JPEG" for group in groups])
    apart, together = (
        next(
            row for row in found(predictions(is_right), manifest, groups=given) if row["by"] == "format"
        )
        for given in (None, groups)
    )
    assert together["p_value"] > 10 * apart["p_value"]
    assert together["high"] - together["low"] > 1.5 * (apart["high"] - apart["low"])


def test_a_few_wrong_groups_count_as_no_more_than_the_groups(tmp_path: Path) -> None:
    """Ten errors in ten of the twenty groups of a slice; its 100 images would seem to be independent."""
    groups = np.arange(200) // 5
    is_right = ~np.isin(np.arange(200), np.arange(0, 100, 10))
    manifest = write_manifest(tmp_path, format=["PNG"] * 100 + ["JPEG"] * 100)
    rows = found(predictions(is_right), manifest, groups=groups)
    row = next(row for row in rows if row["slice"] == "PNG")
    interval = binomtest(18, 20).proportion_ci(method="wilson")
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_small_slices_are_shown_and_not_ranked(tmp_path: Path) -> None:
    formats = ["BMP"] * 19 + ["PNG"] * 181
    rows = found(predictions(np.arange(200) >= 19), write_manifest(tmp_path, format=formats))
    small = next(row for row in rows if row["slice"] == "BMP")
    assert (small["score"], small["p_value"]) == (0.0, None)
    assert sorted_slices(rows)[-1]["p_value"] is None
    formats[19] = "BMP"
    rows = found(predictions(np.arange(200) >= 19), write_manifest(tmp_path, format=formats))
    assert next(row for row in rows if row["slice"] == "BMP")["p_value"] < 1e-3


def test_folders_that_are_the_classes_are_no_slices(tmp_path: Path) -> None:
    paths = [f"{'b' if index % 2 else 'a'}/{index:03}.png" for index in range(200)]
    rows = found(predictions(np.ones(200, dtype=bool)), write_manifest(tmp_path, paths), paths=paths)
    assert {row["by"] for row in rows} == {"brightness"}


def test_unknown_values_and_many_values(tmp_path: Path) -> None:
    paths = [f"{index // 2:03}/{index}.png" for index in range(200)]
    brightness = [None if index < 100 else 0.05 if index < 150 else 7e4 for index in range(200)]
    manifest = write_manifest(tmp_path, paths, brightness=brightness)
    rows = found(predictions(np.arange(200) < 150), manifest, paths=paths)
    assert len([row for row in rows if row["by"] == "folder"]) == MAX_NAMES
    bins = {row["slice"]: row for row in rows if row["by"] == "brightness"}
    assert list(bins) == ["0.05 to 0.05", "70,000 to 70,000"]
    assert bins["70,000 to 70,000"]["rest"] == 1.0


def test_columns_of_the_manifest_and_the_size_of_the_file(tmp_path: Path) -> None:
    """Texts by value, the rare ones together; numbers by quarter; a name that is taken gets another."""
    own = [
        {
            "camera": "=cmd" if index < 40 else f"<b>{index % 25:02}",
            "year": 2000 + index // 10,
            "gain": 1 + index % 2,
            "brightness": "a" if index < 90 else "b",
            **({"site": f"{index % 3}"} if index >= 20 else {}),
        }
        for index in range(200)
    ]
    manifest = write_manifest(
        tmp_path,
        own_values=[json.dumps(values) for values in own],
        file_bytes=[index * 10 for index in range(200)],
    )
    rows = found(predictions(np.arange(200) >= 40), manifest)
    of = {by: [row["slice"] for row in rows if row["by"] == by] for by in {row["by"] for row in rows}}
    assert of["file_kilobytes"] == ["0 to 0.49", "0.5 to 0.99", "1 to 1.49", "1.5 to 1.99"]
    assert of["year"] == ["2000 to 2004", "2005 to 2009", "2010 to 2014", "2015 to 2019"]
    assert of["site"] == ["0", "1", "2"]
    assert "gain" not in of  # its values are the classes
    assert of["brightness (manifest)"] == ["a", "b"]
    assert len(of["brightness"]) == 4
    assert len(of["camera"]) == MAX_OWN + 1
    assert of["camera"][0] == "<b>15"  # of seven images; those of six are the rare ones
    assert {"=cmd", "other"} < set(of["camera"])
    by_site = [row for row in rows if row["by"] == "site"]
    assert sum(row["num_images"] for row in by_site) == 180  # without the unknown ones
    worst = sorted_slices([row for row in rows if row["by"] == "camera"])[0]
    table = [[0, 40], [160, 0]]
    assert (worst["slice"], worst["score"]) == ("=cmd", 0.0)
    assert worst["p_value"] == pytest.approx(fisher_exact(table).pvalue * len(rows), abs=1e-6)


def test_exact_match_of_several_labels(tmp_path: Path) -> None:
    targets = torch.ones(200, 2)
    probabilities = torch.full((200, 2), 0.9, dtype=torch.float64)
    probabilities[:60, 0] = 0.1
    evaluation = SeveralLabelsEvaluation(
        ["a", "b"], targets, probabilities, probabilities, {}, (0.5, 0.5)
    )
    manifest = write_manifest(tmp_path, format=["PNG"] * 60 + ["JPEG"] * 140)
    row = next(row for row in found(evaluation, manifest) if row["slice"] == "PNG")
    assert (row["score"], row["rest"], row["num_images"]) == (0.0, 1.0, 60)


def test_worse_slices_are_named_and_written(tmp_path: Path) -> None:
    rows = found(predictions(np.arange(200) >= 30), write_manifest(tmp_path))
    (remark,) = remarks_on({"accuracy": 0.85, "per_class": [], "slices": rows})
    assert remark == (
        "Parts of the test images with a lower accuracy than the others: brightness 0 to 49 "
        "(0.400 against 1.000)."
    )
    write_slices(rows, tmp_path / "slices.csv")
    header, *lines = (tmp_path / "slices.csv").read_text().splitlines()
    assert header == "by,slice,num_images,score,low,high,rest,p_value"
    assert len(lines) == len(rows)

"""The main job on real collections of others, where they lie beside the project in ../shared/data."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from effort import ALL, only_with_all
from project import ROOT, Project, stages_run

SHARED = ROOT.parent / "shared" / "data"


def unpack(name: str, folder: Path) -> None:
    archive = SHARED / name
    if not archive.exists():
        pytest.skip(f"{archive.name} is not in {SHARED.parent.name}/{SHARED.name} beside the project")
    shutil.unpack_archive(archive, folder)


SHARE = 1 if ALL else 5
"""One of this many of CIFAR-10's files is used."""


@pytest.mark.slow
@only_with_all
def test_cifar10_by_changing_params_alone(tmp_path: Path) -> None:
    project = Project(tmp_path)
    unpack("cifar10-jpeg.tar.xz", tmp_path / "data")
    for folder in (tmp_path / "data/cifar10").glob("*/*/"):
        for number, path in enumerate(sorted(folder.iterdir())):
            if number % SHARE:
                path.unlink()
    if not ALL:  # the official splits' own pairs may not be in the sample
        shared, kept = (
            min((tmp_path / f"data/cifar10/{split}/cat").iterdir()) for split in ("test", "train")
        )
        shutil.copy(shared, kept)
    project.set_params(data__fetch=[], data__path="data/cifar10")
    project.set_params(model__name="resnet", model__width=8, model__depth=1)
    project.set_params(
        train__epochs=SHARE, train__batch_size=128, train__lr=0.2, export__formats=["onnx"]
    )
    # the official splits are known to share images (Barz and Denzler, "Do we train on test data?", 2020)
    refused = project.dvc("repro", check=False)
    assert "in different given splits, so the test would leak" in refused
    project.set_params(prepare__duplicates="keep")
    output = project.dvc("repro")
    assert stages_run(output) == ["prepare", "train", "evaluate", "export"]
    info = json.loads(project.text("data/prepared/dataset.json"))
    assert info["input_size"] == [32, 32]
    assert info["channels"] == 3
    counts = {split: set(by_class.values()) for split, by_class in info["counts"].items()}
    # the test folder is kept, val is cut from train
    assert counts == {"train": {4250 // SHARE}, "val": {750 // SHARE}, "test": {1000 // SHARE}}
    # CIFAR-10's published mean and standard deviation, to JPEG's and the sample's precision
    assert info["mean"] == pytest.approx([0.4914, 0.4822, 0.4465], abs=2e-3 * SHARE)
    assert info["std"] == pytest.approx([0.2470, 0.2435, 0.2616], abs=2e-3 * SHARE)
    metrics = json.loads(project.text("reports/evaluate/metrics.json"))["test"]
    assert metrics["num_images"] == 10_000 // SHARE
    assert metrics["f1_macro"] > 0.25  # guessing gives 0.1
    parity = json.loads(project.text("export/parity.json"))
    assert {entry["argmax_agreement"] for entry in parity.values()} == {1.0}


@pytest.mark.slow
def test_photographs_of_many_sizes_with_a_given_split(tmp_path: Path) -> None:
    project = Project(tmp_path)
    unpack("hymenoptera.tar", tmp_path / "data")
    project.set_params(data__fetch=[], data__path="data/hymenoptera", prepare__resize="crop")
    project.set_params(prepare__image_size=64, model__width=8, train__epochs=2)
    project.dvc("repro", "evaluate")
    info = json.loads(project.text("data/prepared/dataset.json"))
    assert info["class_names"] == ["ants", "bees"]
    assert (info["input_size"], info["channels"]) == ([64, 64], 3)
    rows = pq.read_table(tmp_path / "data/prepared/manifest.parquet").to_pylist()
    given_val = {row["path"] for row in rows if row["path"].startswith("val/")}
    assert {row["path"] for row in rows if row["split"] == "val"} == given_val
    assert {row["split"] for row in rows} == {"train", "val", "test"}  # test is cut from train
    assert {row["format"] for row in rows} == {"JPEG", "GIF"}
    [placeholder] = [row for row in rows if row["format"] == "GIF"]  # it says "image not found"
    assert placeholder["path"] == "train/ants/imageNotFound.gif"
    assert {row["outcome"] for row in rows} == {"used"}
    assert placeholder["brightness"] == max(row["brightness"] for row in rows)
    assert "imageNotFound.gif" in project.text("reports/prepare/report.html")
    files = [path for path in (tmp_path / "data/hymenoptera").rglob("*") if path.is_file()]
    assert len(rows) == len(files)

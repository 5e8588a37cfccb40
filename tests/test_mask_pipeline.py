"""Masks through all five stages, and the same bytes after a kill, at another path and by force."""

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from effort import ALL
from PIL import Image
from project import Project
from ruamel.yaml import YAML

from darkroom.tracking.descriptions import scores

pytestmark = pytest.mark.slow

ENVIRON = {"DARKROOM_TRACKING": "off", "DARKROOM_CHECKPOINT_SECONDS": "1"}
SIDE = 32
TABLE = "index,name\n0,ground\n1,disc\n2,square\n3,void\n"


def draw(folder: Path, num_images: int = 60) -> None:
    """Noisy images of discs and squares, whose masks have a void first line."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(num_images):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for shape in rng.permutation([1, 2])[: rng.integers(1, 3)]:
            top, left, radius = *rng.integers(6, 26, 2), rng.integers(4, 8)
            up, across = np.abs(y - top), np.abs(x - left)
            is_inside = up**2 + across**2 < radius**2 if shape == 1 else np.maximum(up, across) < radius
            mask[is_inside] = shape
        image = np.array([60, 130, 200])[mask] + rng.normal(0, 25, mask.shape)
        mask[0] = 3
        for name, pixels in (("images", image.clip(0, 255).astype(np.uint8)), ("masks", mask)):
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    (folder / "classes.csv").write_text(TABLE)


def parsed(lock: str) -> Any:
    return YAML(typ="safe").load(lock)


def shapes_project(folder: Path) -> Project:
    project = Project(folder)
    draw(folder / "data/shapes")
    project.set_params(
        data__fetch=[],
        data__path="data/shapes",
        data__classes_file="classes.csv",
        model__name="unet",
        model__width=4,
        model__depth=2,
        train__epochs=12,
        train__batch_size=8,
        export__formats=["onnx"],
    )
    project.commit("shapes")
    return project


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after `dvc repro`; tests leave dvc.lock and the outputs as they are."""
    project = shapes_project(tmp_path_factory.mktemp("whole"))
    project.dvc("repro", **ENVIRON)
    return project


def test_masks_go_through_all_stages(whole: Project) -> None:
    project = whole
    test = json.loads(project.text("reports/evaluate/metrics.json"))["test"]
    assert test["f1_macro"] > test["baseline"]["most_frequent"]["f1_macro"]
    boundary = test["boundary"]
    assert boundary["f1_macro"] == pytest.approx(
        np.mean([row["boundary_f1"] for row in test["per_class"]]), abs=1e-6
    )
    assert scores(test)["test/boundary/wrong/0_to_1"] == boundary["wrong"]["0_to_1"]
    assert "test/boundary/tolerance_pixels" not in scores(test)
    assert f"{boundary['f1_macro']:.3f} on average" in project.text("reports/evaluate/report.html")
    for entry in json.loads(project.text("export/parity.json")).values():
        assert entry["pixel_agreement"] == 1
        assert entry["max_abs_difference_below"] <= 1e-4
        for name in ("iou_macro", "f1_macro", "accuracy"):
            for column in (name, f"{name}_low", f"{name}_high"):
                assert entry[column] == test[column]
    assert "mean IoU" in project.text("export/README.md")

    parts = [np.array(Image.open(project.folder / f"data/shapes/images/{n:02}.png")) for n in range(4)]
    mosaic = np.block([parts[:2], parts[2:]])
    Image.fromarray(mosaic).save(project.folder / "mosaic.png")
    images = ("data/shapes/images", "mosaic.png", "--tile", "--masks", "masks", "--out", "shares.csv")
    assert "predicts masks; name a folder for them" in project.run(
        "darkroom", "predict", "export", *images[:1], check=False
    )
    project.run("darkroom", "predict", "export", *images)
    rows = {row["path"]: row for row in csv.DictReader(project.text("shares.csv").splitlines())}
    assert len(rows) == 61
    hits = pixels = 0
    for path in pq.read_table(project.folder / "reports/evaluate/predictions.parquet")[
        "path"
    ].to_pylist():
        row = rows[f"data/shapes/{path}"]
        pred = np.array(Image.open(project.folder / row["mask"]))
        truth = np.array(Image.open(project.folder / f"data/shapes/masks/{Path(path).name}"))
        hits, pixels = hits + (pred == truth).sum(), pixels + (truth != 3).sum()
        for code, name in enumerate(("ground", "disc", "square")):
            assert float(row[name]) == pytest.approx((pred == code).mean(), abs=1e-6)
    assert test["accuracy"] == pytest.approx(hits / pixels, abs=1e-6)
    mask = np.array(Image.open(project.folder / rows["mosaic.png"]["mask"]))
    truths = [np.array(Image.open(project.folder / f"data/shapes/masks/{n:02}.png")) for n in range(4)]
    truth = np.block([truths[:2], truths[2:]])
    assert mask.shape == truth.shape
    assert (mask == truth)[truth != 3].mean() > test["accuracy"] - 0.05


def test_a_kill_another_path_and_force_leave_the_lock_as_it_is(whole: Project, tmp_path: Path) -> None:
    killed = Project(tmp_path / "another" / "path")
    shutil.copytree(whole.folder / "data/shapes", killed.folder / "data/shapes")
    shutil.copy(whole.folder / "params.yaml", killed.folder)
    killed.dvc("repro", "fetch", "prepare", **ENVIRON)
    with killed.start("python", "stages/train.py", **ENVIRON) as train:
        while not list(killed.folder.glob(".darkroom/train/*/*-*.pt")):
            assert train.poll() is None, train.communicate()
            time.sleep(0.005)
        train.kill()
    assert "train: resumes after step" in killed.dvc("repro", **ENVIRON)
    lock = killed.text("dvc.lock")
    # it lists stages in the order of their runs, and fetch and prepare do not depend on each other
    assert parsed(lock) == parsed(whole.text("dvc.lock"))

    if ALL:
        killed.dvc("repro", "--force", **ENVIRON)
        assert killed.text("dvc.lock") == lock
    killed.set_params(train__lr=0.0123)
    killed.dvc("repro", "train", **ENVIRON)
    assert parsed(killed.text("dvc.lock")) != parsed(lock)
    model = "models/model.safetensors"
    assert (killed.folder / model).read_bytes() != (whole.folder / model).read_bytes()

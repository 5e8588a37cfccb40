"""Several labels an image through all stages, from a manifest to `darkroom predict`."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from effort import only_with_all
from PIL import Image
from ruamel.yaml import YAML
from sklearn.metrics import f1_score
from support import output_of, start_python

from darkroom.config.train import TrainConfig
from darkroom.dataset.info import load_info
from darkroom.models.file import load_model, load_spec
from darkroom.params import load_params
from darkroom.paths import DATASET, MODEL
from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import Journal, journals
from darkroom.tracking.ledger.dvc_hash import dvc_md5
from darkroom.tracking.ledger.outputs import Outputs
from darkroom.tracking.ledger.restored import Missing, write_restored
from darkroom.tracking.ledger.results import Content, Result, parse_results
from darkroom.tracking.ledger.revisions import Revision
from darkroom.tracking.records import Dataset, File, Input, Metrics, Model, Note, Params, Tags
from darkroom.training.doubts import doubts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NUM_IMAGES = 90
LABELS = ("square", "stripe")
CHANCE = 0.72
"""Above the macro F1 of predicting every label for every image, 2/3 where half of the images have it."""

STAGES = """
import runpy
import sys

from darkroom.tracking import recorder

recorder.start_sender = lambda root: None  # what a run reports stays in its journal
for stage in sys.argv[1:]:
    runpy.run_path(f"stages/{stage}.py", run_name="__main__")
"""


SETTINGS = {
    "DARKROOM_TRACKING": "off",
    "DARKROOM_MLFLOW_SECONDS": "0",
    "DARKROOM_WORKERS": "1",
    "DARKROOM_DEVICE": "cpu",
}


def sets_of_labels() -> list[list[str]]:
    """Of each image: a red square, a blue stripe, both or neither, as many of each."""
    return [[name for bit, name in enumerate(LABELS) if index >> bit & 1] for index in range(NUM_IMAGES)]


def draw(labels: list[str], seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    pixels = random.integers(60, 190, (16, 16, 3))
    if "square" in labels:
        top, left = random.integers(0, 9, 2)
        pixels[top : top + 8, left : left + 8] = (230, 30, 30)
    if "stripe" in labels:
        top = random.integers(0, 12)
        pixels[top : top + 4] = (20, 30, 240)
    return Image.fromarray(pixels.astype(np.uint8))


def make_project(folder: Path, cells: list[list[str]], **train: object) -> Path:
    """Writes images, a manifest that gives them the labels ``cells``, and parameters."""
    images = folder / "images"
    images.mkdir(parents=True)
    for index, labels in enumerate(sets_of_labels()):
        draw(labels, index).save(images / f"{index:02}.png")
    rows = [f"{index:02}.png,{'|'.join(labels)}" for index, labels in enumerate(cells)]
    (images / "list.csv").write_text("\n".join(["path,label", *rows]))
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["num_threads"] = 1
    params["data"] |= {"fetch": [], "path": "images", "manifest": "list.csv", "label_separator": "|"}
    params["prepare"] |= {"duplicates": "keep", "val_fraction": 0.2, "test_fraction": 0.3}
    params["augment"] |= {"horizontal_flip": True}
    params["model"] |= {"width": 8, "dropout": 0.0}
    params["train"] |= {"loss": "bce", "epochs": 8, "batch_size": 16, "lr": 0.1, **train}
    params["export"] |= {"formats": ["onnx"]}
    yaml.dump(params, folder / "params.yaml")
    return folder


def run_stages(project: Path, *stages: str, **settings: str) -> str:
    """Runs the real scripts, one after the other, in one process that loads torch once."""
    return output_of(start_python(STAGES, *stages, cwd=project, **SETTINGS | settings))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("several") / "project", sets_of_labels(), patience=8)
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("fetch: []", "fetch: [digits]"))
    stages = ("fetch", "prepare", "train", "evaluate", "export")
    (project / "said.txt").write_text(run_stages(project, *stages, DARKROOM_TRACKING="on"))
    return project


def scores(project: Path) -> dict:
    return json.loads((project / "reports/evaluate/metrics.json").read_text())["test"]


def indicators(sets: list[list[str]]) -> np.ndarray:
    return np.array([[name in labels for name in LABELS] for labels in sets])


def test_the_labels_are_learnt(project: Path) -> None:
    metrics = scores(project)
    assert metrics["f1_macro"] > 0.85 > CHANCE
    assert [row["class"] for row in metrics["per_class"]] == list(LABELS)
    said = (project / "said.txt").read_text()
    assert f"macro F1 {metrics['f1_macro']:.4f}" in said
    assert f"exact match {metrics['exact_match']:.4f}" in said


def test_a_doubtful_value_is_named_on_the_terminal_and_in_a_tag(project: Path) -> None:
    config = TrainConfig.of(load_params(project / "params.yaml"))
    [doubt] = doubts(config, load_info(project / DATASET), batch_size=16)
    assert doubt.startswith("train.patience: 8 ")
    said = (project / "said.txt").read_text().splitlines()
    assert said.count(f"train: {doubt}") == 1
    [train] = [journal for journal in journals(project) if journal.start().stage == "train"]
    tags = [line.record.values for line in train.read().lines if isinstance(line.record, Tags)]
    assert [values["doubts"] for values in tags if "doubts" in values] == [doubt]


def test_predictions_are_of_the_labels_in_the_manifest(project: Path) -> None:
    rows = pq.read_table(project / "reports/evaluate/predictions.parquet").to_pylist()
    sets = sets_of_labels()
    assert [row["labels"] for row in rows] == [sets[int(row["path"][:2])] for row in rows]
    assert {len(row["labels"]) for row in rows} == {0, 1, 2}
    metrics = scores(project)
    assert len(rows) == metrics["num_images"] > 20
    true, preds = (indicators([row[column] for row in rows]) for column in ("labels", "preds"))
    for average in ("macro", "micro", "weighted"):
        expected = f1_score(true, preds, average=average, zero_division=0)
        assert metrics[f"f1_{average}"] == pytest.approx(expected, abs=1.1e-6)


def test_the_model_file_has_the_thresholds_that_were_used(project: Path) -> None:
    spec = load_spec(project / "models/model.safetensors")
    assert spec.target == "several_labels"
    assert spec.class_names == LABELS
    assert spec.thresholds is not None
    assert [row["threshold"] for row in scores(project)["per_class"]] == list(spec.thresholds)
    described = json.loads((project / "export/model.json").read_text())
    assert described["thresholds"] == list(spec.thresholds)
    assert described["multi_label"] is True
    assert "threshold |" in (project / "export/README.md").read_text()
    parity = json.loads((project / "export/parity.json").read_text())
    assert {file["labels_agreement"] for file in parity.values()} == {1.0}


def test_what_dvc_plots_is_there(project: Path) -> None:
    plots = YAML(typ="safe").load(project / "dvc.yaml")["plots"]
    files = {plot for plot in plots if isinstance(plot, str)}
    for plot in plots:
        if not isinstance(plot, str):
            [options] = plot.values()
            for file, columns in options["y"].items():
                files.add(file)
                with (project / file).open(newline="") as table:
                    header = next(csv.reader(table))
                wanted = columns if isinstance(columns, list) else [columns]
                assert {options["x"], *wanted} <= set(header), file
    assert len(files) > 10
    assert [file for file in files if not (project / file).is_file()] == []


def test_predict_says_of_the_test_images_what_evaluate_said(project: Path, tmp_path: Path) -> None:
    rows = pq.read_table(project / "reports/evaluate/predictions.parquet").to_pylist()
    command = [Path(sys.executable).parent / "darkroom", "predict", project / "export"]
    images = [project / "images" / row["path"] for row in rows]
    done = run_process([*command, *images], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    printed = list(csv.reader(done.stdout.splitlines(), delimiter="\t"))
    for (path, labels, probabilities), row in zip(printed, rows, strict=True):
        assert Path(path).name == row["path"]
        assert sorted(filter(None, labels.split("|"))) == row["preds"]
        expected = sorted(
            p for name, p in zip(LABELS, row["probabilities"], strict=True) if name in labels
        )
        numbers = sorted(float(p) for p in probabilities.split("|") if p)
        assert numbers == pytest.approx(expected, abs=1e-4)


@only_with_all
def test_the_same_again_is_the_same_bytes(project: Path) -> None:
    outputs = [
        project / "models/model.safetensors",
        *(project / "reports/train").iterdir(),
        *(project / "reports/evaluate").glob("*.*"),
        *(project / "reports/evaluate/plots").iterdir(),
        *(file for file in (project / "export").rglob("*") if file.is_file()),
    ]
    before = {file: file.read_bytes() for file in outputs}
    run_stages(project, "train", "evaluate", "export")
    assert [file.name for file in outputs if file.read_bytes() != before[file]] == []


@only_with_all
def test_shuffled_labels_are_not_learnt(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(NUM_IMAGES)
    sets = sets_of_labels()
    shuffled = make_project(tmp_path / "shuffled", [sets[index] for index in order])
    run_stages(shuffled, "prepare", "train", "evaluate")
    assert scores(shuffled)["f1_macro"] < CHANCE
    assert scores(shuffled)["roc_auc_macro"] < 0.75


@pytest.mark.parametrize(
    ("option", "value"),
    [("loss", "cross_entropy"), ("sampling", "balanced")],
)
def test_what_takes_one_label_per_image_is_refused_by_name(
    project: Path, tmp_path: Path, option: str, value: str
) -> None:
    other = make_project(tmp_path / option, sets_of_labels(), **{option: value})
    shutil.copytree(project / "data", other / "data")
    process = start_python(STAGES, "train", cwd=other, **SETTINGS)
    output, errors = process.communicate()
    assert (process.returncode, output) == (2, "")
    assert errors.startswith(f"train.{option}: {value} needs one label per image")
    assert len(errors.splitlines()) == 1


# the runs of its stages, live and restored

LIVE_TAGS = {"environment", "device", "doubts"}
LATENCIES = ("p50_ms", "p99_ms", "images_per_second")
LIVE_METRICS = {
    "train/epoch_seconds",
    *(f"{one}/model.{suffix}" for one in LATENCIES for suffix in ("safetensors", "onnx")),
}
LIVE_FILES = {"environment.json"}
"""What no output of a stage holds."""


def reported(journal: Journal) -> dict[str, Any]:
    """Everything that a journal's run tells, by what it is about."""
    found: dict[str, Any] = {}
    for line in journal.read().lines:
        match line.record:
            case Params(kind=kind, values=values) | Tags(kind=kind, values=values):
                found |= {
                    f"{kind} {name}": text for name, text in values.items() if name not in LIVE_TAGS
                }
            case Metrics(values=values, step=step):
                found |= {
                    f"metric {name} {step} of {line.producer}": pytest.approx(value)
                    for name, value in values.items()
                    if name not in LIVE_METRICS
                }
            case File(path=path, sha256=sha256) if path not in LIVE_FILES:
                found[f"file {path} of {line.producer}"] = sha256
            case Note(title=title, text=text):
                found[f"note {title} of {line.producer}"] = text
            case Model() as model:
                found[f"model of {line.producer}"] = model.model_copy(update={"timestamp_ms": 0})
            case Input(artifact=artifact) | Dataset(source=artifact):
                found[f"{line.record.kind} {artifact} of {line.producer}"] = line.record
    return found


def locked(project: Path, stage: str) -> Result:
    """What `dvc repro` would write into dvc.lock of a stage."""
    yaml = YAML(typ="safe")
    entry = yaml.load(project / "dvc.yaml")["stages"][stage]
    params = yaml.load(project / "params.yaml")

    def contents(items: list) -> dict[str, Content]:
        paths = [next(iter(item)) if isinstance(item, dict) else item for item in items]
        paths = [path.replace("${data.path}", params["data"]["path"]) for path in paths]
        return {
            path: Content(dvc_md5(project / path), None) for path in paths if (project / path).exists()
        }

    named = {name: param(params, name) for name in entry["params"]}
    lock = {"schema": "2.0", "stages": {stage: {"params": {"params.yaml": named}}}}
    lock["stages"][stage]["outs"] = [{"path": stage, "md5": "0" * 32}]
    [result] = parse_results(json.dumps(lock)).values()
    outs = contents([*entry.get("outs", []), *entry.get("metrics", [])])
    return replace(result, deps=contents(entry["deps"]), outs=outs)


def param(params: dict, name: str) -> object:
    for part in name.split("."):
        params = params[part]
    return params


@pytest.mark.parametrize("stage", ["fetch", "prepare", "train", "evaluate", "export"])
def test_a_restored_run_tells_what_the_live_one_told(
    project: Path, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [live] = [journal for journal in journals(project) if journal.start().stage == stage]
    monkeypatch.chdir(project)
    missing = Missing(locked(project, stage), Revision("workspace"))
    write_restored(missing, Outputs(), tmp_path, Address.of(tmp_path))
    [restored] = journals(tmp_path)
    told = reported(restored)
    assert told == reported(live)
    assert len(told) > 3
    if stage == "prepare":
        assert "metric num_images_by_labels/2 0 of None" in told
    if stage in ("evaluate", "export"):
        assert f"input {MODEL} of None" in told


def test_the_restored_training_tells_how_many_parameters_it_has(project: Path) -> None:
    [live] = [journal for journal in journals(project) if journal.start().stage == "train"]
    model, _ = load_model(project / MODEL)
    number = sum(parameter.numel() for parameter in model.parameters())
    assert f"{number:,} parameters" in reported(live)["note Training of None"]

"""The pipeline as people use it: real DVC, real git, a real MLflow database, real images."""

import hashlib
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from PIL import Image
from project import Project, stages_run
from sklearn.metrics import f1_score, precision_score, recall_score

from darkroom.models.spec import load_spec

ALL_STAGES = ["fetch", "prepare", "train", "evaluate", "export"]
SCORES = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
AFTER_TRAIN = ["train", "evaluate", "export"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(finished: Project) -> MlflowClient:
    return MlflowClient(f"sqlite:///{finished.folder}/mlflow.db")


def runs_of(client: MlflowClient, stage: str) -> list:
    [experiment] = client.search_experiments(filter_string="name = 'darkroom'")
    return client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'")


def artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    found = set()
    for item in client.list_artifacts(run_id, folder):
        found |= artifacts(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def test_every_stage_runs_and_its_outputs_are_there(finished: Project) -> None:
    assert stages_run(finished.first_output) == ALL_STAGES
    for path in (
        "data/fetched/digits/7/000007.png",
        "data/prepared/train/00000.arrow",
        "models/model.safetensors",
        "reports/evaluate/report.html",
        "export/model.onnx",
        "export/README.md",
        "export/golden/3.png",
        "environment.json",
    ):
        assert (finished.folder / path).is_file(), path
    for picture in finished.folder.glob("reports/**/*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 100, picture


def test_metrics_agree_with_scikit_learn_on_the_predictions(finished: Project) -> None:
    metrics = json.loads(finished.text("reports/evaluate/metrics.json"))["test"]
    table = pq.read_table(finished.folder / "reports/evaluate/predictions.parquet").to_pydict()
    labels, preds = table["label"], table["pred"]
    assert len(set(table["path"])) == len(labels) == metrics["num_images"] >= 0.15 * 1797
    for average in ("macro", "weighted", "micro"):
        for name, function in (
            ("f1", f1_score),
            ("precision", precision_score),
            ("recall", recall_score),
        ):
            expected = function(labels, preds, average=average)
            assert metrics[f"{name}_{average}"] == pytest.approx(expected, abs=1e-6)
    assert metrics["per_class"][3]["f1"] == pytest.approx(
        f1_score(labels, preds, labels=["3"], average=None)[0], abs=1e-6
    )
    assert metrics["f1_macro"] > 0.5  # it has learnt something in three epochs


def test_manifest_has_a_row_for_every_image_and_splits_are_disjoint(finished: Project) -> None:
    rows = pq.read_table(finished.folder / "data/prepared/manifest.parquet").to_pylist()
    assert len(rows) == 1797
    assert {row["outcome"] for row in rows} == {"used"}
    tested = pq.read_table(finished.folder / "reports/evaluate/predictions.parquet")["path"].to_pylist()
    assert {row["path"] for row in rows if row["split"] == "test"} == set(tested)


def test_exported_formats_agree_with_the_checkpoint(finished: Project) -> None:
    parity = json.loads(finished.text("export/parity.json"))
    assert set(parity) == {"model.safetensors", "model.onnx"}
    assert all(entry["argmax_agreement"] == 1.0 for entry in parity.values())
    assert all(entry["max_abs_difference_below"] <= 1e-4 for entry in parity.values())


def test_predict_runs_from_the_exported_folder(finished: Project, tmp_path: Path) -> None:
    table = pq.read_table(finished.folder / "reports/evaluate/predictions.parquet").to_pylist()[:20]
    images = [str(finished.folder / "data/fetched/digits" / row["path"]) for row in table]
    (finished.folder / "export").rename(tmp_path / "elsewhere")
    try:
        output = finished.run("darkroom", "predict", str(tmp_path / "elsewhere"), *images)
    finally:
        (tmp_path / "elsewhere").rename(finished.folder / "export")
    lines = [line.split("\t") for line in output.splitlines()]
    assert [line[1] for line in lines] == [row["pred"] for row in table]
    for line, row in zip(lines, table, strict=True):
        assert float(line[2]) == pytest.approx(row["probability"], abs=1e-4)
        assert float(line[3]) == pytest.approx(row["unfamiliarity"], abs=1e-3)
        assert line[4] == str(row["unfamiliar"]).lower()


def test_the_certificate_says_what_the_export_was_made_from(finished: Project) -> None:
    run = finished.run("darkroom", "verify", "export/")
    assert "all as recorded; not signed" in run
    predicate = json.loads(finished.text("export/certificate.json"))["predicate"]
    dataset = json.loads(finished.text("data/prepared/dataset.json"))
    metrics = json.loads(finished.text("reports/evaluate/metrics.json"))["test"]
    environment = json.loads(finished.text("environment.json"))
    assert predicate["data"] == {"sha256": dataset["digest"]}
    for name, digest in predicate["inputs"].items():
        assert hashlib.sha256((finished.folder / name).read_bytes()).hexdigest() == digest
    assert predicate["metrics"]["f1_macro"] == metrics["f1_macro"]
    assert predicate["environment"] == environment
    assert predicate["params"]["train.epochs"] == 3
    assert predicate["params"]["export.formats"] == ["onnx"]
    assert predicate["weights"] == {"from": "random", "sha256": None}
    code = finished.run(
        "python", "-c", "from darkroom.installed import *; print(code_digests('export'))"
    )
    assert "darkroom/export/certificate.py" in code
    assert predicate["code"] == {"export": hashlib.sha256(code[:-1].encode()).hexdigest()}
    bill = json.loads(finished.text("export/sbom.cdx.json"))
    assert {"model.onnx", "onnxruntime", "pillow"} <= {each["name"] for each in bill["components"]}


def test_outputs_hold_no_path_host_or_date(finished: Project) -> None:
    written = [
        file
        for part in ("data/prepared", "models", "reports", "export")
        for file in (finished.folder / part).rglob("*")
        if file.is_file()
    ]
    assert len(written) > 15
    year = time.strftime("%Y-").encode()
    for file in written:
        content = file.read_bytes()
        assert str(finished.folder).encode() not in content, file
        assert not re.search(rb"site-packages|/home/|/Users/|/tmp/", content), file
        if file.suffix in (".json", ".csv", ".md"):
            assert year not in content, file


def test_nothing_runs_again_until_something_changes(finished: Project) -> None:
    assert stages_run(finished.dvc("repro")) == []
    assert finished.git("status", "--porcelain") == ""


def test_a_changed_param_concerns_train_and_not_what_comes_before(finished: Project) -> None:
    finished.set_params(train__lr=0.05)
    assert stages_run(finished.dvc("repro", "--dry")) == ["train"]
    finished.set_params(train__lr=0.1)
    assert stages_run(finished.dvc("repro", "--dry")) == []
    assert finished.git("status", "--porcelain") == ""


def test_an_edited_description_of_a_train_parameter_concerns_train_and_not_prepare(
    finished: Project,
) -> None:
    path = finished.folder / "src/darkroom/config/train.py"
    before = path.read_text()
    edited = before.replace('description="number of passes', 'description="the number of passes')
    assert edited != before
    path.write_text(edited)
    try:
        assert stages_run(finished.dvc("repro", "--dry")) == ["train"]
    finally:
        path.write_text(before)
    assert stages_run(finished.dvc("repro", "--dry")) == []


def test_a_changed_param_reruns_what_it_touches_and_changing_back_runs_nothing(
    finished: Project, client: MlflowClient, tmp_path: Path
) -> None:
    lock = finished.text("dvc.lock")
    output = finished.dvc("exp", "run", "--name", "faster", "--set-param", "train.lr=0.02")
    assert stages_run(output) == AFTER_TRAIN
    assert finished.text("dvc.lock") != lock
    assert "faster" in finished.dvc("exp", "show", "--json")
    metrics = json.loads(finished.dvc("metrics", "diff", "--json"))
    assert "test.f1_macro" in metrics["reports/evaluate/metrics.json"]
    finished.dvc("plots", "diff", "--out", f"{tmp_path}")
    assert "vega" in (tmp_path / "index.html").read_text()
    named = [run for run in runs_of(client, "train") if run.data.tags.get("dvc.experiment") == "faster"]
    assert [run.data.params["train.lr"] for run in named] == ["0.02"]
    finished.git("checkout", "params.yaml")
    assert stages_run(finished.dvc("repro")) == []
    assert finished.text("dvc.lock") == lock
    assert finished.git("status", "--porcelain") == ""


def test_each_stage_has_a_finished_run(finished: Project, client: MlflowClient) -> None:
    for stage in ALL_STAGES:
        runs = runs_of(client, stage)
        assert runs, stage
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert all("mlflow.source.git.commit" in run.data.tags for run in runs)
    assert finished.text("dvc.lock")
    assert (finished.folder / "mlartifacts").is_dir()
    assert not (finished.folder / "mlruns").exists()


def test_the_training_run_tells_everything_of_its_model(finished: Project, client: MlflowClient) -> None:
    run = runs_of(client, "train")[-1]  # the first one; a later test trains again
    metrics = json.loads(finished.text("reports/evaluate/metrics.json"))["test"]
    assert run.data.params["train.lr"] == "0.1"
    assert run.data.params["model.name"] == "cnn"
    for name in ("f1_macro", "precision_macro", "recall_macro", "accuracy"):
        assert run.data.metrics[f"test/{name}"] == pytest.approx(metrics[name])
    curve = client.get_metric_history(run.info.run_id, "val/f1_macro")
    assert [point.step for point in curve] == [1, 2, 3]
    training = load_spec(finished.folder / "models/model.safetensors").training
    kept = training["kept"]
    assert run.data.metrics["val/kept_epoch"] == kept["epoch"]
    assert (
        run.data.metrics["val/kept_f1_macro"] == kept["val_f1_macro"] == curve[kept["epoch"] - 1].value
    )
    assert run.data.tags["kept_reason"] == kept["reason"]
    assert len(training["history"]["val_loss"]) == training["num_epochs"] == 3
    [dataset] = run.inputs.dataset_inputs
    digest = json.loads(finished.text("data/prepared/dataset.json"))["digest"]
    assert digest.startswith(dataset.dataset.digest)
    [output] = run.outputs.model_outputs
    [model] = [
        model
        for model in client.search_logged_models([run.info.experiment_id])
        if model.model_id == output.model_id
    ]
    assert (model.source_run_id, model.status) == (run.info.run_id, "READY")
    assert run.data.tags["mlflow.source.git.commit"] in finished.git("log", "--format=%H")
    assert run.data.tags["device"]
    assert {
        "models/model.safetensors",
        "reports/train/history.csv",
        "reports/evaluate/report.html",
        "environment.json",
    } <= artifacts(client, run.info.run_id)


def test_a_run_describes_its_outcome(finished: Project, client: MlflowClient) -> None:
    metrics = json.loads(finished.text("reports/evaluate/metrics.json"))["test"]
    notes = {stage: runs_of(client, stage)[-1].data.tags["mlflow.note.content"] for stage in ALL_STAGES}
    assert "| digits | 1,797 images |" in notes["fetch"]
    assert runs_of(client, "fetch")[-1].data.metrics == {"num_images": 1797}
    assert "| classes | 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 |" in notes["prepare"]
    assert f"| macro F1 | {metrics['f1_macro']:.4f} |" in notes["evaluate"]
    assert "| model.onnx | " in notes["export"]
    assert notes["train"].startswith(notes["evaluate"])
    assert re.search(r"\| kept epoch \| [123] of 3 \|", notes["train"])
    assert "| validation macro F1 | 0." in notes["train"]


def test_reports_and_pictures_are_with_the_runs(finished: Project, client: MlflowClient) -> None:
    for stage, folders in (
        ("prepare", ("prepare",)),
        ("train", ("train", "evaluate")),
        ("evaluate", ("evaluate",)),
    ):
        kept = artifacts(client, runs_of(client, stage)[-1].info.run_id)
        for folder in folders:
            made = {
                path.relative_to(finished.folder).as_posix()
                for path in (finished.folder / "reports" / folder).rglob("*")
                if path.is_file() and path.name != ".gitignore"
            }
            assert any(path.endswith(".png") for path in made)
            assert made <= kept
        assert not [path for path in kept if path.endswith(".gitignore")]


def test_the_exported_model_is_a_version_with_its_scores(
    finished: Project, client: MlflowClient
) -> None:
    metrics = json.loads(finished.text("reports/evaluate/metrics.json"))["test"]
    run = runs_of(client, "train")[-1]
    versions = client.search_model_versions("name = 'darkroom'")
    [version] = [version for version in versions if version.run_id == run.info.run_id]
    digest = run.data.tags["made.models/model.safetensors"]
    assert version.tags["made.models/model.safetensors"] == digest
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert model.tags["made.models/model.safetensors"] == digest
    data = json.loads(finished.text("data/prepared/dataset.json"))["digest"]
    of_test = [point for point in model.metrics if point.key == "test/f1_macro"]
    assert [(p.value, p.dataset_digest) for p in of_test] == [(metrics["f1_macro"], data[:36])]
    assert len(client.get_metric_history(run.info.run_id, "test/f1_macro")) == 1
    [val] = [point for point in model.metrics if point.key == "val/f1_macro"]
    assert f"| validation macro F1 | {val.value:.4f} |" in run.data.tags["mlflow.note.content"]
    output = finished.run("darkroom", "promote", f"{version.version}", "--dry-run")
    assert f"{metrics['f1_macro']:.4f}" in output


def test_the_training_run_names_the_run_that_prepared_its_data(
    finished: Project, client: MlflowClient
) -> None:
    [prepared] = runs_of(client, "prepare")
    for training in runs_of(client, "train"):
        assert training.data.tags["maker.data/prepared"] == prepared.info.run_id
        assert "mlflow.parentRunId" not in training.data.tags


def test_evaluate_and_export_are_children_of_the_training_run(
    finished: Project, client: MlflowClient
) -> None:
    trainings = {run.info.run_id for run in runs_of(client, "train")}
    for stage in ("evaluate", "export"):
        parents = [run.data.tags["mlflow.parentRunId"] for run in runs_of(client, stage)]
        assert len(set(parents)) == len(parents)
        assert set(parents) <= trainings


def test_unreadable_images_stop_prepare_or_are_left_out_and_counted(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.set_params(data__fetch=[], data__path="data/mine")
    project.set_params(prepare__val_fraction=0.3, prepare__test_fraction=0.3)
    random = np.random.default_rng(0)
    for label in ("day", "night"):
        (tmp_path / "data/mine" / label).mkdir(parents=True)
        for index in range(8):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"data/mine/{label}/{index}.png")
    good = (tmp_path / "data/mine/day/0.png").read_bytes()
    (tmp_path / "data/mine/day/torn.png").write_bytes(good[: len(good) // 2 + 20])
    (tmp_path / "data/mine/night/text.jpg").write_text("no image")
    output = project.dvc("repro", "prepare", check=False, DARKROOM_TRACKING="off")
    assert "2 of 18 files in data/mine cannot be used; all are listed in" in output
    assert "1 truncated, the first: day/torn.png: " in output
    assert "1 not an image, the first: night/text.jpg: " in output
    assert "Traceback" not in output
    assert "day/torn.png" in project.text("reports/prepare/problems.csv")
    assert not (tmp_path / "data/prepared/dataset.json").exists()
    assert "reports/prepare/trouble.html shows all of this" in output  # although DVC saw the stage fail
    assert "1 truncated, the first: day/torn.png: " in project.text("reports/prepare/trouble.html")

    project.set_params(prepare__on_bad_image="skip")
    project.dvc("repro", "prepare", DARKROOM_TRACKING="off")
    assert not (tmp_path / "reports/prepare/trouble.html").exists()
    (tmp_path / "data/mine/night/copy.png").write_bytes(good)
    output = project.run(sys.executable, "stages/prepare.py", check=False, DARKROOM_TRACKING="off")
    assert "day/0.png (day) and night/copy.png (night)" in output
    assert "day/0.png" in project.text("reports/prepare/trouble.html")
    assert not (tmp_path / "reports/prepare/report.html").exists()  # it tells of an earlier run
    (tmp_path / "data/mine/night/copy.png").unlink()
    output = project.dvc("repro", "--force", "prepare")
    assert "16 images of 2 classes" in output
    assert "excluded: 1 not an image, 1 truncated" in output
    shown = json.loads(project.dvc("metrics", "show", "--json", "reports/prepare/metrics.json"))
    files = shown[""]["data"]["reports/prepare/metrics.json"]["data"]["num_files"]
    assert (files["used"], files["truncated"], files["not_an_image"]) == (16, 1, 1)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [run] = [run for run in runs_of(client, "prepare") if run.info.status == "FINISHED"]
    assert run.data.metrics["num_files/truncated"] == 1
    assert artifacts(client, run.info.run_id) >= {
        "reports/prepare/report.html",
        "reports/prepare/problems.csv",
    }


def test_a_packed_folder_gives_the_same_data_set_as_the_folder(
    finished: Project, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    finished.run("darkroom", "pack", "data/fetched/digits", "--out", str(tmp_path / "data.tar"))
    project.set_params(data__fetch=[], data__path="data.tar")
    project.dvc("repro", "prepare", DARKROOM_TRACKING="off")
    digests = [json.loads(p.text("data/prepared/dataset.json"))["digest"] for p in (finished, project)]
    assert digests[0] == digests[1]

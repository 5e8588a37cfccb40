"""`darkroom serve models:/darkroom@champion` follows the alias in a real MLflow."""

import hashlib
from pathlib import Path

import pytest
import registered
from served import serving
from served_exports import write_export
from served_load import Expected, check_answers, digest_of, expect, load

from darkroom.tracking.mlflow.logged_model import log_onnx
from darkroom.tracking.mlflow.registry import propose
from darkroom.tracking.mlflow.store import Store
from darkroom.tracking.records import File, Model


def export_to_mlflow(store: Store, exported: Path) -> None:
    """Trains and exports a model, as far as MLflow is concerned, with all files of the export."""
    run_id = registered.make_tested_run(store)
    content = (exported / "model.onnx").read_bytes()
    file = File(path="model.onnx", sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    record = Model(
        name="classifier",
        file=file,
        params={},
        tags={registered.MADE: file.sha256},
        metrics={"test/f1_macro": 0.9},
        dataset=("prepared", registered.DIGEST),
        step=2,
        timestamp_ms=1,
    )
    described = exported / "model.json"
    propose(store, log_onnx(store, run_id, exported / "model.onnx", record, described), 1)
    tags = {"mlflow.parentRunId": run_id, "stage": "export"}
    inner = store.client.create_run(store.experiment.experiment_id, tags=tags).info.run_id
    store.client.log_artifacts(inner, str(exported), "export")


@pytest.mark.slow
def test_the_champion_takes_over_when_the_alias_moves(
    empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    monkeypatch.chdir(root)
    store = registered.new_store(root, "darkroom")
    expected: Expected = {}
    digests = []
    for seed in range(2):
        exported = write_export(tmp_path / f"{seed}", seed)
        export_to_mlflow(store, exported)
        expected |= expect(exported, tmp_path / "image.png")
        digests.append(digest_of(exported))
    client = store.client
    client.set_registered_model_alias("darkroom", "champion", "1")
    with serving("models:/darkroom@champion", "--reload-seconds", 0.2, cwd=root) as served:
        model = served.ask("/ready").json["model"]
        assert model == {"name": "darkroom", "version": "1", "sha256": digests[0]}
        with load(served) as answers:
            client.set_registered_model_alias("darkroom", "champion", "2")
            served.waits_for(f"serve: loaded darkroom version 2 ({digests[1][:12]})")
            client.delete_registered_model_alias("darkroom", "champion")
            assert "darkroom version 2" in served.waits_for("stays in use")
            count = len(answers)
            served.until("answers of the new model", lambda: len(answers) > count + 4)
        check_answers(answers, expected)
        assert answers[-1].json["model"]["version"] == "2"
        assert served.ask("/model").json["version"] == "2"

"""Logged models and their versions in a real MLflow: scores linked once, bytes registered once."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow.onnx
import onnx
import pytest
from mlflow import MlflowClient
from registered import (
    DIGEST,
    MADE,
    aliases,
    contents_of_record,
    export,
    export_through_journal,
    make_record,
    make_tested_run,
    model_of,
    new_store,
    sha256_of,
    write_onnx,
)
from served_exports import write_export

from darkroom.runtime import load_runtime
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.journal.trouble import Refused
from darkroom.tracking.mlflow.logged_model import find_model, log_onnx
from darkroom.tracking.mlflow.read_back import DESCRIPTION_TAG, FILES_TAG
from darkroom.tracking.mlflow.registry import PROPOSED_TAG, find_alias, model_name, propose
from darkroom.tracking.mlflow.store import Store, open_store


@pytest.fixture(scope="module")
def root(empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_mlflow, root)
    return root


@pytest.fixture
def store(root: Path) -> Store:
    return new_store(root)


def histories(store: Store, run_id: str) -> dict[str, int]:
    names = store.client.get_run(run_id).data.metrics
    return {name: len(store.client.get_metric_history(run_id, name)) for name in names}


def versions(store: Store, name: str | None = None) -> list:
    found = store.client.search_model_versions(f"name = '{name or store.experiment.name}'")
    return sorted(found, key=lambda version: int(version.version))


OF_ITS_TIME = ("mlflow.modelVersions", FILES_TAG)
"""Tags whose values differ from model to model; MLmodel holds the time it was written."""


def state(store: Store, run_id: str, name: str | None = None) -> dict:
    """Everything that a replay could double or leave out, without ids and times."""
    models = store.client.search_logged_models([store.experiment.experiment_id])
    return {
        "models": sorted(
            (
                model.status,
                sorted(model.params.items()),
                sorted((name, text) for name, text in model.tags.items() if name not in OF_ITS_TIME),
                sorted((p.key, p.value, p.step, p.dataset_name or "") for p in model.metrics),
            )
            for model in models
        ),
        "outputs": len(store.client.get_run(run_id).outputs.model_outputs),
        "points": histories(store, run_id),
        "versions": [
            (version.version, version.run_id, version.tags, version.description)
            for version in versions(store, name)
        ],
        "aliases": aliases(store.client, name or store.experiment.name) if versions(store, name) else {},
    }


def test_scores_belong_to_the_model_and_the_run_gets_no_point_more(store: Store, root: Path) -> None:
    run_id = make_tested_run(store)
    before = histories(store, run_id)
    path, record = make_record(root, 1.0)
    for _ in range(3):
        log_onnx(store, run_id, path, record)
    assert (
        histories(store, run_id) == before == {"val/f1_macro": 3, "test/f1_macro": 1, "test/accuracy": 1}
    )
    [model] = store.client.search_logged_models([store.experiment.experiment_id])
    assert {p.key: (p.value, p.step, p.dataset_name, p.dataset_digest) for p in model.metrics} == {
        "test/f1_macro": (0.9, 0, "prepared", DIGEST[:36]),
        "test/accuracy": (0.9, 0, "prepared", DIGEST[:36]),
        "val/f1_macro": (0.9 - 0.1 / 2, 2, None, None),  # of the epoch that was kept, no other
    }
    assert model.params == {"architecture": "cnn"}
    recorded = json.loads(model.tags.pop(FILES_TAG))
    assert model.tags == {MADE: "weights 1.0", "sha256": record.file.sha256}
    assert recorded["model.onnx"] == record.file.sha256
    assert set(recorded) == {
        "MLmodel",
        "conda.yaml",
        "model.onnx",
        "python_env.yaml",
        "requirements.txt",
    }
    [output] = store.client.get_run(run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (model.model_id, 2)


def test_scores_that_the_run_has_not_come_with_the_model(store: Store, root: Path) -> None:
    run_id = make_tested_run(store, f1=0.8)
    path, record = make_record(root, 1.0, f1=0.9)
    for _ in range(2):
        log_onnx(store, run_id, path, record)
    assert histories(store, run_id)["test/f1_macro"] == 2
    assert store.client.get_run(run_id).data.metrics["test/f1_macro"] == 0.9
    model = find_model(store, run_id, contents_of_record(record))
    assert model is not None
    assert [p.value for p in model.metrics if p.key == "test/f1_macro"] == [0.9]


def test_a_file_that_is_no_onnx_is_refused(store: Store, root: Path) -> None:
    run_id = make_tested_run(store)
    path, record = make_record(root, 1.0)
    path.write_bytes(b"no onnx")
    with pytest.raises(Refused, match="not an ONNX file"):
        log_onnx(store, run_id, path, record)
    assert store.client.search_logged_models([store.experiment.experiment_id]) == []


@pytest.mark.parametrize(
    ("error", "expected"), [(KeyError("reason"), Refused), (OSError(28, "reason"), OSError)]
)
def test_a_model_that_cannot_be_saved_here_is_refused_except_for_the_disk(
    store: Store,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: type[Exception],
) -> None:
    def save(*_: object, **__: object) -> None:
        raise error

    run_id = make_tested_run(store)
    path, record = make_record(root, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.onnx.save_model", save)
        with pytest.raises(expected, match="reason") as raised:
            log_onnx(store, run_id, path, record)
        assert type(raised.value) is expected
    log_onnx(store, run_id, path, record)  # the same record, once it can be saved


def test_an_export_is_a_version_and_the_candidate(store: Store, root: Path) -> None:
    run_id = export(store, root, 1.0, f1=0.9)
    [version] = versions(store)
    model = model_of(store, run_id, 1.0, root)
    assert version.source == f"models:/{model.model_id}"
    assert version.run_id == run_id
    assert version.description == "cnn, test macro F1 0.9000"
    assert version.tags[MADE] == "weights 1.0"
    assert version.tags["sha256"] == model.tags["sha256"]
    assert aliases(store.client, store.experiment.name) == {"candidate": "1"}
    assert '"version": "1"' in model.tags["mlflow.modelVersions"]
    export(store, root, 2.0)
    assert aliases(store.client, store.experiment.name) == {"candidate": "2"}


def test_the_same_bytes_are_no_second_version_but_the_candidate_again(store: Store, root: Path) -> None:
    name = store.experiment.name
    export(store, root, 1.0)
    export(store, root, 2.0)
    store.client.set_registered_model_alias(name, "champion", "1")
    export(store, root, 1.0)
    assert len(versions(store)) == 2
    assert aliases(store.client, name) == {"candidate": "1", "champion": "1"}
    export(store, root, 1.0)
    assert (len(versions(store)), aliases(store.client, name)["candidate"]) == (2, "1")
    export(store, root, 1.5)  # twin: other bytes are another version
    assert (len(versions(store)), aliases(store.client, name)["candidate"]) == (3, "3")


def test_equal_onnx_of_other_weights_is_another_version(store: Store, root: Path) -> None:
    run_id = export(store, root, 1.0)
    path, record = make_record(root, 1.0)
    other = make_tested_run(store)
    tags = {MADE: "other weights"}
    model = log_onnx(store, other, path, record.model_copy(update={"tags": tags}))
    propose(store, model, record.timestamp_ms + 1)
    assert [version.run_id for version in versions(store)] == [run_id, other]


def test_an_older_export_that_arrives_late_is_not_the_candidate(store: Store, root: Path) -> None:
    export(store, root, 1.0, timestamp_ms=2_000)
    export(store, root, 2.0, timestamp_ms=1_000)
    assert len(versions(store)) == 2
    assert aliases(store.client, store.experiment.name) == {"candidate": "1"}
    export(store, root, 2.0, timestamp_ms=3_000)
    assert aliases(store.client, store.experiment.name) == {"candidate": "2"}
    export(store, root, 2.0, timestamp_ms=1_000)  # sent once more
    assert versions(store)[1].tags[PROPOSED_TAG].startswith("1970-01-01T00:00:03")


def test_a_version_whose_model_was_deleted_is_not_taken_for_one(store: Store, root: Path) -> None:
    run_id = export(store, root, 1.0)
    store.client.delete_logged_model(model_of(store, run_id, 1.0, root).model_id)
    again = export(store, root, 1.0)
    assert [version.run_id for version in versions(store)] == [run_id, again]
    assert aliases(store.client, store.experiment.name) == {"candidate": "2"}


@pytest.mark.parametrize(
    ("experiment", "name"),
    [("darkroom", "darkroom"), ("/Users/me/it's", "Users_me_it_s"), ("a:b", "a_b"), ("//", "model")],
)
def test_the_registered_model_is_called_like_the_experiment(experiment: str, name: str) -> None:
    assert model_name(experiment) == name


def test_an_experiment_with_any_name_gets_its_versions(root: Path) -> None:
    store = new_store(root, "/Users/me/it's: mine")
    export(store, root, 1.0)
    assert [version.name for version in versions(store, "Users_me_it_s_ mine")] == [
        "Users_me_it_s_ mine"
    ]


def test_an_alias_that_is_not_there_is_none(store: Store, root: Path) -> None:
    assert find_alias(store.client, "never registered", "candidate") is None
    export(store, root, 1.0)
    assert find_alias(store.client, store.experiment.name, "champion") is None


class CutOff(BaseException):
    """The sender was killed here."""


@contextmanager
def cut_off_at(call: int, does_call: bool) -> Iterator[list[str]]:
    """Raises at the n-th call of MLflow's client, before it or when it is done."""
    made: list[str] = []

    def wrap(name: str, method: Callable) -> Callable:
        def wrapped(*args: object, **kwargs: object) -> object:
            made.append(name)
            is_last = len(made) == call
            if is_last and not does_call:
                raise CutOff(name)
            result = method(*args, **kwargs)
            if is_last:
                raise CutOff(name)
            return result

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in dir(MlflowClient):
            if not name.startswith("_") and callable(getattr(MlflowClient, name)):
                patch.setattr(MlflowClient, name, wrap(name, getattr(MlflowClient, name)))
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("does_call", [False, True])
def test_a_registration_cut_off_at_any_call_and_done_again_is_done_once(
    store: Store, root: Path, does_call: bool
) -> None:
    run_id = make_tested_run(store)
    path, record = make_record(root, 1.0)
    model = log_onnx(store, run_id, path, record)
    first, other = [
        replace(
            store, experiment=SimpleNamespace(experiment_id=store.experiment.experiment_id, name=name)
        )
        for name in (f"whole {does_call}", f"cut {does_call}")
    ]
    propose(first, model, 1_000)
    expected = state(store, run_id, first.experiment.name)
    assert len(expected["versions"]) == 1
    for call in range(1, 100):
        name = f"{other.experiment.name} {call}"
        cut = replace(other, experiment=SimpleNamespace(**{**vars(other.experiment), "name": name}))
        with cut_off_at(call, does_call) as made:
            try:
                propose(cut, model, 1_000)
            except CutOff:
                pass
            else:
                break
        propose(cut, model, 1_000)
        assert state(store, run_id, name) == expected, made
        tag = store.client.get_logged_model(model.model_id).tags["mlflow.modelVersions"]
        assert tag.count(f'"{name}"') == 1, made
    assert call > 8
    assert {"create_model_version", "set_registered_model_alias", "set_model_version_tag"} <= set(made)


@pytest.mark.slow
@pytest.mark.parametrize("does_call", [False, True])
def test_a_logged_model_cut_off_at_any_call_and_done_again_is_done_once(
    root: Path, tmp_path: Path, does_call: bool
) -> None:
    path, described = write_export(tmp_path / "export") / "model.onnx", tmp_path / "export/model.json"
    digest = sha256_of(path.read_bytes())
    _, record = make_record(root, 1.0)
    record = record.model_copy(update={"file": record.file.model_copy(update={"sha256": digest})})

    def fresh() -> tuple[Store, str]:
        store = new_store(root)
        return store, make_tested_run(store)

    store, run_id = fresh()
    log_onnx(store, run_id, path, record, described)
    expected = state(store, run_id)
    assert DESCRIPTION_TAG in dict(expected["models"][0][2])
    for call in range(1, 100):
        store, run_id = fresh()
        with cut_off_at(call, does_call) as made:
            try:
                log_onnx(store, run_id, path, record, described)
            except CutOff:
                pass
            else:
                break
        log_onnx(store, run_id, path, record, described)
        assert state(store, run_id) == expected, made
    assert call > 8
    assert "log_batch" in made


def test_all_of_it_goes_through_the_journal(
    inline_sender: None,
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "through the journal")
    monkeypatch.chdir(root)
    write_onnx(root / "model.onnx", 7.0)
    made = Path("models/model.safetensors")
    with tracked("train", load_runtime()) as run:
        run.log_output(made, "abc")
        run.log_metrics({"val/f1_macro": 0.5}, step=4)
    export_through_journal(made, step=4)
    assert capsys.readouterr().err == ""
    store = open_store(root, Address.of(root))
    [version] = versions(store)
    assert store.client.get_run(version.run_id).data.tags["stage"] == "train"
    assert (version.tags[MADE], version.description) == ("abc", "cnn, test macro F1 0.7500")
    assert aliases(store.client, "through the journal") == {"candidate": "1"}
    loaded = mlflow.onnx.load_model("models:/through the journal@candidate")
    assert loaded == onnx.load("model.onnx")

"""`darkroom promote` against a real MLflow: shows, moves the champion, says why, changes no more."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from click.testing import CliRunner, Result
from compared import BAD, GOOD, LABELS, files_of
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from project import free_port
from registered import (
    DIGEST,
    aliases,
    export,
    export_through_journal,
    make_record,
    make_tested_run,
    new_store,
    write_onnx,
)

from darkroom.cli import main
from darkroom.paths import METRICS, PREDICTIONS
from darkroom.runtime import load_runtime
from darkroom.tracking.destinations import tracked
from darkroom.tracking.mlflow.logged_model import log_onnx
from darkroom.tracking.mlflow.registry import propose
from darkroom.tracking.mlflow.store import Store

NAME = "darkroom"


@pytest.fixture(scope="module")
def template(empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three versions, the third of them the candidate."""
    root = tmp_path_factory.mktemp("promote")
    shutil.copy(empty_mlflow, root)
    store = new_store(root, NAME)
    for factor, f1 in ((1.0, 0.8), (2.0, 0.9), (3.0, 0.85)):
        export(store, root, factor, f1)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    for variable in ("LOGNAME", "USER"):
        monkeypatch.setenv(variable, "ada")
    shutil.copy(template / "mlflow.db", tmp_path)
    shutil.copytree(template / "mlartifacts", tmp_path / "mlartifacts")
    _artifact_repos_cache.clear()  # where this process has found the files of the same models before
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(project: Path) -> Store:
    return new_store(project, NAME)


def promote(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["promote", *arguments])


def words(result: Result) -> str:
    return " ".join(result.output.split())


def everything(client: MlflowClient) -> list:
    versions = client.search_model_versions(f"name = '{NAME}'")
    return [(v.version, sorted(v.tags.items()), v.description) for v in versions] + [
        sorted(aliases(client, NAME).items())
    ]


def test_without_arguments_the_candidate_waits_for_a_reason(store: Store) -> None:
    before = everything(store.client)
    result = promote()
    assert result.exit_code == 2
    assert "version 3 is not promoted: give the reason with --why" in words(result)
    assert everything(store.client) == before


def test_the_candidate_becomes_the_champion_with_who_when_and_why(store: Store) -> None:
    result = promote("--why", "first to be  used")
    assert result.exit_code == 0
    assert "no champion yet version 3" in words(result)
    assert "version 3 is the champion now" in result.output
    assert aliases(store.client, NAME) == {"candidate": "3", "champion": "3"}
    version = store.client.get_model_version(NAME, "3")
    assert version.tags["promoted.by"] == "ada"
    assert version.tags["promoted.why"] == "first to be used"
    assert version.tags["promoted.replaced"] == "none"
    assert version.tags["promoted.at"].startswith("20")
    about, empty, event = version.description.splitlines()
    assert (about, empty) == ("cnn, test macro F1 0.8500", "")
    assert event.startswith("- promoted 20")
    assert event.endswith(" UTC by ada: first to be used")


def test_another_version_is_compared_and_replaces_the_champion(store: Store) -> None:
    promote("--why", "first")
    result = promote("2", "--why", "better")
    assert result.exit_code == 0
    assert "champion: version 3 version 2 change" in words(result)
    assert "test macro F1 0.8500 0.9000 +0.0500" in words(result)
    assert f"test data {DIGEST[:12]} {DIGEST[:12]}" in words(result)
    assert "to go back: darkroom promote 3" in words(result)
    assert aliases(store.client, NAME) == {"candidate": "3", "champion": "2"}
    new, old = (store.client.get_model_version(NAME, number) for number in ("2", "3"))
    assert new.tags["promoted.replaced"] == "3"
    assert old.tags["replaced.by"] == "2"
    assert "by ada, by version 2: better" in old.description.splitlines()[-1]


def keep_predictions(store: Store, number: int, content: bytes, metrics: bytes) -> None:
    """Logs the files of evaluate to the run of a version."""
    run_id = store.client.get_model_version(NAME, f"{number}").run_id
    for path, written in ((PREDICTIONS, content), (METRICS, metrics)):
        file = Path(f"of version {number}", path.name)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(written)
        store.client.log_artifact(run_id, f"{file}", path.parent.as_posix())


def test_versions_that_cannot_be_compared_are_promoted_with_the_reason(store: Store) -> None:
    promote("1", "--why", "first")
    result = promote("2", "--why", "x")
    assert result.exit_code == 0
    assert (
        "version 2 was not compared with the champion, because they cannot be compared: version 1,"
        " champion: neither MLflow nor DVC has its predictions.parquet" in words(result)
    )
    keep_predictions(store, 2, *files_of(GOOD))
    keep_predictions(store, 3, *files_of(BAD[:200], LABELS[:200]))
    result = promote("3", "--why", "x")
    assert result.exit_code == 0
    assert "tested on different images: 200 images in common" in words(result)
    assert "worse" not in result.output


@pytest.mark.slow
def test_a_worse_version_and_one_whose_comparison_fails_need_force(store: Store) -> None:
    keep_predictions(store, 1, *files_of(GOOD))
    keep_predictions(store, 2, *files_of(BAD))
    keep_predictions(store, 3, b"PAR1 damaged", files_of(GOOD)[1])
    promote("1", "--why", "first")
    for number, said in (
        ("2", "version 2 is not promoted: it is worse than the champion; --force promotes it"),
        ("3", "version 3 is not promoted: the comparison with the champion failed; --force promotes it"),
    ):
        result = promote(number, "--why", "x")
        assert result.exit_code == 2
        assert said in words(result)
        assert aliases(store.client, NAME)["champion"] == "1"
    assert "predictions.parquet or metrics.json is damaged" in words(result)
    assert promote("3", "--why", "x", "--force").exit_code == 0
    assert aliases(store.client, NAME)["champion"] == "3"


def test_going_back_is_the_same_and_history_is_kept(store: Store) -> None:
    for number, why in (("1", "first"), ("2", "better"), ("1", "2 was slow")):
        assert promote(number, "--why", why).exit_code == 0
    assert aliases(store.client, NAME)["champion"] == "1"
    champion = store.client.get_model_version(NAME, "1")
    assert champion.tags["promoted.why"] == "2 was slow"
    assert "replaced.by" not in champion.tags
    events = [line.split(" UTC ")[1] for line in champion.description.splitlines()[2:]]
    assert events == [
        "by ada: first",
        "by ada, by version 2: better",
        "by ada, in place of version 2: 2 was slow",
    ]
    assert store.client.get_model_version(NAME, "2").tags["replaced.by"] == "1"


@pytest.mark.parametrize("dry", ["-n", "--dry-run"])
def test_a_dry_run_shows_and_changes_nothing(store: Store, dry: str) -> None:
    promote("1", "--why", "first")
    before = everything(store.client)
    result = promote(dry)
    assert result.exit_code == 0
    assert "test macro F1 0.8000 0.8500 +0.0500" in words(result)
    assert everything(store.client) == before
    assert "version 1 is already the champion" in promote("1", dry).output


def test_a_list_tells_versions_aliases_scores_and_reasons(store: Store) -> None:
    promote("1", "--why", "the [bold] one")
    promote("2", "--why", "better")
    listed = words(promote("--list"))
    assert "version exported macro F1 accuracy promoted" in listed
    third, second, first = (listed.index(part) for part in (" 3 candidate", " 2 champion", " 1 20"))
    assert third < second < first
    assert "0.8500" in listed[third:second]
    assert "by ada: better" in listed[second:first]
    assert "[bold]" in listed[first:]
    assert "until 20" in listed[first:]
    assert "2 replaced it" in listed[first:]


def test_without_arguments_and_nothing_to_do_it_lists(store: Store) -> None:
    promote("--why", "first")
    assert words(promote()) == words(promote("--list"))


def test_the_champion_again_is_no_event(store: Store) -> None:
    promote("--why", "first")
    before = everything(store.client)
    result = promote("3", "--why", "again")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "version 3 is already the champion")
    assert everything(store.client) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("9", "--why", "x"), "darkroom has no version 9, the latest is 3; `darkroom promote --list`"),
        (("--why", "  "), "--why is empty"),
        (("2", "--why", ""), "--why is empty"),
        (("2",), "version 2 is not promoted: give the reason"),
        (("0", "--why", "x"), "Invalid value for '[VERSION]'"),
        (("best", "--why", "x"), "Invalid value for '[VERSION]'"),
    ],
)
def test_a_mistake_is_one_message_and_changes_nothing(
    store: Store, arguments: tuple[str, ...], message: str
) -> None:
    before = everything(store.client)
    result = promote(*arguments)
    assert result.exit_code == 2
    assert message in words(result)
    assert "Traceback" not in result.output
    assert everything(store.client) == before


def test_without_a_candidate_the_version_must_be_named(store: Store) -> None:
    store.client.delete_registered_model_alias(NAME, "candidate")
    result = promote("--why", "x")
    assert (result.exit_code, aliases(store.client, NAME)) == (2, {})
    assert "there is no candidate; name the VERSION" in words(result)


def test_before_anything_was_exported_there_is_nothing_to_promote(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    result = promote("--why", "x")
    assert result.exit_code == 2
    assert "mlflow.db: no model is registered for other; `dvc repro` exports one" in words(result)
    assert store.client.get_experiment_by_name("other") is None
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = promote()
    assert (result.exit_code, list((tmp_path / "empty").iterdir())) == (2, [])
    assert "no model is registered for darkroom" in words(result)


def test_a_server_that_is_down_is_one_message(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for arguments in (("--why", "x"), ("--list",), ("-n",)):
        result = promote(*arguments)
        assert result.exit_code == 2
        assert result.output == (
            "http://127.0.0.1:9: Connection refused; the model registry cannot be read\n"
        )


def test_scores_of_other_data_do_not_compare(store: Store, project: Path) -> None:
    promote("1", "--why", "first")
    assert "do not compare" not in promote("-n").output
    run_id = make_tested_run(store, 0.95)
    path, record = make_record(project, 4.0, 0.95)
    other = record.model_copy(update={"dataset": ("prepared", "e" * 64)})
    propose(store, log_onnx(store, run_id, path, other), record.timestamp_ms)
    assert "tested on different data, so their scores are not comparable" in words(promote("-n"))


def test_a_version_whose_model_is_gone_has_no_scores(store: Store) -> None:
    source = store.client.get_model_version(NAME, "3").source
    store.client.delete_logged_model(source.removeprefix("models:/"))
    assert "version 3 has no known scores" in words(promote("-n"))
    assert "0.9000" in words(promote("--list"))  # of the second


class Lost(Exception):
    """The connection broke."""


CHANGES = ("set_model_version_tag", "update_model_version", "delete_model_version_tag")


@pytest.mark.slow
@pytest.mark.parametrize("does_call", [False, True])
def test_broken_off_anywhere_the_champion_stays_and_again_notes_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch, does_call: bool
) -> None:
    for number, why in (("1", "first"), ("2", "better")):
        promote(number, "--why", why)
    calls, breaks_at = 0, 0

    def wrap(method: Callable) -> Callable:
        def wrapped(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == breaks_at and not does_call:
                raise Lost("[Errno 111] Connection refused")
            result = method(*args, **kwargs)
            if calls == breaks_at:
                raise Lost("[Errno 111] Connection refused")
            return result

        return wrapped

    for name in CHANGES:
        monkeypatch.setattr(MlflowClient, name, wrap(getattr(MlflowClient, name)))
    for breaks_at in range(1, 20):  # noqa: B007, it is read above
        calls = 0
        result = promote("1", "--why", "back")
        if result.exit_code == 0:
            break
        assert result.exit_code == 2
        assert "mlflow.db: Connection refused; version 1 is not promoted" in words(result)
        assert aliases(store.client, NAME)["champion"] == "2"
    assert breaks_at > 8
    assert aliases(store.client, NAME)["champion"] == "1"
    one, two = (store.client.get_model_version(NAME, number) for number in ("1", "2"))
    assert [line[:10] for line in one.description.splitlines()[2:]] == [
        "- promoted",
        "- replaced",
        "- promoted",
    ]
    assert [line[:10] for line in two.description.splitlines()[2:]] == ["- promoted", "- replaced"]
    assert "replaced.by" not in one.tags


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on this machine."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", f"{port}"),
            *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1"),
            *("--artifacts-destination", f"{folder / 'artifacts'}"),
        ],
        cwd=folder,
        env={
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert process.poll() is None
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.slow
def test_from_the_export_to_the_champion_through_a_server(
    server: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    made = Path("models/model.safetensors")
    write_onnx(Path("model.onnx"), 1.0)
    assert "no model is registered" in words(promote())
    with tracked("train", load_runtime()) as run:
        run.log_output(made, "abc")
        run.log_metrics({"val/f1_macro": 0.5}, step=3)
        run.log_metrics({"test/f1_macro": 0.75})
    for _ in range(2):
        export_through_journal(made, step=3)
    assert capsys.readouterr().err == ""
    client = MlflowClient(server)
    [version] = client.search_model_versions(f"name = '{NAME}'")
    assert len(client.get_metric_history(version.run_id, "test/f1_macro")) == 1
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {p.key: (p.value, p.dataset_digest) for p in model.metrics} == {
        "test/f1_macro": (0.75, DIGEST[:36]),
        "val/f1_macro": (0.5, None),
    }
    result = promote("--why", "the only one")
    assert "version 1 is the champion now" in result.output
    assert aliases(client, NAME) == {"candidate": "1", "champion": "1"}
    assert "1 candidate" in words(promote("--list"))


# the registered bytes


def artifacts_of(store: Store, number: int) -> Path:
    """The folder with the files of a version."""
    source = store.client.get_model_version(NAME, f"{number}").source
    model = store.client.get_logged_model(source.removeprefix("models:/"))
    return Path(url2pathname(urlsplit(model.artifact_location).path))


def test_it_says_what_it_has_checked(store: Store) -> None:
    for arguments in (("--dry-run",), ("--why", "good"), ("3",)):
        result = promote(*arguments)
        assert result.exit_code == 0
        assert "version 3: 5 files read back, SHA-256 as recorded when it was exported" in result.output


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flip": (lambda folder: flip(folder / "model.onnx"), "its file model.onnx is damaged"),
    "a flip beside it": (lambda folder: flip(folder / "MLmodel"), "its file MLmodel is damaged"),
    "another model": (
        lambda folder: write_onnx(folder / "model.onnx", 7.0),
        "its file model.onnx is damaged or was replaced",
    ),
    "nothing left of it": (
        lambda folder: (folder / "model.onnx").write_bytes(b""),
        "its file model.onnx is damaged",
    ),
    "no file": (lambda folder: (folder / "model.onnx").unlink(), "its file model.onnx is gone"),
    "no folder": (lambda folder: shutil.rmtree(folder), "its file MLmodel is gone"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "arguments",
    [
        ("--why", "good"),
        pytest.param(("--dry-run",), marks=pytest.mark.slow),
        pytest.param(("2", "--why", "good"), marks=pytest.mark.slow),
    ],
)
def test_a_version_whose_files_are_not_those_exported_is_refused(
    store: Store, damage: str, arguments: tuple[str, ...]
) -> None:
    number = 2 if "2" in arguments else 3
    do, problem = DAMAGES[damage]
    do(artifacts_of(store, number))
    before = everything(store.client)
    result = promote(*arguments)
    assert result.exit_code == 2, result.output
    assert f"version {number} cannot be used: {problem}" in words(result)
    assert "`dvc repro --force export`" in words(result)
    assert "Traceback" not in result.output
    assert everything(store.client) == before


def test_a_damaged_champion_is_told_and_a_sound_one_too(store: Store) -> None:
    assert promote("--why", "good").exit_code == 0
    assert "version 3 is already the champion" in promote("3").output
    flip(artifacts_of(store, 3) / "model.onnx")
    result = promote("3")
    assert result.exit_code == 2
    assert "version 3 cannot be used: its file model.onnx is damaged" in words(result)


def test_a_version_whose_logged_model_was_deleted_is_refused(store: Store) -> None:
    source = store.client.get_model_version(NAME, "3").source
    store.client.delete_logged_model(source.removeprefix("models:/"))
    result = promote("--why", "good")
    assert result.exit_code == 2
    assert f"version 3 cannot be used: its logged model ({source}) is gone" in words(result)
    assert "champion" not in aliases(store.client, NAME)


def test_a_version_without_a_digest_is_refused(store: Store) -> None:
    store.client.delete_model_version_tag(NAME, "3", "sha256")
    result = promote("--why", "good")
    assert result.exit_code == 2
    assert "it has no tag sha256, so its files cannot be checked" in words(result)


def test_a_version_of_an_earlier_darkroom_is_checked_as_far_as_it_can(store: Store) -> None:
    """Earlier versions recorded the digest of the ONNX file alone."""
    source = store.client.get_model_version(NAME, "3").source
    store.client.delete_logged_model_tag(source.removeprefix("models:/"), "sha256.files")
    assert "version 3: 1 file read back" in promote("--dry-run").output
    flip(artifacts_of(store, 3) / "model.onnx")
    assert promote("--dry-run").exit_code == 2


@pytest.mark.parametrize("damage", ["a flip", "no file", "no folder", "a flip beside it"])
def test_an_export_of_the_same_bytes_puts_the_files_back(
    store: Store, project: Path, damage: str
) -> None:
    DAMAGES[damage][0](artifacts_of(store, 3))
    assert promote("--dry-run").exit_code == 2
    run_id = store.client.get_model_version(NAME, "3").run_id
    path, record = make_record(project, 3.0, 0.85)
    propose(store, log_onnx(store, run_id, path, record), record.timestamp_ms)
    result = promote("--why", "good again")
    assert "version 3 is the champion now" in result.output, result.output

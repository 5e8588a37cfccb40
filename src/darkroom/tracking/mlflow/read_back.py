"""Reads the files of a logged model back from MLflow, and compares them with what was logged."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from darkroom.digests import file_sha256
from darkroom.errors import brief
from darkroom.tracking.mlflow.store import as_default

CONTENT_TAG = "sha256"
"""Tag of logged models and versions: SHA-256 of the ONNX file."""

DESCRIPTION_TAG = "sha256.description"
"""Tag of logged models and versions that MLflow can serve: SHA-256 of their model.json."""

FILES_TAG = "sha256.files"
"""Tag of logged models: SHA-256 of each file, as JSON. Models of earlier versions lack it."""

ONNX = "model.onnx"

POLL_SECONDS = 0.1


class Unsound(Exception):
    """A logged model's files are missing, or differ from those that were logged; the message tells."""


def recorded_files(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of each file as recorded in the tags of a logged model or version.

    Raises:
        Unsound: none is recorded.
    """
    files: dict[str, str] = {}
    try:
        read = json.loads(tags.get(FILES_TAG, "{}"))
        files |= {f"{name}": f"{sha256}" for name, sha256 in read.items()}
    except (ValueError, AttributeError):
        raise Unsound(f"its tag {FILES_TAG} is damaged") from None
    if CONTENT_TAG not in tags:
        raise Unsound(f"it has no tag {CONTENT_TAG}, so its files cannot be checked")
    return files | {ONNX: tags[CONTENT_TAG]}


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, at any depth, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def compare(found: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    """Compare digests of files by name; files that are not recorded are ignored.

    Raises:
        Unsound: a file is missing or differs; the message names it.
    """
    for name, sha256 in sorted(recorded.items()):
        if name not in found:
            raise Unsound(f"its file {name} is gone")
        if found[name] != sha256:
            raise Unsound(
                f"its file {name} is damaged or was replaced: SHA-256 {found[name][:12]}..., "
                f"recorded {sha256[:12]}..."
            )


def num_bytes_of(client: MlflowClient, model: LoggedModel) -> int:
    """Return the size of a logged model's files in bytes, as far as MLflow lists them."""
    todo: list[str | None] = [None]
    total = 0
    while todo:
        for entry in client.list_logged_model_artifacts(model.model_id, todo.pop()):
            if entry.is_dir:
                todo.append(entry.path)
            total += entry.file_size or 0
    return total


def read_back(
    uri: str,
    model: LoggedModel,
    recorded: Mapping[str, str],
    advance: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Download the files of a logged model, as its users do, and compare their digests.

    Args:
        uri: MLflow's address.
        recorded: SHA-256 by file.
        advance: called with the number of bytes that arrived since the last call.

    Raises:
        Unsound: a file is missing or differs.
    """
    with TemporaryDirectory() as scratch, as_default(uri):
        source = f"models:/{model.model_id}"
        done = 0
        with ThreadPoolExecutor(1) as pool:
            download = pool.submit(
                mlflow.artifacts.download_artifacts, artifact_uri=source, dst_path=scratch
            )
            while wait([download], POLL_SECONDS).not_done:
                arrived = _num_bytes(Path(scratch))
                advance(max(arrived - done, 0))
                done = max(arrived, done)
        try:
            folder = Path(download.result())
        except OSError as error:
            raise Unsound(f"its files cannot be read back ({error.strerror or error})") from None
        except Exception as error:  # each kind of store has errors of its own
            raise Unsound(f"its files cannot be read back ({brief(error)})") from None
        advance(max(_num_bytes(Path(scratch)) - done, 0))
        compare(digests_of(folder), recorded)


def _num_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # renamed meanwhile
            continue
    return total

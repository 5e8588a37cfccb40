"""Fetches the exported files of a version of the registered model, for those who run it."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient

from darkroom.errors import UserError, brief
from darkroom.models.exported import DESCRIPTION, ONNX_FILES
from darkroom.paths import EXPORT
from darkroom.prediction.pyfunc.description import digest_of, portable_description
from darkroom.tracking.address import Address
from darkroom.tracking.mlflow.promotion import Registry, Version
from darkroom.tracking.mlflow.read_back import CONTENT_TAG, DESCRIPTION_TAG
from darkroom.tracking.mlflow.store import open_client
from darkroom.tracking.root import project_root

_NAME = re.compile(r"models:/(?P<model>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<number>[0-9]{1,9}))")

_PARITY = "parity.json"


def find_version(name: str) -> Version:
    """Return the version that ``models:/NAME@ALIAS`` or ``models:/NAME/NUMBER`` names now.

    Raises:
        UserError: there is no such version, or MLflow does not answer.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(
            f"{name}: not a version of a model; write models:/NAME@champion or models:/NAME/3"
        )
    root = project_root()
    registry = Registry.open(root, Address.of(root))
    known = registry.versions[0].name
    if match["model"] != known:
        raise UserError(f"{name}: this project's registered model is called {known}")
    if match["number"]:
        return registry.version(int(match["number"]))
    for version in registry.versions:
        if match["alias"] in version.aliases:
            return version
    raise UserError(
        f"{name}: no version has the alias {match['alias']}; `darkroom promote` chooses the champion"
    )


def download(version: Version, folder: Path, format_name: str) -> None:
    """Write model.json and an ONNX file of a version into a folder, as the export stage wrote them.

    The digests in model.json are not checked here, but that they are those of the version.

    Args:
        format_name: a key of ``ONNX_FILES``.

    Raises:
        UserError: MLflow lacks a file, or does not answer.
    """
    root = project_root()
    address = Address.of(root)
    try:
        client = open_client(root, address)
        run_id = _export_run(client, version)
        names = {Path(entry.path).name for entry in client.list_artifacts(run_id, EXPORT.as_posix())}
        wanted = [DESCRIPTION, ONNX_FILES[format_name], *([_PARITY] if _PARITY in names else [])]
        for name in wanted:
            if name not in names:
                raise UserError(f"{version}: MLflow has no {name} of its export; export it again")
            _fetch(client, run_id, name, folder)
    except UserError:
        raise
    except Exception as error:  # of any kind: of MLflow, a database or an HTTP library
        raise UserError(f"{address}: {brief(error)}") from None


def _export_run(client: MlflowClient, version: Version) -> str:
    """Return the latest run that exported the bytes of a version.

    Raises:
        UserError: MLflow has none.
    """
    training = client.get_run(version.run_id)
    runs = client.search_runs(
        [training.info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{version.run_id}' and tags.stage = 'export'",
        order_by=["attributes.start_time DESC"],
    )
    for run in runs:
        with TemporaryDirectory() as scratch:
            try:
                _fetch(client, run.info.run_id, DESCRIPTION, Path(scratch))
            except OSError:
                continue
            if _is_of(Path(scratch), version.tags):
                return str(run.info.run_id)
    raise UserError(
        f"{version}: MLflow has no run that exported it with its {DESCRIPTION}; export it again: "
        "`dvc repro --force export`, then `darkroom sync`"
    )


def _is_of(folder: Path, tags: Mapping[str, str]) -> bool:
    """Return whether the model.json in a folder describes the model that has these tags."""
    description = portable_description(folder, tags.get(CONTENT_TAG, ""))
    if description is None:
        return False
    digest = digest_of(description)
    return tags.get(DESCRIPTION_TAG, digest) == digest


def _fetch(client: MlflowClient, run_id: str, name: str, folder: Path) -> None:
    with TemporaryDirectory(dir=folder) as scratch:
        found = client.download_artifacts(run_id, (EXPORT / name).as_posix(), scratch)
        Path(found).replace(folder / name)

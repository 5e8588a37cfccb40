"""model.json: the description of an exported model, with digests of the files beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from darkroom.bounded_json import BadJson, load_json
from darkroom.digests import FileDigest, Mismatch, check_file, seal, unseal
from darkroom.errors import UserError, brief, listed

DESCRIPTION = "model.json"

ONNX_FILES = {
    "onnx": "model.onnx",
    "onnx-fp16": "model.fp16.onnx",
    "onnx-int8": "model.int8.onnx",
}
"""Formats that ONNX Runtime and `darkroom predict` run, with their files."""

FILES = "files"
"""Key of the digests by file name, such as ``golden/0.png``."""

REMEDY = "copy the whole folder of one export, or create it again with `dvc repro --force export`"

MAX_BYTES = 16 * 2**20
"""Maximum size of model.json; 100,000 classes with names of 100 characters take less."""

_DIGESTS = TypeAdapter(dict[str, FileDigest])


def describe_export(
    preprocessing: Mapping[str, Any], folder: Path, files: Iterable[Path]
) -> dict[str, Any]:
    """Return the content of model.json: ``preprocessing``, a digest per file, and a digest of it all.

    Args:
        files: files in ``folder``, at any depth.

    Raises:
        OSError: a file cannot be read.
    """
    digests = {file.relative_to(folder).as_posix(): asdict(FileDigest.of(file)) for file in files}
    return seal({**preprocessing, FILES: digests})


def load_description(folder: Path) -> tuple[dict[str, Any], dict[str, FileDigest]]:
    """Read model.json.

    Returns:
        The values, and the digests of the files beside it.

    Raises:
        UserError: model.json is missing, damaged, edited, or from an earlier version.
    """
    path = folder / DESCRIPTION
    try:
        document = load_json(path, MAX_BYTES)
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file; {folder} must be a folder that the export stage wrote"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except BadJson as error:
        raise _damaged(path, brief(error)) from None
    if isinstance(document, dict) and "class_names" in document and FILES not in document:
        raise UserError(
            f"{path}: holds no digests of the files, so it is damaged, or was exported by an earlier "
            "version of darkroom; export again with `dvc repro --force export`"
        )
    try:
        values = unseal(document)
        return values, _DIGESTS.validate_python(values.pop(FILES, None))
    except Mismatch as error:
        raise _damaged(path, f"{error}") from None
    except ValidationError:
        raise _damaged(path, f"{FILES}: not a digest of each file") from None


def check_exported(folder: Path, digests: Mapping[str, FileDigest], name: str) -> Path:
    """Return the path of a file in an exported folder, after checking its digest.

    Args:
        digests: those that ``load_description`` returned.

    Raises:
        UserError: the file was not exported, or is missing, damaged, or from another export.
    """
    path = folder / name
    if name not in digests:
        raise UserError(
            f"{path}: {DESCRIPTION} records no such file, but {listed(sorted(digests)) or 'none'}; name "
            "its format in export.formats and run `dvc repro export`"
        )
    try:
        check_file(path, digests[name])
    except Mismatch as error:
        raise UserError(f"{path}: {error}; {DESCRIPTION} records it; {REMEDY}") from None
    return path


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: damaged or edited ({problem}); {REMEDY}")

"""model.json: what an exported folder says of its model, and the digests that bind its files."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from darkroom.digests import FileDigest, Mismatch, check_file, seal, unseal
from darkroom.errors import UserError, brief, listed

DESCRIPTION = "model.json"

FILES = "files"
"""The key under which the digests stand, by the file's name."""

REMEDY = "take the whole folder from one export, or make it anew with `dvc repro --force export`"

MAX_BYTES = 16 * 2**20
"""Of model.json: 100,000 classes with names of 100 characters take less."""

_DIGESTS = TypeAdapter(dict[str, FileDigest])


def describe_export(preprocessing: Mapping[str, Any], files: Iterable[Path]) -> dict[str, Any]:
    """Returns what model.json holds: ``preprocessing``, the digest of each file, and one of all that.

    Raises:
        OSError: a file cannot be read.
    """
    digests = {file.name: FileDigest.of(file).model_dump() for file in files}
    return seal({**preprocessing, FILES: digests})


def load_description(folder: Path) -> tuple[dict[str, Any], dict[str, FileDigest]]:
    """Reads model.json.

    Returns:
        Its values, and the digests of the files beside it.

    Raises:
        UserError: model.json is missing, damaged, edited, or of an earlier version.
    """
    path = folder / DESCRIPTION
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _damaged(path, f"{size:,} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file; {folder} must be a folder that the export stage wrote"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
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
    """Returns the path of a file of an exported folder, after its bytes were compared.

    Args:
        digests: as ``load_description`` returns.

    Raises:
        UserError: the file was not exported, or is missing, damaged or of another export.
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

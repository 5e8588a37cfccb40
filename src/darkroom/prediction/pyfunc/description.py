"""model.json as an MLflow model holds it, beside model.onnx alone."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from darkroom.digests import seal, unseal
from darkroom.errors import UserError
from darkroom.models.exported import FILES, ONNX_FILES, load_description
from darkroom.targets import from_file


def portable_description(folder: Path, onnx_sha256: str) -> bytes | None:
    """Return model.json for a folder that holds no other file of the export than model.onnx.

    It has the same bytes as long as the model and its rules are the same, whatever else was exported.

    Returns:
        None if model.json is damaged, of an earlier version of darkroom, or of another export.
    """
    name = ONNX_FILES["onnx"]
    try:
        values, digests = load_description(folder)
    except UserError:
        return None
    if name not in digests or digests[name].sha256 != onnx_sha256:
        return None
    document = seal({**values, FILES: {name: asdict(digests[name])}})
    return json.dumps(document, indent=2, sort_keys=True).encode()


def values_of(description: bytes) -> dict[str, Any]:
    """Return the values in what ``portable_description`` returned."""
    return from_file(unseal(json.loads(description)))


def digest_of(description: bytes) -> str:
    """Return the SHA-256 of what ``portable_description`` returned."""
    return hashlib.sha256(description).hexdigest()

"""The data of a result: the hash of the raw files, and the digest of the prepared data."""

import json
import posixpath
from collections.abc import Mapping

from darkroom.paths import DATASET
from darkroom.tracking.ledger.outputs import Outputs
from darkroom.tracking.ledger.results import Content, Result

PREPARE = "prepare"


def raw_data(results: Mapping[str, Result]) -> Content | None:
    """Return what ``prepare`` read at ``data.path`` according to a dvc.lock; None if not recorded.

    The hash of a folder ends in ``.dir``; that of an archive is the file's.
    """
    prepare = results.get(PREPARE)
    path = prepare.params.get("data.path") if prepare else None
    if prepare is None or not isinstance(path, str):
        return None
    deps = {posixpath.normpath(name): content for name, content in prepare.deps.items()}
    return deps.get(posixpath.normpath(path))


def prepared_digest(results: Mapping[str, Result], outputs: Outputs) -> str | None:
    """Return the digest in dataset.json, SHA-256 over pixels, labels and splits; None if there is none.

    Raises:
        OutputMissing: dataset.json is recorded, but its bytes cannot be found.
        OutputDamaged: DVC's cache or remote holds other bytes.
    """
    name = DATASET.as_posix()
    prepare = results.get(PREPARE)
    if prepare is None or name not in prepare.outs:
        return None
    try:
        info = json.loads(outputs.read(prepare, name))
    except ValueError:  # not written by darkroom
        return None
    digest = info.get("digest") if isinstance(info, dict) else None
    return digest if isinstance(digest, str) else None

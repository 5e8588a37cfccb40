"""Which data a result comes from: the hash of the raw images, the digest of the prepared ones."""

import json
import posixpath
from collections.abc import Mapping

from darkroom.paths import DATASET
from darkroom.tracking.ledger.outputs import Outputs
from darkroom.tracking.ledger.results import Content, Result

PREPARE = "prepare"


def raw_data(results: Mapping[str, Result]) -> Content | None:
    """Returns what lay at ``data.path`` when one dvc.lock's data were prepared; None if it has no such.

    A folder's hash ends in ``.dir``; an archive's is that of the file.
    """
    prepare = results.get(PREPARE)
    path = prepare.params.get("data.path") if prepare else None
    if prepare is None or not isinstance(path, str):
        return None
    deps = {posixpath.normpath(name): content for name, content in prepare.deps.items()}
    return deps.get(posixpath.normpath(path))


def prepared_digest(results: Mapping[str, Result], outputs: Outputs) -> str | None:
    """Returns the digest in dataset.json, SHA-256 over pixels, labels and splits; None if there is none.

    Raises:
        OutputMissing: dataset.json is recorded, but nowhere to be had.
        OutputDamaged: DVC's cache, or its remote, holds another one.
    """
    name = DATASET.as_posix()
    prepare = results.get(PREPARE)
    if prepare is None or name not in prepare.outs:
        return None
    try:
        info = json.loads(outputs.read(prepare, name))
    except ValueError:  # not what any darkroom wrote
        return None
    digest = info.get("digest") if isinstance(info, dict) else None
    return digest if isinstance(digest, str) else None

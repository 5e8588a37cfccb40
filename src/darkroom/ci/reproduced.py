"""Tell whether the results in the folder are those that were committed."""

import json
from pathlib import Path

from darkroom.errors import UserError, listed
from darkroom.paths import ENVIRONMENT, METRICS
from darkroom.tracking.git import Repository

LOCK = Path("dvc.lock")


def compare_with_commit() -> tuple[bool, str]:
    """Return whether what was promised holds, and a sentence that says what was found.

    Equal bytes are promised for equal fingerprints of the environment. With another fingerprint, other
    bytes are not a failure.

    Raises:
        UserError: the folder is not in a git repository, or lacks a file.
    """
    repository = Repository.around(Path())
    if repository is None:
        raise UserError("this folder is not in a git repository, so there is nothing to compare with")
    changed = [f"{path}" for path in (LOCK, METRICS) if _committed(repository, path) != _here(path)]
    if not changed:
        return True, f"{LOCK} is unchanged: the same bytes as when it was committed"
    before, now = (
        _fingerprint(read) for read in (_committed(repository, ENVIRONMENT), _here(ENVIRONMENT))
    )
    if before == now:
        return False, f"{listed(changed)} changed in the environment of the commit; see `git diff`"
    return True, f"{listed(changed)} changed, and so did the environment; see `git diff {ENVIRONMENT}`"


def _committed(repository: Repository, path: Path) -> bytes:
    content = repository.file("HEAD", path.as_posix())
    if content is None:
        raise UserError(f"{path}: not in the last commit")
    return content


def _here(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: the file does not exist; run `dvc repro`")
    return path.read_bytes()


def _fingerprint(content: bytes) -> str:
    try:
        return f"{json.loads(content)['fingerprint']}"
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{ENVIRONMENT}: damaged; run `dvc repro`") from None

"""The content of a dvc.lock: per stage its parameters, and the hashes of its inputs and outputs."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from darkroom.bounded_yaml import BadYaml, load_yaml
from darkroom.errors import UserError
from darkroom.params import parameters
from darkroom.paths import PARAMS

LOCK = Path("dvc.lock")
WORKSPACE = "workspace"
"""The name of the revision in the folder, committed or not."""

SCHEMA = "2.0"

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Content(NamedTuple):
    """The content of a path: ``md5`` as DVC writes it, for a folder with ``.dir``; ``size`` in bytes."""

    md5: str
    size: int | None


@dataclass(frozen=True)
class Result:
    """The result of one stage: an entry of a dvc.lock."""

    stage: str
    """DVC's name: ``train``; in older commits also ``fetch@digits``."""
    params: dict[str, Any]
    """By full name, ``train.lr``; those of another file start with its name, ``other.yaml:lr``."""
    deps: dict[str, Content]
    """By path, relative to dvc.yaml."""
    outs: dict[str, Content]
    revision: str = WORKSPACE
    """The commit whose dvc.lock has the result, 40 hex digits, or ``workspace``."""

    @property
    def verb(self) -> str:
        """The stage's name without its item: ``fetch``."""
        return self.stage.partition("@")[0]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over stage, params and hashes of outputs: equal in every revision that has the result.

        Deps are not part of it: an edit of code that changes no output does not change the result.
        """
        outs = {path: content.md5 for path, content in self.outs.items()}
        text = json.dumps([self.stage, self.params, outs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def parse_results(text: str, revision: str = WORKSPACE, file: Path = LOCK) -> dict[str, Result]:
    """Return the results of a dvc.lock by the names of their stages.

    Paths without an MD5 (a web page has an etag) are omitted, and so are entries with neither deps nor
    outs.

    Raises:
        UserError: the text is not YAML, or not in the layout of DVC 2 and later. The message names file
            and revision.
    """
    place = f"{file} at {revision[:7]}" if revision != WORKSPACE else f"{file}"
    try:
        lock = load_yaml(text)
    except BadYaml as error:
        where = f"{place}, line {error.line}" if error.line else place
        raise UserError(f"{where}: {error}; does it contain a merge conflict?") from None
    if lock is None:
        return {}
    if not isinstance(lock, dict) or lock.get("schema") != SCHEMA:
        schema = lock.get("schema") if isinstance(lock, dict) else None
        found = f"schema {schema}" if schema else "no schema"
        raise UserError(f"{place}: {found}; darkroom reads schema {SCHEMA}, that of DVC 2 and later")
    entries = _mapping(lock.get("stages"))
    results = (_result(str(stage), _mapping(entry), revision) for stage, entry in entries.items())
    return {result.stage: result for result in results if result.deps or result.outs}


def _result(stage: str, entry: dict[Any, Any], revision: str) -> Result:
    params: dict[str, Any] = {}
    for file, values in _mapping(entry.get("params")).items():
        prefix = "" if file == PARAMS.as_posix() else f"{file}:"
        params |= {prefix + name: _plain(value) for name, value in flat_params(_mapping(values))}
    return Result(stage, params, _contents(entry.get("deps")), _contents(entry.get("outs")), revision)


def _contents(items: object) -> dict[str, Content]:
    contents = {}
    for item in map(_mapping, items if isinstance(items, list) else []):
        path, md5, size = item.get("path"), item.get("md5"), item.get("size")
        # a hash names a file in DVC's cache: other text could lead to a file outside
        if isinstance(path, str) and isinstance(md5, str) and _MD5.fullmatch(md5):
            contents[path] = Content(md5, size if isinstance(size, int) else None)
    return contents


def flat_params(values: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield full name and value of each parameter in nested sections."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and name not in _known_params():
            yield from flat_params(value, f"{name}.")
        else:  # some parameters are mappings themselves
            yield name, value


@cache
def _known_params() -> frozenset[str]:
    return frozenset(name for name, _, _ in parameters())


def _mapping(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """Return the value in JSON's types: YAML also has dates, and keys of any type."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)

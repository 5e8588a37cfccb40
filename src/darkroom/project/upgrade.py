"""Brings a project to the installed darkroom: what would change, and the change itself."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom.ci.workflow import PLACES
from darkroom.errors import listed
from darkroom.installed import ENDING, version
from darkroom.project.content import project_files, shipped_params
from darkroom.project.merged_params import Merged, merge_params
from darkroom.project.record import RECORD, Record, text_sha256
from darkroom.whole_files import whole_file

PARAMS = "params.yaml"

BESIDE = ".new"
"""The end of the name of a new version that is written beside a file with edits."""


@dataclass(frozen=True)
class Change:
    """A file that is to be written."""

    path: str
    """In the project."""
    old: str
    """The file as it is; empty if it does not exist."""
    new: str
    is_edited: bool = False
    """Whether the file has edits that the new version lacks: then that is written beside it."""

    @property
    def target(self) -> str:
        """Where the new version is written."""
        return f"{self.path}{BESIDE}" if self.is_edited else self.path

    def diff(self) -> str:
        """Return the difference for a reader."""
        if self.path.endswith(ENDING):
            return f"{self.path}: darkroom's code changed: {listed(self._other_code(), 8)}\n"
        note = ", which has edits: merge it by hand" if self.is_edited else ""
        lines = difflib.unified_diff(
            self.old.splitlines(keepends=True),
            self.new.splitlines(keepends=True),
            self.path,
            f"{self.target}{note}",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    def _other_code(self) -> list[str]:
        before, after = set(self.old.splitlines()), set(self.new.splitlines())
        return sorted({line.partition("  ")[2].removeprefix("darkroom/") for line in before ^ after})


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade does."""

    before: str
    """The version of darkroom that wrote the project."""
    changes: list[Change]
    remarks: list[str]
    """On parameters."""
    record: Record

    @property
    def is_needed(self) -> bool:
        return bool(self.changes) or self.before != self.record.version

    def apply(self, root: Path) -> None:
        """Write the new versions. A file with edits stays; its new version is written beside it."""
        for change in self.changes:
            path = root / change.target
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, change.new)
        _write(root / RECORD, self.record.text())


def plan_upgrade(root: Path) -> Upgrade:
    """Return what an upgrade of the project in ``root`` does. Nothing is written.

    Raises:
        UserError: there is no project made by ``darkroom init``, or its params.yaml is not YAML.
    """
    record = Record.load(root)
    hosting = next((name for name, path in PLACES.items() if path.as_posix() in record.files), None)
    files = project_files(record.name, hosting)
    changes = list(_changes(root, files, record))
    if (root / PARAMS).is_file():
        params = (root / PARAMS).read_text(encoding="utf-8")
        merged = merge_params(params)
    else:
        params, merged = "", Merged(shipped_params(), [])
    if merged.text != params:
        changes.append(Change(PARAMS, params, merged.text))
    return Upgrade(record.version, changes, merged.remarks, Record.of(record.name, version(), files))


def _changes(root: Path, files: dict[str, str], record: Record) -> Iterator[Change]:
    for path, new in files.items():
        file = root / path
        if not file.is_file():
            yield Change(path, "", new)
            continue
        old = file.read_text(encoding="utf-8", errors="replace")
        recorded = record.files.get(path)
        if old == new:
            continue
        if path.endswith(ENDING):  # nothing that people edit
            yield Change(path, old, new)
        elif recorded != text_sha256(new):  # otherwise only the user has changed it
            yield Change(path, old, new, is_edited=recorded != text_sha256(old))


def _write(path: Path, text: str) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")

"""What ``darkroom verify`` finds, and how each finding can be repaired."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from darkroom.tracking.ledger.tracked import Project, Tracked

State = Literal["intact", "missing", "changed", "unreadable"]

NUM_NAMED = 3
"""Default number of files that a finding names."""


@dataclass
class Files:
    """The files of a tracked folder, or the tracked file, that are in one state."""

    number: int = 0
    named: list[str] = field(default_factory=list)
    """The first few of them."""

    def add(self, name: str, max_named: int) -> None:
        self.number += 1
        if len(self.named) < max_named:
            self.named.append(name)

    def __str__(self) -> str:
        more = self.number - len(self.named)
        return ", ".join(self.named) + (f" and {more:,} more" if more else "")


@dataclass(frozen=True)
class Finding:
    """Something that differs from what DVC has recorded."""

    kind: Literal["rotten", "changed", "missing", "unreadable"]
    subject: str
    """The path of what was checked."""
    problem: str
    remedy: str
    is_absent: bool = False
    """Whether DVC's cache holds no part of the subject."""


@dataclass
class Condition:
    """The condition of one tracked file or folder, in the project and in DVC's cache."""

    project: Project
    tracked: Tracked
    max_named: int
    """Number of files that a finding names."""
    listing: State | None = None
    """State of the object that lists a folder's files; None for a file, or if DVC does not cache it."""
    cached: dict[State, Files] = field(default_factory=dict)
    """Objects of the cache that are not intact."""
    here: dict[State, Files] = field(default_factory=dict)
    """Files of the project that are not intact."""
    extra: Files = field(default_factory=Files)
    """Files of the project that are not recorded."""
    num_restorable: int = 0
    """Number of objects that are not intact, but could be made from the project's files."""
    _objects_to_delete: list[str] = field(default_factory=list)
    _files_to_delete: list[str] = field(default_factory=list)

    def add_object(self, state: State, path: Path, name: str = "") -> None:
        """Add an object of the cache that is not intact; ``name`` is the file that it holds."""
        shown = os.path.relpath(path, self.project.root)
        shown = shown if not shown.startswith("..") else f"{path}"
        file = f" ({name})" if name and self.tracked.is_folder else ""
        self.cached.setdefault(state, Files()).add(f"{shown}{file}", self.max_named)
        if state == "changed":
            self._objects_to_delete.append(shown)

    def add_file(self, state: State, name: str) -> None:
        """Add a file of the project that is not intact."""
        self.here.setdefault(state, Files()).add(name, self.max_named)
        if state == "changed":
            self._files_to_delete.append(name)

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong."""
        yield from self._findings_in_cache()
        yield from self._findings_here()

    def _findings_in_cache(self) -> Iterator[Finding]:
        for state, files in self.cached.items():
            number = "1 object" if files.number == 1 else f"{files.number:,} objects"
            problem = {
                "changed": f"{number} in DVC's cache whose bytes do not match the name: {files}",
                "missing": f"{number} not in DVC's cache: {files}",
                "unreadable": f"{number} in DVC's cache cannot be read: {files}",
            }[state]
            kind: Literal["rotten", "missing", "unreadable"] = (
                "rotten" if state == "changed" else "missing" if state == "missing" else "unreadable"
            )
            is_absent = state == "missing" and self.listing in (None, "missing")
            yield Finding(kind, f"{self.tracked.path}", problem, self._cache_remedy(state), is_absent)

    def _cache_remedy(self, state: State) -> str:
        if state == "unreadable":
            return "check the permissions of these files"
        delete = ""
        if state == "changed":
            delete = f"{self._delete} {self._listed(self._objects_to_delete)}; then "
        num_wrong = sum(files.number for files in self.cached.values())
        if self.num_restorable == num_wrong and not self.here and not self.extra.number:
            return (
                f"{delete}`dvc commit --force {self._owner}` puts it there again: "
                f"{self.tracked.path} is intact"
            )
        return f"{delete}{self._from_elsewhere()}"

    def _findings_here(self) -> Iterator[Finding]:
        path = f"{self.tracked.path}"
        if files := self.here.get("unreadable"):
            yield Finding("unreadable", path, f"cannot be read: {files}", "check the permissions")
        if files := self.here.get("changed"):
            delete = f"{self._delete} {self._listed(self._files_to_delete)}; then "
            yield Finding("changed", path, f"not the recorded bytes: {files}", self._remedy_here(delete))
        if self.extra.number:
            remedy = self._remedy_here("move them away; then ")
            yield Finding("changed", path, f"not recorded: {self.extra}", remedy)
        if files := self.here.get("missing"):
            yield Finding("missing", path, f"not there: {files}", self._remedy_here(""))

    def _remedy_here(self, first: str) -> str:
        if not self.tracked.is_output:
            return (
                "if you did not change it, put back an intact copy (from git, or a backup); "
                f"otherwise `dvc repro {self._owner}` brings the results up to date"
            )
        if self.tracked.is_cached and not self.cached:
            intended = f"; if you intended the change, `dvc commit {self._owner}`" if first else ""
            return f"{first}`dvc checkout --force {self._path}`{intended}"
        if not self.tracked.is_cached:
            return f"`git checkout -- {self._path}`, or {self._made_again()}"
        return f"{first}{self._from_elsewhere()}"

    @property
    def _path(self) -> str:
        return shlex.quote(f"{self.tracked.path}")

    @property
    def _owner(self) -> str:
        return shlex.quote(self.tracked.owner)

    @property
    def _delete(self) -> str:
        """The verb for damaged files: no command can make a user's own data again, so they are kept."""
        return "delete" if self.tracked.has_command else "move away"

    def _from_elsewhere(self) -> str:
        """Say where intact bytes come from if neither the project nor the cache has them."""
        if self.project.has_remote:
            return f"`dvc pull --force {self._path}`, or, if the remote lacks it, {self._made_again()}"
        return self._made_again()

    def _made_again(self) -> str:
        if self.tracked.has_command:
            return f"`dvc repro --force {self._owner}` makes it again"
        return f"put back an intact copy of {self.tracked.path} (from a backup, or its source)"

    def _listed(self, names: list[str]) -> str:
        shown = [shlex.quote(name) for name in names[: self.max_named]]
        more = len(names) - len(shown)
        return ", ".join(shown) + (f" and {more:,} more (`--all` names them)" if more else "")


def summarised(findings: list[Finding], project: Project) -> list[Finding]:
    """Return the findings; if DVC's cache is empty, as in a fresh clone, one finding says so."""
    absent = [finding for finding in findings if finding.is_absent]
    if len(absent) < sum(tracked.is_cached for tracked in project.tracked):
        return findings
    others = [finding for finding in findings if finding not in absent]
    outputs = {f"{tracked.path}" for tracked in project.tracked if tracked.is_cached}
    lacking = [finding for finding in others if finding.subject in outputs]
    is_missing = all(finding.kind == "missing" for finding in lacking)
    if lacking and is_missing:
        others = [finding for finding in others if finding.subject not in outputs]
        remedy = "`dvc pull` gets everything from the remote" if project.has_remote else "`dvc repro`"
    elif lacking:
        remedy = "see below"
    else:
        remedy = "`dvc commit --force` puts the files of this folder into the cache"
    problem = "DVC's cache has none of the outputs"
    if lacking and is_missing:
        problem += f", and {len(lacking)} of them are missing from the project as well"
    return [Finding("missing", f"{project.cache}", problem, remedy, is_absent=True), *others]

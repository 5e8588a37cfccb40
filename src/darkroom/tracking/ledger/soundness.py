"""Hashes what DVC tracks, in the folder and in DVC's cache, and says what is wrong and how to repair it.

DVC itself trusts its cache: an object whose bytes have changed is restored as good
(treeverse/dvc#5978). So whatever is wrong there must be deleted before DVC can put it right.
"""

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from darkroom.errors import UserError
from darkroom.tracking.ledger.dvc_hash import file_md5, folder_files, listing_md5
from darkroom.tracking.ledger.outputs import OutputDamaged, parse_listing
from darkroom.tracking.ledger.tracked import Project, Tracked

State = Literal["intact", "missing", "changed", "unreadable"]

FILES_AT_ONCE = 1_024
"""Files that are handed to the threads together; more would only wait in memory."""

NUM_NAMED = 3
"""Files of a folder that a finding names."""


@dataclass
class Files:
    """Files of one tracked folder, or the one tracked file, in one state; the first few are named."""

    number: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, name: str, most: int) -> None:
        self.number += 1
        if len(self.named) < most:
            self.named.append(name)

    def __str__(self) -> str:
        more = self.number - len(self.named)
        return ", ".join(self.named) + (f" and {more:,} more" if more else "")


@dataclass(frozen=True)
class Finding:
    """Something that is not as DVC has recorded it."""

    kind: Literal["rotten", "changed", "missing", "unreadable"]
    subject: str
    """The path in question."""
    problem: str
    remedy: str
    is_absent: bool = False
    """Whether DVC's cache has nothing of it."""


@dataclass(frozen=True)
class _Pair:
    """One file: in the project's folder, and as an object in DVC's cache, if it belongs there."""

    name: str
    """Below the project."""
    here: Path
    cached: Path | None
    md5: str


class Soundness:
    """Checks a project, one tracked file or folder after the other.

    Args:
        advance: called with the number of bytes that were hashed, or need not be.
        most_named: files that a finding names.
    """

    def __init__(
        self, project: Project, advance: Callable[[int], None], most_named: int = NUM_NAMED
    ) -> None:
        self._project = project
        self._advance = advance
        self._most_named = most_named
        self.num_files = 0
        """Files that were looked at, here and in the cache."""

    def check(self) -> Iterator[Finding]:
        """Yields what is wrong, in the order of the pipeline."""
        with ThreadPoolExecutor() as pool:  # hashlib lets other threads run
            for tracked in self._project.tracked:
                yield from _Check(self, self._project, tracked, pool).findings()


def summarised(findings: list[Finding], project: Project) -> list[Finding]:
    """Returns the findings, as a single one where DVC's cache is empty, as in a fresh clone."""
    absent = [finding for finding in findings if finding.is_absent]
    if len(absent) < sum(tracked.is_cached for tracked in project.tracked):
        return findings
    others = [finding for finding in findings if finding not in absent]
    outputs = {f"{tracked.path}" for tracked in project.tracked if tracked.is_cached}
    is_missing = all(finding.kind == "missing" for finding in others if finding.subject in outputs)
    lacking = [finding for finding in others if finding.subject in outputs]
    if lacking and is_missing:
        others = [finding for finding in others if finding.subject not in outputs]
        remedy = "`dvc pull` gets everything from the remote" if project.has_remote else "`dvc repro`"
    elif lacking:
        remedy = "see below"
    else:
        remedy = "`dvc commit --force` puts what lies here into the cache"
    problem = "DVC's cache has none of the outputs"
    if lacking and is_missing:
        problem += f", and {len(lacking)} of them are not here either"
    return [Finding("missing", f"{project.cache}", problem, remedy, is_absent=True), *others]


class _Check:
    """The check of one tracked file or folder."""

    def __init__(
        self, whole: Soundness, project: Project, tracked: Tracked, pool: ThreadPoolExecutor
    ) -> None:
        self._whole = whole
        self._project = project
        self._tracked = tracked
        self._pool = pool
        self._listing_state: State | None = None
        self._cached: dict[State, Files] = {}
        self._here: dict[State, Files] = {}
        self._objects_to_delete: list[str] = []
        self._files_to_delete: list[str] = []
        self._num_restorable = 0
        """Files whose object is rotten or missing, and which are intact here."""
        self._extra = Files()

    def findings(self) -> Iterator[Finding]:
        try:
            if self._tracked.is_folder:
                self._check_folder()
            else:
                pair = _Pair(f"{self._tracked.path}", self._path, self._object, self._tracked.md5)
                self._take(*self._states(pair), pair)
        except OSError as error:
            place = error.filename or self._path
            yield Finding("unreadable", f"{place}", f"{error.strerror or error}", "see its permissions")
            return
        yield from self._findings_in_cache()
        yield from self._findings_here()

    @property
    def _path(self) -> Path:
        return self._project.root / self._tracked.path

    @property
    def _object(self) -> Path | None:
        return self._project.object_path(self._tracked.md5) if self._tracked.is_cached else None

    def _check_folder(self) -> None:
        """Compares each file with the folder's listing.

        The listing is an object of the cache. Where it is gone, the folder as it lies here is the
        listing if it has the recorded hash.
        """
        recorded = self._recorded_listing()
        present = {
            path.relative_to(self._path).as_posix(): path
            for path in (folder_files(self._path) if self._path.is_dir() else ())
            if path.exists()  # a link into a cache that has lost the object leads nowhere
        }
        if recorded is None:
            self._check_without_listing(present)
            return
        names = iter(recorded)
        while batch := list(islice(names, FILES_AT_ONCE)):
            pairs = [self._pair(name, recorded[name]) for name in batch]
            for states, pair in zip(self._pool.map(self._states, pairs), pairs, strict=True):
                self._take(*states, pair)
        for name in present.keys() - recorded.keys():
            self._extra.add(f"{self._tracked.path / name}", self._whole._most_named)

    def _pair(self, name: str, md5: str) -> _Pair:
        cached = self._project.object_path(md5) if self._tracked.is_cached else None
        return _Pair(f"{self._tracked.path / name}", self._path / name, cached, md5)

    def _recorded_listing(self) -> dict[str, str] | None:
        """Returns the MD5 of each file of the folder, or None where its listing is not to be had."""
        path = self._project.object_path(self._tracked.md5)
        state, _ = self._hashed(path, self._tracked.md5.removesuffix(".dir"))
        if self._tracked.is_cached:
            self._listing_state = state
            if state != "intact":
                self._note(self._cached, state, path)
        if state != "intact":
            return None
        try:
            return parse_listing(path.read_bytes())
        except (OutputDamaged, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: not a listing of a folder, although its hash is right") from None

    def _check_without_listing(self, present: Mapping[str, Path]) -> None:
        if not present and self._tracked.md5 != listing_md5({}):
            self._here.setdefault("missing", Files()).add(f"{self._tracked.path}", 1)
            return
        names = iter(present)
        listing: dict[str, str] = {}
        while batch := list(islice(names, FILES_AT_ONCE)):
            hashes = self._pool.map(lambda name: self._md5(present[name]), batch)
            listing |= dict(zip(batch, hashes, strict=True))
        if listing_md5(listing) != self._tracked.md5:
            self._here.setdefault("changed", Files()).add(f"{self._tracked.path}", 1)
            self._files_to_delete.append(f"{self._tracked.path}")
            return
        for name, md5 in listing.items():
            pair = self._pair(name, md5)
            cached, _ = self._hashed(pair.cached, md5) if pair.cached else (None, 0)
            self._take("intact", cached, pair)
        if self._listing_state not in (None, "intact"):
            self._num_restorable += 1

    def _states(self, pair: _Pair) -> tuple[State, State | None]:
        """Returns the state of a file here and in the cache; hashed once if they are one file."""
        here, identity = self._hashed(pair.here, pair.md5)
        if pair.cached is None:
            return here, None
        if identity is not None and identity == _identity(pair.cached):
            self._whole.num_files += 1
            self._whole._advance(pair.cached.stat().st_size)
            return here, here
        return here, self._hashed(pair.cached, pair.md5)[0]

    def _hashed(self, path: Path, md5: str) -> tuple[State, tuple[int, int] | None]:
        """Returns the state of a file, and which file it is behind all links."""
        try:
            identity = _identity(path)
            if identity is None:
                return "missing", None
            if not stat.S_ISREG(path.stat().st_mode):
                return "changed", identity
            return ("intact" if self._md5(path) == md5 else "changed"), identity
        except OSError:
            return "unreadable", None

    def _md5(self, path: Path) -> str:
        self._whole.num_files += 1
        return file_md5(path, self._whole._advance)

    def _take(self, here: State, cached: State | None, pair: _Pair) -> None:
        """Takes note of the states of a file."""
        if here != "intact":
            self._here.setdefault(here, Files()).add(pair.name, self._whole._most_named)
            if here == "changed":
                self._files_to_delete.append(pair.name)
        if cached not in (None, "intact"):
            assert pair.cached is not None
            self._note(self._cached, cached, pair.cached, pair.name)
            if here == "intact":
                self._num_restorable += 1

    def _note(self, states: dict[State, Files], state: State, path: Path, name: str = "") -> None:
        shown = os.path.relpath(path, self._project.root)
        shown = shown if not shown.startswith("..") else f"{path}"
        of_what = f" ({name})" if name and self._tracked.is_folder else ""
        states.setdefault(state, Files()).add(f"{shown}{of_what}", self._whole._most_named)
        if state == "changed":
            self._objects_to_delete.append(shown)

    def _findings_in_cache(self) -> Iterator[Finding]:
        """Yields what is wrong with the copies in DVC's cache."""
        for state, files in self._cached.items():
            number = "1 object" if files.number == 1 else f"{files.number:,} objects"
            problem = {
                "changed": f"{number} of DVC's cache with other bytes than the name says: {files}",
                "missing": f"{number} not in DVC's cache: {files}",
                "unreadable": f"{number} of DVC's cache cannot be read: {files}",
            }[state]
            kind: Literal["rotten", "missing", "unreadable"] = (
                "rotten" if state == "changed" else "missing" if state == "missing" else "unreadable"
            )
            is_absent = state == "missing" and self._listing_state in (None, "missing")
            yield Finding(kind, f"{self._tracked.path}", problem, self._cache_remedy(state), is_absent)

    def _cache_remedy(self, state: State) -> str:
        if state == "unreadable":
            return "see the permissions of these files"
        delete = ""
        if state == "changed":
            delete = f"{self._delete} {self._listed(self._objects_to_delete)}; then "
        num_wrong = sum(files.number for files in self._cached.values())
        if self._num_restorable == num_wrong and not self._here and not self._extra.number:
            return (
                f"{delete}`dvc commit --force {self._owner}` puts it there again: "
                f"{self._tracked.path} is intact"
            )
        return f"{delete}{self._from_elsewhere()}"

    def _findings_here(self) -> Iterator[Finding]:
        """Yields what is wrong with the files in the project's folder."""
        path = f"{self._tracked.path}"
        if files := self._here.get("unreadable"):
            yield Finding("unreadable", path, f"cannot be read: {files}", "see the permissions")
        if files := self._here.get("changed"):
            delete = f"{self._delete} {self._listed(self._files_to_delete)}; then "
            yield Finding("changed", path, f"not the recorded bytes: {files}", self._remedy_here(delete))
        if self._extra.number:
            yield Finding(
                "changed",
                path,
                f"not recorded: {self._extra}",
                self._remedy_here("move them away; then "),
            )
        if files := self._here.get("missing"):
            yield Finding("missing", path, f"not there: {files}", self._remedy_here(""))

    def _remedy_here(self, first: str) -> str:
        if not self._tracked.is_output:
            again = f"`dvc repro {self._owner}` brings the results up to date"
            return (
                f"if you did not change it, put back a sound copy (from git, or a backup); else {again}"
            )
        if self._tracked.is_cached and not self._cached:
            meant = f"; if the change is meant, `dvc commit {self._owner}`" if first else ""
            return f"{first}`dvc checkout --force {shlex.quote(f'{self._tracked.path}')}`{meant}"
        if not self._tracked.is_cached:
            return f"`git checkout -- {shlex.quote(f'{self._tracked.path}')}`, or {self._made_anew()}"
        return f"{first}{self._from_elsewhere()}"

    @property
    def _delete(self) -> str:
        """What to do with damaged files: nobody can make a person's own data anew."""
        return "delete" if self._tracked.has_command else "move away"

    def _from_elsewhere(self) -> str:
        """Says where intact bytes come from, if neither the folder nor the cache has them."""
        path = shlex.quote(f"{self._tracked.path}")
        if self._project.has_remote:
            return f"`dvc pull --force {path}`, or, where the remote lacks it, {self._made_anew()}"
        return self._made_anew()

    def _made_anew(self) -> str:
        if self._tracked.has_command:
            return f"`dvc repro --force {self._owner}` makes it anew"
        return f"put a sound copy of {self._tracked.path} back (from a backup, or where it came from)"

    @property
    def _owner(self) -> str:
        return shlex.quote(self._tracked.owner)

    def _listed(self, names: list[str]) -> str:
        shown = [shlex.quote(name) for name in names[: self._whole._most_named]]
        more = len(names) - len(shown)
        return ", ".join(shown) + (f" and {more:,} more (`--all` names them)" if more else "")


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns device and inode of a file behind all links, or None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino

"""Hashes what DVC tracks, in the project and in DVC's cache, and compares it with what DVC recorded.

DVC trusts its cache: it restores an object whose bytes have changed as if it were intact
(treeverse/dvc#5978). A damaged object must therefore be deleted before DVC can replace it.
"""

import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import UserError
from darkroom.parallel import chunked
from darkroom.tracking.ledger.dvc_hash import file_md5, folder_files, listing_md5
from darkroom.tracking.ledger.findings import NUM_NAMED, Condition, Finding, State
from darkroom.tracking.ledger.outputs import OutputDamaged, parse_listing
from darkroom.tracking.ledger.tracked import Project, Tracked

FILES_AT_ONCE = 1_024
"""Number of files that are handed to the threads together; more would only wait in memory."""


@dataclass(frozen=True)
class _Pair:
    """A file of the project, and the object of DVC's cache that should hold the same bytes."""

    name: str
    """Relative to the project."""
    here: Path
    cached: Path | None
    md5: str


class Soundness:
    """Checks a project, one tracked file or folder after the other.

    Args:
        advance: called with the number of bytes that were hashed, or need not be.
        max_named: number of files that a finding names.
    """

    def __init__(
        self, project: Project, advance: Callable[[int], None], max_named: int = NUM_NAMED
    ) -> None:
        self.project = project
        self.advance = advance
        self.max_named = max_named
        self.num_files = 0
        """Number of files that were checked, in the project and in the cache."""

    def check(self) -> Iterator[Finding]:
        """Yield what is wrong, in the order of the pipeline."""
        with ThreadPoolExecutor() as pool:  # hashlib releases the interpreter's lock
            for tracked in self.project.tracked:
                yield from _Check(self, tracked, pool).findings()


class _Check:
    """The check of one tracked file or folder."""

    def __init__(self, whole: Soundness, tracked: Tracked, pool: ThreadPoolExecutor) -> None:
        self._whole = whole
        self._project = whole.project
        self._tracked = tracked
        self._path = whole.project.root / tracked.path
        self._pool = pool
        self._condition = Condition(whole.project, tracked, whole.max_named)

    def findings(self) -> Iterator[Finding]:
        try:
            if self._tracked.is_folder:
                self._check_folder()
            else:
                pair = self._pair(f"{self._tracked.path}", self._path, self._tracked.md5)
                self._add(*self._states(pair), pair)
        except OSError as error:
            place = error.filename or self._path
            yield Finding("unreadable", f"{place}", f"{error.strerror or error}", "see its permissions")
            return
        yield from self._condition.findings()

    def _check_folder(self) -> None:
        """Compare each file with the folder's listing, an object of the cache.

        If that is missing or damaged, a folder that has the recorded hash is its own listing.
        """
        recorded = self._recorded_listing()
        present = {
            path.relative_to(self._path).as_posix(): path
            for path in (folder_files(self._path) if self._path.is_dir() else ())
            if path.exists()  # not a link to an object that the cache has lost
        }
        if recorded is None:
            self._check_without_listing(present)
            return
        for batch in chunked(recorded, FILES_AT_ONCE):
            pairs = [self._pair_in_folder(name, recorded[name]) for name in batch]
            for states, pair in zip(self._pool.map(self._states, pairs), pairs, strict=True):
                self._add(*states, pair)
        for name in present.keys() - recorded.keys():
            self._condition.extra.add(f"{self._tracked.path / name}", self._whole.max_named)

    def _pair(self, name: str, here: Path, md5: str) -> _Pair:
        cached = self._project.object_path(md5) if self._tracked.is_cached else None
        return _Pair(name, here, cached, md5)

    def _pair_in_folder(self, name: str, md5: str) -> _Pair:
        return self._pair(f"{self._tracked.path / name}", self._path / name, md5)

    def _recorded_listing(self) -> dict[str, str] | None:
        """Return the recorded MD5 of each file of the folder, or None if the listing is not intact."""
        path = self._project.object_path(self._tracked.md5)
        state, _ = self._hashed(path, self._tracked.md5.removesuffix(".dir"))
        if self._tracked.is_cached:
            self._condition.listing = state
            if state != "intact":
                self._condition.add_object(state, path)
        if state != "intact":
            return None
        try:
            return parse_listing(path.read_bytes())
        except (OutputDamaged, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: not a listing of a folder, although its hash is right") from None

    def _check_without_listing(self, present: Mapping[str, Path]) -> None:
        if not present and self._tracked.md5 != listing_md5({}):
            self._condition.add_file("missing", f"{self._tracked.path}")
            return
        listing: dict[str, str] = {}
        for batch in chunked(present, FILES_AT_ONCE):
            hashes = self._pool.map(lambda name: self._md5(present[name]), batch)
            listing |= dict(zip(batch, hashes, strict=True))
        if listing_md5(listing) != self._tracked.md5:
            self._condition.add_file("changed", f"{self._tracked.path}")
            return
        for name, md5 in listing.items():
            pair = self._pair_in_folder(name, md5)
            cached = self._hashed(pair.cached, md5)[0] if pair.cached else None
            self._add("intact", cached, pair)
        if self._condition.listing not in (None, "intact"):
            self._condition.num_restorable += 1

    def _states(self, pair: _Pair) -> tuple[State, State | None]:
        """Return a file's state here and in the cache; hash it once if both are the same file."""
        here, identity = self._hashed(pair.here, pair.md5)
        if pair.cached is None:
            return here, None
        if identity is not None and identity == _identity(pair.cached):
            self._whole.num_files += 1
            self._whole.advance(pair.cached.stat().st_size)
            return here, here
        return here, self._hashed(pair.cached, pair.md5)[0]

    def _hashed(self, path: Path, md5: str) -> tuple[State, tuple[int, int] | None]:
        """Return the state of a file, and its identity behind all links."""
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
        return file_md5(path, self._whole.advance)

    def _add(self, here: State, cached: State | None, pair: _Pair) -> None:
        if here != "intact":
            self._condition.add_file(here, pair.name)
        if cached is not None and cached != "intact":
            assert pair.cached is not None
            self._condition.add_object(cached, pair.cached, pair.name)
            if here == "intact":
                self._condition.num_restorable += 1


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file behind all links, or None if there is no file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino

"""A project as DVC sees it, read without changing a file: stages, hashes, caches and the remote.

This module alone uses what DVC does not document and may change: the folders in which a repository
writes when it is opened, and the key and the layout of the run cache.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from darkroom.bounded_yaml import BadYaml, decode_text, load_yaml
from darkroom.errors import UserError, brief
from darkroom.paths import PARAMS, PIPELINE
from darkroom.planning.database import copy_database
from darkroom.tracking.ledger.dvc_hash import listing_md5
from darkroom.tracking.ledger.outputs import parse_listing
from darkroom.tracking.ledger.results import LOCK, WORKSPACE, flat_params
from darkroom.tracking.ledger.revisions import Revision, Revisions


@dataclass(frozen=True)
class Item:
    """A file or folder that a step reads or writes."""

    path: str
    """Relative to the project, with ``/`` as separator."""
    recorded: str | None
    """The MD5 in dvc.lock or in the ``.dvc`` file, for a folder with ``.dir``; None if there is none."""
    is_cached: bool
    """Whether DVC keeps it in its cache."""
    source: Any = field(repr=False)
    """DVC's object."""


@dataclass(frozen=True)
class Step:
    """A stage of dvc.yaml, or a ``.dvc`` file."""

    name: str
    has_command: bool
    is_command_changed: bool
    runs_always: bool
    is_frozen: bool
    """Whether DVC ignores changes of its deps."""
    uses_run_cache: bool
    deps: list[Item]
    outs: list[Item]
    recorded_params: dict[str, Any]
    """By full name, as in dvc.lock."""
    params: dict[str, Any]
    source: Any = field(repr=False)
    """DVC's object."""


class DvcView:
    """The project in its folder, or as a commit has it; opened by ``open_view``.

    Contents are identified by their MD5, as in dvc.lock: 32 hex digits, for a folder followed by
    ``.dir``.
    """

    def __init__(self, repo: Any, is_commit: bool) -> None:
        self._repo = repo
        self.is_commit = is_commit
        """Whether it is a commit, which has the files in git alone."""
        self._objects: dict[Any, Any] = {}
        """What DVC found at the path of each dep and output."""
        self.trouble = ""
        """Why the remote could not be asked; empty if it could, or nothing was asked."""

    @cached_property
    def steps(self) -> list[Step]:
        """The stages and ``.dvc`` files, in the order of ``dvc repro``."""
        from dvc.repo.reproduce import get_active_graph, plan_repro

        graph = get_active_graph(self._repo.index.graph)
        return [self._step(stage) for stage in plan_repro(graph)]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of all stages by full name."""
        return {name: value for step in self.steps for name, value in step.params.items()}

    def md5_now(self, item: Item) -> str | None:
        """Return the MD5 of what is at the item's path; None if nothing is."""
        found = self._object(item.source)
        return None if found is None else str(found.hash_info.value)

    def listing_now(self, item: Item) -> dict[str, str] | None:
        """Return the MD5 of each file of a folder by its path in it; None if it is not a folder."""
        found = self._object(item.source)
        as_list = getattr(found, "as_list", None)
        return None if as_list is None else {one["relpath"]: one["md5"] for one in as_list()}

    def holds(self, md5: str) -> bool:
        """Return whether DVC's cache on this machine has a content, for a folder with all its files."""
        if not self._is_object(md5):
            return False
        if not md5.endswith(".dir"):
            return True
        listing = self.listing(md5)
        return listing is not None and all(map(self._is_object, set(listing.values())))

    def listing(self, md5: str) -> dict[str, str] | None:
        """Return the files of a folder in DVC's cache, as ``listing_now``; None if it lacks it."""
        if not md5.endswith(".dir") or not self._is_object(md5):
            return None
        with suppress(OSError, ValueError, KeyError, TypeError, UserError):
            return parse_listing(Path(self._repo.cache.local.oid_to_path(md5)).read_bytes())
        return None

    @property
    def has_remote(self) -> bool:
        return bool(self._repo.config["core"].get("remote"))

    def remote_holds(self, md5: str) -> bool:
        """Return whether the remote has a content; DVC uploads the listing of a folder last."""
        return any(self._ask(lambda odb: [odb.exists(md5)], "md5"))

    def run_cache(self, step: Step, deps: Mapping[str, str]) -> dict[str, str] | None:
        """Return the outputs of an earlier run with the same command, params and deps, by path.

        Args:
            deps: the MD5 of each dep by path.
        """
        key = self._key(step, deps)
        entries = Path(self._repo.stage_cache.cache_dir, key[:2], key)
        newest = sorted(entries.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
        return _outputs(newest[0].read_bytes()) if newest else None

    def remote_run_cache(self, step: Step, deps: Mapping[str, str]) -> dict[str, str] | None:
        """Return the same as ``run_cache`` from the remote."""
        key = self._key(step, deps)

        def read(odb: Any) -> list[Any]:
            folder = odb.fs.join(odb.path, "runs", key[:2], key)
            return [odb.fs.cat_file(file) for file in list(odb.fs.find(folder))[:1]]

        found = self._ask(read, "md5-dos2unix")
        return _outputs(found[0]) if found else None

    def _key(self, step: Step, deps: Mapping[str, str]) -> str:
        from dvc.stage.cache import _get_cache_hash
        from dvc.stage.serialize import to_single_stage_lockfile
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.meta import Meta

        for item in step.deps:
            item.source.hash_info, item.source.meta = HashInfo("md5", deps[item.path]), Meta()
        for dep in step.source.params:
            dep.hash_info = HashInfo("params", dep.read_params())
        return str(_get_cache_hash(to_single_stage_lockfile(step.source), key=True))

    def _ask(self, question: Any, hash_name: str) -> list[Any]:
        """Return the answer of the remote; an empty list if there is none."""
        if not self.has_remote or self.trouble:
            return []
        try:
            answer: list[Any] = question(
                self._repo.cloud.get_remote_odb(command="plan", hash_name=hash_name)
            )
        except FileNotFoundError:
            return []
        except Exception as error:  # each kind of remote has errors of its own
            self.trouble = brief(error)
            return []
        return answer

    def _is_object(self, md5: str) -> bool:
        return os.path.exists(self._repo.cache.local.oid_to_path(md5))

    def _object(self, source: Any) -> Any:
        if source not in self._objects:
            found = None
            if source.exists:
                _, _, found = source._build(
                    self._repo.cache.local,
                    source.fs_path,
                    source.fs,
                    source.hash_name,
                    ignore=source.dvcignore,
                    dry_run=True,
                    no_progress_bar=True,
                )
            self._objects[source] = found
        return self._objects[source]

    def _step(self, stage: Any) -> Step:
        params = [dep for dep in stage.deps if hasattr(dep, "read_params")]
        deps = [dep for dep in stage.deps if not hasattr(dep, "read_params")]
        for item in [*deps, *stage.outs]:
            if item.protocol != "local":
                raise UserError(f"{item}: plan knows only deps and outputs on this machine")
        recorded = [dep.hash_info.value for dep in params if isinstance(dep.hash_info.value, dict)]
        return Step(
            name=getattr(stage, "name", None) or stage.addressing,
            has_command=bool(stage.cmd),
            is_command_changed=stage.changed_stage() if stage.cmd else False,
            runs_always=stage.is_callback or stage.always_changed,
            is_frozen=stage.frozen,
            uses_run_cache=all(out.is_in_repo and not out.persist for out in stage.outs)
            and bool(stage.deps),
            deps=[self._item(dep) for dep in deps],
            outs=[self._item(out) for out in stage.outs],
            recorded_params=dict(one for part in recorded for one in flat_params(part)),
            params=dict(one for dep in params for one in flat_params(dep.read_params())),
            source=stage,
        )

    def _item(self, source: Any) -> Item:
        path = source.fs.relpath(source.fs_path, self._repo.root_dir)
        recorded = source.hash_info.value if source.hash_info else None
        return Item(PurePosixPath(path).as_posix(), recorded, source.use_cache, source)


def part_of(listing: Mapping[str, str], folder: str) -> dict[str, str]:
    """Return the part of a listing that is in a folder, by the path in that folder."""
    prefix = f"{folder}/"
    return {name[len(prefix) :]: md5 for name, md5 in listing.items() if name.startswith(prefix)}


def md5_in(listing: Mapping[str, str], path: str) -> str | None:
    """Return the MD5 of a file or folder in a listing; None if it has neither."""
    part = part_of(listing, path)
    return listing.get(path) or (listing_md5(part) if part else None)


@contextmanager
def open_view(rev: str | None = None) -> Iterator[DvcView]:
    """Open the project: its folder, or what a git revision or experiment has.

    DVC creates files when it opens a project. Here they are in a temporary folder, with a copy of DVC's
    database of hashes, so that unchanged files are not hashed again.

    Raises:
        UserError: there is no DVC project, or DVC cannot read it.
    """
    root = Path()
    revisions = Revisions(root)
    revision = revisions.find(rev or WORKSPACE)
    _check(root, revisions, revision)
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    with tempfile.TemporaryDirectory(prefix="darkroom-plan-") as scratch:
        try:
            with _open(root.resolve(), revision, scratch) as repo:
                yield DvcView(repo, bool(revision.commit))
        except (DvcException, SCMError) as error:
            raise UserError(f"{root.absolute()}: DVC cannot read the project ({brief(error)})") from None


def _check(root: Path, revisions: Revisions, revision: Revision) -> None:
    """Check the files that DVC will read without bounds.

    Raises:
        UserError: there is no project, or a file is damaged.
    """
    if not (root / ".dvc").is_dir():
        raise UserError(f"{root.absolute()}: no DVC project here")
    for name in (PIPELINE, PARAMS, LOCK):
        revisions.check_yaml(revision, name)
    revisions.results(revision)


def _open(root: Path, revision: Revision, scratch: str) -> Any:
    from dvc.repo import Repo
    from dvc.stage.cache import StageCache

    if revision.commit:
        repo = Repo(str(root), rev=revision.commit)
        repo.stage_cache = StageCache(repo)
        return repo

    class ReadOnly(Repo):
        """A repository that writes to the temporary folder what it would write to ``.dvc``."""

        tmp_dir = scratch
        site_cache_dir = f"{scratch}/site"

        def _ignore(self) -> None:
            """DVC would add its cache to .gitignore."""

    _copy_hashes(root, Path(scratch, "site"))
    return ReadOnly(str(root))


def _copy_hashes(root: Path, target: Path) -> None:
    """Copy DVC's database of hashes, if there is one that can be read."""
    created = root / ".dvc" / "tmp" / "btime"
    if not created.exists():
        return
    from dvc.repo import Repo

    class Located:  # what Repo.site_cache_dir reads to name the database's folder
        root_dir = str(root)
        fs = None
        _btime = os.path.getmtime(created)

        @cached_property
        def config(self) -> Any:
            from dvc.config import Config

            return Config(str(root / ".dvc"))

    with suppress(OSError, sqlite3.Error):
        file = Path(Repo.site_cache_dir.__get__(Located(), Located), "hashes", "local", "cache.db")
        if not file.exists():
            return
        copy = target / "hashes" / "local" / "cache.db"
        copy.parent.mkdir(parents=True)
        copy_database(file, copy)


def _outputs(content: bytes) -> dict[str, str] | None:
    """Return the outputs of an entry of the run cache; None if it is damaged."""
    try:
        return {out["path"]: out["md5"] for out in load_yaml(decode_text(content))["outs"]}
    except (BadYaml, KeyError, TypeError):
        return None

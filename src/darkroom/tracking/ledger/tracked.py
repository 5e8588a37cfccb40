"""What DVC tracks: the files and folders in dvc.lock and ``.dvc`` files, as DVC reads them."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom.bounded_yaml import BadYaml, load_yaml, read_text
from darkroom.errors import UserError, brief, listed
from darkroom.paths import PARAMS, PIPELINE
from darkroom.tracking.ledger.dvc_hash import IGNORED_FOLDERS
from darkroom.tracking.ledger.results import LOCK, parse_results

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class Tracked:
    """A file or folder whose MD5 DVC has recorded."""

    path: Path
    """Relative to the project."""
    md5: str
    """32 hex digits, for a folder followed by ``.dir``."""
    size: int
    """In bytes, as recorded; 0 if it was not recorded."""
    owner: str
    """The stage or ``.dvc`` file that names it, for example ``prepare`` or ``data/mine.dvc``."""
    is_output: bool
    """Whether the owner writes it; otherwise the owner only reads it."""
    is_cached: bool
    """Whether DVC keeps a copy in its cache."""

    @property
    def is_folder(self) -> bool:
        return self.md5.endswith(".dir")

    @property
    def has_command(self) -> bool:
        """Whether the owner can write it again."""
        return self.is_output and not self.owner.endswith(".dvc")


@dataclass(frozen=True)
class Project:
    """What DVC tracks in a project, and its cache."""

    root: Path
    cache: Path
    """The folder of objects, each named by the first two and the other digits of its MD5."""
    has_remote: bool
    tracked: list[Tracked]
    remarks: list[str]
    """Remarks on what cannot be checked."""

    def object_path(self, md5: str) -> Path:
        """Return the path of the object with this MD5 in the cache."""
        return self.cache / md5[:2] / md5[2:]


def load_project(root: Path) -> Project:
    """Read dvc.yaml, dvc.lock and ``.dvc`` files below ``root``. Nothing is written.

    What one stage reads and another writes is listed once, as an output.

    Raises:
        UserError: there is no DVC project, or DVC cannot read it.
    """
    if not (root / ".dvc").is_dir():
        raise UserError(
            f"{root}: no DVC project here; `darkroom verify FOLDER` checks an exported folder anywhere"
        )
    remarks: list[str] = []
    recorded = _recorded_stages(root)
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            stages = list(repo.index.stages)
            entries = [(stage, out, True) for stage in stages for out in stage.outs]
            entries += [(stage, dep, False) for stage in stages for dep in stage.deps]
            tracked = list(_tracked(root, entries, remarks))
            removed = sorted(recorded - {stage.addressing for stage in stages})
            if removed:
                remarks.append(f"{LOCK} names stages that dvc.yaml no longer has: {listed(removed, 5)}")
            cache, has_remote = Path(repo.cache.local.path), bool(repo.config["remote"])
    except (DvcException, OSError) as error:
        raise UserError(f"{root}: DVC cannot read the project ({brief(error)})") from None
    if not tracked:
        raise UserError(f"{root / LOCK}: names nothing to check; `dvc repro` fills it")
    return Project(root, cache, has_remote, tracked, remarks)


def _recorded_stages(root: Path) -> set[str]:
    """Return the stages in dvc.lock, after a check of all files that DVC will read.

    DVC reads YAML without bounds: nested aliases would keep it busy for hours.

    Raises:
        UserError: a file is damaged, or takes too much work.
    """
    for path in (root / PIPELINE, root / PARAMS, *_dvc_files(root)):
        try:
            load_yaml(read_text(path))
        except FileNotFoundError:
            continue
        except BadYaml as error:
            line = "" if error.line is None else f":{error.line}"
            raise UserError(f"{path}{line}: {error}") from None
    try:
        return set(parse_results(read_text(root / LOCK)))
    except FileNotFoundError:
        return set()


def _dvc_files(root: Path) -> Iterator[Path]:
    """Yield the ``.dvc`` files of the project, like DVC not from its own and git's folders."""
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS]
        yield from (Path(parent, name) for name in files if name.endswith(".dvc"))


def _tracked(root: Path, entries: Iterable[tuple], remarks: list[str]) -> Iterable[Tracked]:
    """Yield what has an MD5, outputs first; add a remark on everything else.

    Args:
        entries: (DVC's stage, its output or dep, whether it is an output), outputs first.
    """
    outputs: dict[Path, Tracked] = {}
    seen: set[tuple[Path, str]] = set()
    unrecorded: dict[str, None] = {}
    for stage, item, is_output in entries:
        owner = stage.addressing
        if type(item).__name__ == "ParamsDependency":
            continue
        if item.protocol != "local":
            remarks.append(f"{owner}: {item} is not on this machine; not checked")
            continue
        md5 = item.hash_info.value if item.hash_info else None
        if not md5:
            unrecorded[owner] = None
            continue
        path = Path(item.fs_path)
        path = path.relative_to(root) if path.is_relative_to(root) else path
        if item.hash_info.name != "md5" or not isinstance(md5, str) or not _MD5.fullmatch(md5):
            remarks.append(f"{owner}: {path}: recorded as {item.hash_info}, which is not checked")
            continue
        size = item.meta.size if item.meta and isinstance(item.meta.size, int) else 0
        found = Tracked(path, md5, size, owner, is_output, is_output and item.use_cache)
        if is_output:
            outputs[path] = found
        else:
            inside = next((outputs[p] for p in (path, *path.parents) if p in outputs), None)
            if inside is not None:
                if inside.path == path and inside.md5 != md5:
                    remarks.append(
                        f"{owner} has read another version of {path} than {inside.owner} has written; "
                        f"`dvc repro {owner}` runs it on the current version"
                    )
                continue
            if (path, md5) in seen:
                continue
            seen.add((path, md5))
        yield found
    if unrecorded:
        remarks.append(f"not recorded in {LOCK}, so not checked: {listed(unrecorded, 5)}")

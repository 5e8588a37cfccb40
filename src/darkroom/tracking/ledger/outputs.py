"""The bytes of a result's files: from the folder, DVC's cache, git, or DVC's remote.

Bytes are only used if their MD5 is the recorded one. DVC's own API, ``dvc.api.DVCFileSystem``, opens the
file in the cache or the remote without that check, and would pass a damaged file on as intact.
"""

import json
import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from darkroom.errors import UserError
from darkroom.tracking.git import Repository
from darkroom.tracking.ledger.dvc_hash import bytes_md5, folder_files, folder_listing, listing_md5
from darkroom.tracking.ledger.results import WORKSPACE, Content, Result

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB


_MD5 = re.compile("[0-9a-f]{32}")


class OutputMissing(UserError):
    """The bytes cannot be found in the folder, DVC's cache, git or DVC's remote."""


class OutputDamaged(UserError):
    """DVC's cache or remote holds other bytes than the recorded hash says."""


class Outputs:
    """Reads the files of results.

    Args:
        folder: the folder of dvc.yaml; paths of results are relative to it.
        repository: the git repository that contains it, if any.
        use_remote: ask DVC's default remote for files that are not on this machine. They are not kept.
    """

    def __init__(
        self, folder: Path = Path(), repository: Repository | None = None, use_remote: bool = True
    ) -> None:
        self.folder = folder
        self.repository = repository
        self.use_remote = use_remote
        self._listings: dict[str, dict[str, str]] = {}

    def read(self, result: Result, path: Path | str) -> bytes:
        """Return the bytes of a file that is an output or dep of ``result``, or is in one.

        Raises:
            OutputMissing: the bytes cannot be found; or no output of ``result`` has this path.
            OutputDamaged: DVC's cache or remote holds other bytes.
        """
        wanted = PurePosixPath(path).as_posix()
        name, content = _tracked(result, wanted)
        if not content.md5.endswith(".dir"):
            return self._bytes(result, wanted, content)
        md5 = self.listing(result, name).get(wanted.removeprefix(f"{name}/"))
        if md5 is None:
            reason = f"{name} is a folder" if wanted == name else f"{name} contained no such file"
            raise OutputMissing(f"{wanted} {_at(result)}: {reason}")
        return self._bytes(result, wanted, Content(md5, None))

    def listing(self, result: Result, path: Path | str) -> dict[str, str]:
        """Return the MD5 of each file of a folder that ``result`` names, by its path in the folder.

        Raises:
            OutputMissing: the listing cannot be found; or ``result`` has no folder with this path.
            OutputDamaged: DVC's cache or remote holds another listing.
        """
        name, content = _tracked(result, PurePosixPath(path).as_posix())
        if name != PurePosixPath(path).as_posix() or not content.md5.endswith(".dir"):
            raise OutputMissing(f"{path} {_at(result)}: not recorded as a folder")
        if content.md5 not in self._listings:
            self._listings[content.md5] = self._find_listing(result, name, content)
        return self._listings[content.md5]

    def copy(self, result: Result, path: Path | str, target: Path) -> None:
        """Write a file, or a folder with all its files, to ``target``.

        Raises:
            OutputMissing, OutputDamaged: as ``read``; files that were written before stay.
            OSError: ``target`` cannot be written.
        """
        wanted = PurePosixPath(path).as_posix()
        name, content = _tracked(result, wanted)
        if name == wanted and content.md5.endswith(".dir"):
            target.mkdir(parents=True, exist_ok=True)
            for file in self.listing(result, name):
                self.copy(result, f"{name}/{file}", target / file)
        else:
            bytes_ = self.read(result, wanted)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes_)

    @cached_property
    def cache(self) -> Path | None:
        """The folder of DVC's cache, wherever it is configured; None outside a DVC project.

        Raises:
            UserError: DVC's configuration has a mistake.
        """
        if self._dvc_root is None:
            return None
        from dvc.config import Config, ConfigError  # 70 ms; the rest of DVC is not needed for it

        try:
            config = Config(str(self._dvc_root / ".dvc"))
        except ConfigError as error:
            raise UserError(f"{self._dvc_root / '.dvc'}: {error}") from None
        return Path(config["cache"].get("dir") or self._dvc_root / ".dvc" / "cache")

    @cached_property
    def _dvc_root(self) -> Path | None:
        start = self.folder.absolute()
        return next((one for one in (start, *start.parents) if (one / ".dvc").is_dir()), None)

    def _find_listing(self, result: Result, name: str, content: Content) -> dict[str, str]:
        cached = self._from_cache(result, name, content.md5)
        if cached is not None:
            return parse_listing(cached)
        folder = self.folder / name
        # sizes first: hashing a large folder takes long
        if folder.is_dir() and content.size in (None, sum(map(_size, folder_files(folder)))):
            listing = folder_listing(folder)
            if listing_md5(listing) == content.md5:
                return listing
        if self.repository is not None:
            committed = self._committed_listing(self.repository, _git_rev(result), name)
            if listing_md5(committed) == content.md5:
                return committed
        return parse_listing(self._from_remote(result, name, content.md5))

    def _committed_listing(self, repository: Repository, rev: str, name: str) -> dict[str, str]:
        files = {file: repository.file(rev, f"{name}/{file}") for file in repository.files(rev, name)}
        return {file: bytes_md5(content or b"") for file, content in files.items()}

    def _bytes(self, result: Result, path: str, content: Content) -> bytes:
        found = self._from_workspace(path, content)
        if found is None:
            found = self._from_cache(result, path, content.md5)
        if found is None:
            found = self._from_git(result, path, content.md5)
        return self._from_remote(result, path, content.md5) if found is None else found

    def _from_workspace(self, path: str, content: Content) -> bytes | None:
        file = self.folder / path
        try:
            if not file.is_file() or content.size not in (None, _size(file)):
                return None
            found = file.read_bytes()
        except OSError:  # an unreadable file may be intact elsewhere
            return None
        return found if bytes_md5(found) == content.md5 else None

    def _from_cache(self, result: Result, path: str, md5: str) -> bytes | None:
        if self.cache is None:
            return None
        file = self.cache / "files" / "md5" / md5[:2] / md5[2:]
        try:
            found = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise OutputMissing(f"{path} {_at(result)}: {file}: {error.strerror}") from None
        if bytes_md5(found) != md5.removesuffix(".dir"):
            raise OutputDamaged(
                f"{path} {_at(result)}: DVC's cache is damaged: {file} has MD5 {bytes_md5(found)}; "
                f"delete that file, then `dvc fetch`, or `dvc repro --force {result.stage}`"
            )
        return found

    def _from_git(self, result: Result, path: str, md5: str) -> bytes | None:
        found = self.repository.file(_git_rev(result), path) if self.repository else None
        return found if found is not None and bytes_md5(found) == md5 else None

    def _from_remote(self, result: Result, path: str, md5: str) -> bytes:
        missing = f"{path} {_at(result)} (MD5 {md5}): not in the folder, DVC's cache or git"
        if not self.use_remote:
            raise OutputMissing(missing)
        if self._dvc_root is None:
            raise OutputMissing(f"{missing}, and there is no DVC project with a remote")
        try:
            remote = self._remote
            file = remote.oid_to_path(md5)
            with remote.fs.open(file, "rb") as opened:
                found: bytes = opened.read()
        except FileNotFoundError:
            raise OutputMissing(f"{missing}, and not in DVC's remote") from None
        except Exception as error:  # each kind of remote has errors of its own
            if type(error).__name__ == "NoRemoteError":
                raise OutputMissing(f"{missing}, and DVC has no default remote") from None
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise OutputMissing(f"{missing}; DVC's remote does not answer: {reason}") from error
        if bytes_md5(found) != md5.removesuffix(".dir"):
            raise OutputDamaged(
                f"{path} {_at(result)}: DVC's remote is damaged: {file} has MD5 {bytes_md5(found)}"
            )
        return found

    @cached_property
    def _remote(self) -> "HashFileDB":
        from dvc.repo import Repo  # 0.2 s

        with Repo(str(self._dvc_root)) as repo:
            return repo.cloud.get_remote_odb(command="fetch")


def _tracked(result: Result, path: str) -> tuple[str, Content]:
    """Return the recorded path and content of the output or dep that ``path`` is, or is in."""
    known = {**result.deps, **result.outs}
    for name in (path, *(parent.as_posix() for parent in PurePosixPath(path).parents)):
        if name in known:
            return name, known[name]
    raise OutputMissing(
        f"{path}: neither an output nor a dep of {result.stage}, "
        f"whose outputs are {', '.join(result.outs)}"
    )


def parse_listing(content: bytes) -> dict[str, str]:
    """Return the MD5 of each file of a folder by its path in the folder, from DVC's ``.dir`` object.

    Raises:
        OutputDamaged: a file is outside the folder, or has no MD5.
    """
    listing = {entry["relpath"]: entry["md5"] for entry in json.loads(content)}
    for file in listing:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise OutputDamaged(f"{file}: outside the folder that lists it")
        if not _MD5.fullmatch(listing[file]):
            raise OutputDamaged(f"{file}: {listing[file]!r} is not an MD5")
    return listing


def _size(file: Path) -> int:
    return file.stat().st_size


def _git_rev(result: Result) -> str:
    return "HEAD" if result.revision == WORKSPACE else result.revision


def _at(result: Result) -> str:
    return f"at {result.revision[:7] if result.revision != WORKSPACE else WORKSPACE}"

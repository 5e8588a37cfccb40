"""The table of ``darkroom predict --out``: written completely or not at all, and replaced safely."""

import contextlib
import csv
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from darkroom.errors import UserError
from darkroom.prediction.columns import Column
from darkroom.prediction.remote import InputFile, RemoteFile
from darkroom.prediction.stores import WEB
from darkroom.progress import spinner

_NOT_OURS = "exists and is not a table of predictions; choose another name, or replace it with --force"
_HEADERS = ("path,class,probability", "path,labels,probabilities", "path,mask")


def is_predictions(path: InputFile) -> bool:
    """Return whether a regular file is a table of predictions, or empty."""
    with path.open() if isinstance(path, RemoteFile) else path.open("rb") as file:
        start = file.read(256)
        if start.startswith(b"PAR1"):
            from darkroom.prediction.parquet import column_names

            file.seek(0)
            line = ",".join(column_names(file))
        else:
            line = start.split(b"\n")[0].decode("utf-8", "replace")
    return not start or any(line == header or line.startswith(f"{header},") for header in _HEADERS)


def without_target(paths: Iterable[InputFile], target: InputFile) -> Iterator[InputFile]:
    """Yield the files to classify, without ``target`` if it is a table of predictions.

    Raises:
        UserError: ``target`` is one of them.
    """
    try:
        is_target = _same_file(target)
        is_table = target.is_file() and is_predictions(target)
    except OSError:  # there is no such file
        yield from paths
        return
    found, others = False, False
    for path in paths:
        if not is_target(path):
            others = True
            yield path
        elif is_table:
            found = True
        else:
            raise UserError(f"--out {target}: is one of the images to classify")
    if found and not others:
        raise UserError(f"--out {target}: is one of the images to classify")


def check_target(path: InputFile, model: Path, force: bool = False) -> None:
    """Check that ``path`` may be written or replaced.

    Args:
        model: the exported folder, which only the export stage writes to.
        force: replace any regular file.

    Raises:
        UserError: ``path`` may not be written; the message says why.
    """
    place = f"--out {path}"
    if isinstance(path, RemoteFile):
        _check_remote_target(path, force)
        return
    if _resolved(path.parent).is_relative_to(_resolved(model)):
        raise UserError(
            f"{place}: is in {model}, which only the export stage writes to; choose another folder"
        )
    if not path.parent.is_dir():
        raise UserError(f"{place}: there is no folder {path.parent}")
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{place}: a broken link; remove it, or use its target") from None
        return
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror})") from None
    if _is_stream(path, status):
        return
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{place}: not a regular file")
    if path.is_symlink():
        raise UserError(f"{place}: a link; to replace its target, use {_resolved(path)}")
    try:
        is_ours = force or is_predictions(path)
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror})") from None
    if not is_ours:
        raise UserError(f"{place}: {_NOT_OURS}")


def _check_remote_target(target: RemoteFile, force: bool) -> None:
    place = f"--out {target}"
    if target.scheme in WEB:
        raise UserError(f"{place}: a web server cannot be written to; use a path or an object store")
    if len(target.parts) < 2 or target.is_dir():
        raise UserError(f"{place}: a folder; add the name of a file")
    bucket = RemoteFile(target.scheme, target.parts[0])
    if not target.exists():
        if not bucket.is_dir():
            raise UserError(f"{place}: there is no bucket {bucket}; create it, or use another one")
    elif not force and not is_predictions(target):
        raise UserError(f"{place}: {_NOT_OURS}")


@contextlib.contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """Open a temporary file that replaces ``path`` when the block succeeds.

    If the block fails, ``path`` is unchanged. Pipes and devices such as ``/dev/stdout`` are written
    directly.
    """
    if is_stream(path):
        try:
            with path.open("w", encoding="utf-8", newline="") as stream:
                yield stream
        except BrokenPipeError:  # whoever reads has seen enough
            raise
        except OSError as error:
            raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
    written = Path(name)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            with contextlib.suppress(OSError):  # some file systems have no permissions
                os.fchmod(file.fileno(), _mode(path))
            yield file
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
    finally:
        written.unlink(missing_ok=True)


def write_table(
    path: InputFile, columns: Sequence[Column], rows: Iterable[Sequence[str]], scratch: Path
) -> None:
    """Replace ``path`` by a table: Parquet if that is its suffix, otherwise CSV.

    Args:
        scratch: a new file in the same file system.

    Raises:
        UserError: it cannot be written; ``path`` is unchanged.
    """
    try:
        if path.suffix.lower() == ".parquet":
            from darkroom.prediction.parquet import write_parquet

            write_parquet(scratch, columns, rows)
        else:
            with scratch.open("w", encoding="utf-8", newline="") as file:
                write = row_writer(file, ",")
                write([column.name for column in columns])
                for row in rows:
                    write(row)
        with scratch.open("rb") as file:
            with contextlib.suppress(OSError):  # some file systems have no permissions
                os.fchmod(file.fileno(), _mode(path))
            os.fsync(file.fileno())
        if isinstance(path, Path):
            scratch.replace(path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
    if isinstance(path, RemoteFile):
        with spinner(f"upload {path.name}"):
            path.upload(scratch)


def row_writer(file: TextIO, delimiter: str) -> Callable[[Sequence[str]], None]:
    """Return a function that writes a row of CSV, which a CSV reader reads back whatever cells hold."""
    plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    # otherwise only characters of the line terminator are quoted, and a reader stops at others
    quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Sequence[str]) -> None:
        (quoted if any("\r" in cell for cell in row) else plain).writerow(row)

    return write


def is_stream(path: InputFile) -> bool:
    """Return whether ``path`` is a pipe or a device, which is written directly."""
    try:
        return isinstance(path, Path) and _is_stream(path, path.stat())
    except OSError:
        return False


def _mode(path: InputFile) -> int:
    """Return the permissions of the existing file, or those of a new file."""
    with contextlib.suppress(FileNotFoundError):
        if isinstance(path, Path):
            return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _is_stream(path: Path, status: os.stat_result) -> bool:
    """Whether writing replaces nothing; ``/dev/stdout`` may be a file that the shell has opened."""
    if path.parent in (Path("/dev"), Path("/dev/fd")) and not stat.S_ISBLK(status.st_mode):
        return not stat.S_ISDIR(status.st_mode)
    return stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)


def _same_file(target: InputFile) -> Callable[[InputFile], bool]:
    """Return a function that tells whether a file is ``target``; raise OSError if there is none."""
    if isinstance(target, RemoteFile):
        return lambda other: other == target
    status = target.stat()

    def is_same(other: InputFile) -> bool:
        with contextlib.suppress(OSError):
            return isinstance(other, Path) and os.path.samestat(status, other.stat())
        return False

    return is_same


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))

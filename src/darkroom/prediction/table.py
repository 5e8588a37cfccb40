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

_HEADERS = ("path,class,probability", "path,labels,probabilities", "path,mask")


def is_predictions(path: Path) -> bool:
    """Return whether a regular file is a table of predictions, or empty."""
    with path.open("rb") as file:
        start = file.read(256)
    if start.startswith(b"PAR1"):
        from darkroom.prediction.parquet import column_names

        line = ",".join(column_names(path))
    else:
        line = start.split(b"\n")[0].decode("utf-8", "replace")
    return not start or any(line == header or line.startswith(f"{header},") for header in _HEADERS)


def without_target(paths: Iterable[Path], target: Path) -> Iterator[Path]:
    """Yield the files to classify, without ``target`` if it is a table of predictions.

    Raises:
        UserError: ``target`` is one of them.
    """
    try:
        status = target.stat()
        is_table = stat.S_ISREG(status.st_mode) and is_predictions(target)
    except OSError:  # there is no such file
        yield from paths
        return
    found, others = False, False
    for path in paths:
        if not _is_same(status, path):
            others = True
            yield path
        elif is_table:
            found = True
        else:
            raise UserError(f"--out {target}: is one of the images to classify")
    if found and not others:
        raise UserError(f"--out {target}: is one of the images to classify")


def check_target(path: Path, model: Path, force: bool = False) -> None:
    """Check that ``path`` may be written or replaced.

    Args:
        model: the exported folder, which only the export stage writes to.
        force: replace any regular file.

    Raises:
        UserError: ``path`` may not be written; the message says why.
    """
    place = f"--out {path}"
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
        raise UserError(
            f"{place}: exists and is not a table of predictions; choose another name, or replace it "
            "with --force"
        )


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
    path: Path, columns: Sequence[Column], rows: Iterable[Sequence[str]], scratch: Path
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
        scratch.replace(path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None


def row_writer(file: TextIO, delimiter: str) -> Callable[[Sequence[str]], None]:
    """Return a function that writes a row of CSV, which a CSV reader reads back whatever cells hold."""
    plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    # otherwise only characters of the line terminator are quoted, and a reader stops at others
    quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Sequence[str]) -> None:
        (quoted if any("\r" in cell for cell in row) else plain).writerow(row)

    return write


def is_stream(path: Path) -> bool:
    """Return whether ``path`` is a pipe or a device, which is written directly."""
    try:
        return _is_stream(path, path.stat())
    except OSError:
        return False


def _mode(path: Path) -> int:
    """Return the permissions of the existing file, or those of a new file."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _is_stream(path: Path, status: os.stat_result) -> bool:
    """Whether writing replaces nothing; ``/dev/stdout`` may be a file that the shell has opened."""
    if path.parent in (Path("/dev"), Path("/dev/fd")) and not stat.S_ISBLK(status.st_mode):
        return not stat.S_ISDIR(status.st_mode)
    return stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)


def _is_same(status: os.stat_result, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(status, other.stat())
    return False


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))

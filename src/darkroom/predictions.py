"""The CSV of ``darkroom predict --out``: written whole or not at all, and over nothing but its own."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from darkroom.errors import UserError

_HEADERS = ("path,class,probability", "path,labels,probabilities")


def is_predictions(path: Path) -> bool:
    """Tells whether a regular file is a table of ours, or empty."""
    with path.open("rb") as file:
        start = file.read(256)
    line = start.split(b"\n")[0].decode("utf-8", "replace")
    return not start or any(line == header or line.startswith(f"{header},") for header in _HEADERS)


def is_own(path: Path, target: Path) -> bool:
    """Tells whether ``path`` is ``target``, and a table of ours."""
    with contextlib.suppress(OSError):
        return path.is_file() and path.samefile(target) and is_predictions(path)
    return False


def check_target(path: Path, model: Path, images: Iterable[Path], force: bool = False) -> None:
    """Checks that ``path`` may be written, or written over.

    Args:
        model: the exported folder, which holds nothing but what the export stage wrote.
        images: the files to be classified.
        force: replace a regular file whatever it is, but for the files above.

    Raises:
        UserError: it may not; the message says why.
    """
    place = f"--out {path}"
    if _resolved(path.parent).is_relative_to(_resolved(model)):
        raise UserError(
            f"{place}: lies in {model}, where the export stage alone writes; choose another place"
        )
    if not path.parent.is_dir():
        raise UserError(f"{place}: there is no folder {path.parent}")
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(
                f"{place}: a link that leads nowhere; remove it, or name its target"
            ) from None
        return
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror})") from None
    if _is_stream(path, status):
        return
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{place}: not a regular file")
    if path.is_symlink():
        raise UserError(f"{place}: a link; name its target, {_resolved(path)}, to replace that")
    if any(_is_same(status, image) for image in images):
        raise UserError(f"{place}: one of the files to be classified")
    try:
        is_ours = force or is_predictions(path)
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror})") from None
    if not is_ours:
        raise UserError(
            f"{place}: there is such a file, and it is no table of predictions; choose another name, or "
            "replace it with --force"
        )


@contextlib.contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """Gives a file to write to, which takes the place of ``path`` when the block ends well.

    Until then ``path`` stays as it is. A pipe or a device (``/dev/stdout``) is written to directly.
    """
    with contextlib.suppress(FileNotFoundError):
        if _is_stream(path, path.stat()):
            with path.open("w", encoding="utf-8", newline="") as stream:
                yield stream
            return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
    written = Path(name)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            with contextlib.suppress(OSError):  # not every file system has them
                os.fchmod(file.fileno(), _mode(path))
            yield file
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
    finally:
        written.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """Returns the permissions of the file that is replaced, or those of a new one."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _is_stream(path: Path, status: os.stat_result) -> bool:
    """Whether nothing is replaced by writing; ``/dev/stdout`` may lead to a file that a shell opened."""
    if path.parent in (Path("/dev"), Path("/dev/fd")) and not stat.S_ISBLK(status.st_mode):
        return not stat.S_ISDIR(status.st_mode)
    return stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)


def _is_same(status: os.stat_result, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(status, other.stat())
    return False


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))

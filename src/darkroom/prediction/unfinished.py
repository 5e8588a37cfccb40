"""The rows of a table that is being written: kept beside it, so that the same command resumes it.

The folder ``.NAME.unfinished`` has a copy of the list of images (``inputs``), and a line in ``rows`` for
each few images: a SHA-256, a space, and JSON. If the table is written to an address, the folder is in
the working directory. A process may be killed anywhere: a line that was not written completely has
another SHA-256, and is removed with everything after it.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from darkroom.errors import UserError, counted, listed
from darkroom.prediction.remote import InputFile, file_of
from darkroom.progress import spinner


@dataclass(frozen=True)
class Chunk:
    """What became of some inputs, in their order."""

    num_inputs: int
    rows: list[list[str]]
    failures: list[tuple[str, str]]
    """Names and reasons of the inputs that have no row."""


class Unfinished:
    """The rows that are done; see ``open_unfinished``."""

    def __init__(self, out: InputFile, folder: Path, num_inputs: int) -> None:
        self._out = out
        self._folder = folder
        self._rows = folder / "rows"
        self.num_inputs = num_inputs
        self.num_done = 0
        """Number of inputs that were classified, or could not be."""
        self.num_failures = 0
        self.resumes = False
        """Whether the same command was started before."""

    def inputs(self) -> Iterator[InputFile]:
        """Yield the files to classify, also those that are done."""
        with (self._folder / "inputs").open("rb") as file:
            for name in _names(file):
                yield file_of(os.fsdecode(name))

    def append(
        self, num_inputs: int, rows: Iterable[Sequence[str]], failures: Iterable[tuple[str, str]]
    ) -> None:
        """Keep the outcomes of the next inputs, whole or not at all."""
        some = [list(failure) for failure in failures]
        self._write({"first": self.num_done, "inputs": num_inputs, "rows": [*rows], "failures": some})
        self._count(num_inputs, len(some))

    def chunks(self) -> Iterator[Chunk]:
        """Yield what is done, in the order of the inputs."""
        for content in _contents(self._rows):
            if "inputs" in content:
                failures = [(name, reason) for name, reason in content["failures"]]
                yield Chunk(content["inputs"], content["rows"], failures)

    @property
    def scratch(self) -> Path:
        """A file in the same file system as the table, for the table as it is assembled."""
        return self._folder / "table"

    def remove(self) -> None:
        """Forget everything, after the table is in its place, or before there is a row."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def begin(self, command: Mapping[str, Any], restart: bool) -> None:
        """Find the rows of the same command, or start without rows.

        Args:
            command: all that the rows depend on, as values of JSON.
            restart: discard rows that there are.

        Raises:
            UserError: there are rows of another command.
        """
        known, end = None, 0
        if self._rows.exists() and not restart:
            for content in _contents(self._rows):
                if known is None:
                    known = content.get("command", {})
                elif content.get("first") != self.num_done:
                    break
                else:
                    self._count(content["inputs"], len(content["failures"]))
                end += content[_SIZE]
        if known is not None and known != command and self.num_done:
            other = [name for name in command if known.get(name) != command[name]]
            done = counted(self.num_done, "input")
            raise UserError(
                f"--out {self._out}: an earlier command stopped after {done} and differs in "
                f"{listed(other)}; run that command again to complete its table, or discard its rows "
                "with --restart"
            )
        if known == command:
            os.truncate(self._rows, end)
            self.resumes = True
        else:
            self._rows.write_bytes(b"")
            self._write({"command": command})

    def _count(self, num_inputs: int, num_failures: int) -> None:
        self.num_done += num_inputs
        self.num_failures += num_failures

    def _write(self, content: Mapping[str, Any]) -> None:
        try:
            with self._rows.open("ab", buffering=0) as file:
                file.write(_sealed(json.dumps(content).encode()))
        except OSError as error:
            raise _not_written(self._out, error) from None


@contextmanager
def open_unfinished(
    out: InputFile, command: Mapping[str, Any], inputs: Iterable[InputFile] | int, restart: bool = False
) -> Iterator[Unfinished]:
    """Open the rows that the same command has already written for the table ``out``, or none.

    The folder stays if the block fails after the first rows. No other process opens it meanwhile.

    Args:
        command: all that the rows depend on beside the names of the inputs, as values of JSON.
        inputs: files to classify, or a number of rows that ``command`` identifies.
        restart: discard rows that there are.

    Raises:
        UserError: there are rows of another command, another process is writing them, or the folder
            cannot be written.
    """
    folder = _folder_for(out)
    try:
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"--out {out}: another process is writing it; wait until it ends, or stop it"
        ) from None
    except OSError as error:
        raise _not_written(out, error) from None
    found: Unfinished | None = None
    try:
        if isinstance(inputs, int):
            number, names = inputs, ""
        else:
            with spinner("list the images"):
                number, names = _keep_names(inputs, folder / "listed", out)
        found = Unfinished(out, folder, number)
        found.begin({**command, "the inputs": [number, names]}, restart)
        if not isinstance(inputs, int):
            (folder / "listed").replace(folder / "inputs")
        yield found
    finally:
        if found is not None and not found.num_done:
            found.remove()
        (folder / "listed").unlink(missing_ok=True)
        lock.release()


def _folder_for(out: InputFile) -> Path:
    if isinstance(out, Path):
        return out.with_name(f".{out.name}.unfinished")
    digest = hashlib.sha256(os.fsencode(out)).hexdigest()[:8]
    return Path(f".{out.name}.{digest}.unfinished")


def _keep_names(paths: Iterable[InputFile], file: Path, out: InputFile) -> tuple[int, str]:
    """Write the names of files, each ended by a zero byte; return their number and SHA-256."""
    number, sha256 = 0, hashlib.sha256()
    try:
        with file.open("wb") as kept:
            for path in paths:
                name = os.fsencode(path) + b"\0"
                kept.write(name)
                sha256.update(name)
                number += 1
    except OSError as error:
        raise _not_written(out, error) from None
    return number, sha256.hexdigest()


def _names(file: io.BufferedReader) -> Iterator[bytes]:
    rest = b""
    while block := file.read(2**16):
        *names, rest = (rest + block).split(b"\0")
        yield from names


_SIZE = "size"
"""Key of the number of bytes of a line, which is not in the line."""


def _sealed(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b" " + content + b"\n"


def _is_whole(line: bytes) -> bool:
    return line == _sealed(line[65:-1])


def _contents(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of ``rows`` up to the first that is damaged, with their sizes."""
    with file.open("rb") as lines:
        for line in lines:
            if not _is_whole(line):
                return
            yield {**json.loads(line[65:]), _SIZE: len(line)}


def _not_written(out: InputFile, error: OSError) -> UserError:
    return UserError(f"--out {out}: cannot be written ({error.strerror or error})")

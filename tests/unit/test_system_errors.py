"""What the system refuses is one line with path and reason; other errors keep their tracebacks."""

import errno
import os
import sqlite3
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from darkroom import cli
from darkroom.system_errors import explain


def refused(number: int, *files: str) -> OSError:
    return OSError(number, os.strerror(number), *files)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (refused(errno.ENOSPC), ["No space left on device", "make room"]),
        (refused(errno.EROFS, "a/b"), ["a/b: Read-only file system", "read-only there"]),
        (
            OSError(
                errno.EROFS, "Failed to open local file 'a/b'. Detail: [errno 30] Read-only file system"
            ),
            ["a/b: Read-only file system"],
        ),
        (refused(errno.EACCES, "a/b"), ["a/b: Permission denied", "permissions"]),
        (refused(errno.EMFILE), ["Too many open files", "ulimit -n"]),
        (refused(errno.EFBIG), ["File too large", "ulimit -f"]),
        (OSError(errno.ENOSPC, "No space left on device", "from", None, "to"), ["to: No space"]),
        (OSError("broken data stream when writing image file"), ["broken data stream"]),
        (MemoryError(), ["out of memory"]),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ["No space left on device"]),
        (RuntimeError("PytorchStreamWriter failed: Read-only file system."), ["Read-only file system"]),
        (sqlite3.OperationalError("database or disk is full"), ["database or disk is full"]),
    ],
    ids=str,
)
def test_what_the_system_refuses_is_one_line(error: BaseException, parts: list[str]) -> None:
    line = explain(error)
    assert line is not None
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("lr"), RuntimeError("shapes do not match")])
def test_mistakes_of_ours_keep_their_traceback(error: Exception) -> None:
    assert explain(error) is None


@pytest.mark.parametrize("error", [refused(errno.EROFS, "a"), MemoryError(), ValueError("x")])
def test_commands_end_with_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def fails() -> None:
        raise error

    monkeypatch.setitem(cli.main.commands, "fails", fails)
    result = CliRunner().invoke(cli.main, ["fails"])
    if isinstance(error, ValueError):
        assert result.exception is error
    else:
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert result.stderr.startswith("fails: ")


def test_a_file_that_grows_without_a_limit_is_none(tmp_path: Path) -> None:
    """The message names a place without space only if it has none."""
    assert "full:" not in str(explain(refused(errno.ENOSPC)))

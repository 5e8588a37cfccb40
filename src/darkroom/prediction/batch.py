"""Classifies any number of inputs in bounded memory, and prints their rows or writes them to a file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from darkroom.errors import counted
from darkroom.escape import for_line
from darkroom.parallel import chunked
from darkroom.prediction.cells import shown
from darkroom.prediction.decisions import Failure
from darkroom.prediction.remote import InputFile
from darkroom.prediction.table import write_table
from darkroom.prediction.unfinished import Unfinished, open_unfinished
from darkroom.prediction.work import Work
from darkroom.progress import progress_bar

PACKAGES = ("darkroom", "numpy", "onnxruntime", "pillow")
"""Packages whose other versions may give other rows."""


def versions() -> dict[str, str]:
    """Return the versions of the packages that rows depend on."""
    return {name: version(name) for name in PACKAGES}


def print_rows(
    work: Work,
    paths: Iterable[InputFile],
    write: Callable[[Sequence[str]], object],
    has_header: bool,
    report: Callable[[str], None],
) -> tuple[int, int]:
    """Write each row as it is computed.

    Args:
        report: called with a message for each input that cannot be classified.

    Returns:
        The number of inputs, and of those that could not be classified.
    """
    num_inputs = num_failures = 0
    outcomes = work.outcomes(paths, 0, False)
    if has_header:
        write([column.name for column in work.columns])
    for outcome in outcomes:
        num_inputs += 1
        if isinstance(outcome, Failure):
            num_failures += 1
            report(_message(*_named(outcome)))
        else:
            write(outcome)
    return num_inputs, num_failures


def write_rows(
    work: Work,
    paths: Iterable[InputFile],
    out: InputFile,
    command: Mapping[str, Any],
    restart: bool,
    report: Callable[[str], None],
) -> tuple[int, int]:
    """Write all rows to a file, which appears when it is complete.

    A process that was killed loses the rows of at most ``work.at_once`` inputs, and on a cluster those
    of the tasks under way; the next call with the same arguments computes these and the others, and the
    file has the same bytes as without the kill.

    Args:
        command: all that rows depend on beside the inputs, as values of JSON, by names for messages.
        restart: discard the rows of a process that was killed.
        report: called with a message for each input that cannot be classified.

    Returns:
        The number of inputs, and of those that could not be classified.

    Raises:
        UserError: there are rows of another command, or the file cannot be written.
    """
    inputs: Iterable[InputFile] | int = paths if work.num_rows is None else work.num_rows
    with open_unfinished(out, {**command, "the table": work.digest}, inputs, restart) as unfinished:
        if unfinished.num_done:
            total = counted(unfinished.num_inputs, work.unit)
            report(f"{out}: resumes after {unfinished.num_done:,} of {total}")
        for chunk in unfinished.chunks():
            for failure in chunk.failures:
                report(_message(*failure))
        outcomes = work.outcomes(unfinished.inputs(), unfinished.num_done, unfinished.resumes)
        remaining = unfinished.num_inputs - unfinished.num_done
        with progress_bar("predict", remaining, f"{work.unit}s") as bar:
            for some in chunked(outcomes, work.at_once):
                failures = [_named(one) for one in some if isinstance(one, Failure)]
                for failure in failures:
                    report(_message(*failure))
                rows = [one for one in some if not isinstance(one, Failure)]
                unfinished.append(len(some), rows, failures)
                bar.advance(len(some))
        write_table(out, work.columns, _rows(unfinished), unfinished.scratch)
        unfinished.remove()
    return unfinished.num_inputs, unfinished.num_failures


def _rows(unfinished: Unfinished) -> Iterator[list[str]]:
    for chunk in unfinished.chunks():
        yield from chunk.rows


def _named(failure: Failure) -> tuple[str, str]:
    return for_line(shown(failure.path)), failure.reason


def _message(name: str, reason: str) -> str:
    return f"{name}: not classified: {reason}"

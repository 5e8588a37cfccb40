"""Mapping over chunks in processes: order, laziness, errors, and no process left behind."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

from darkroom.decoding.bad_image import BadImage
from darkroom.errors import UserError
from darkroom.parallel import Workers, context_with, ordered_map


@pytest.fixture(params=["spawned", "forked from a server"])
def context(request: pytest.FixtureRequest) -> BaseContext | None:
    """How worker processes start."""
    return None if request.param == "spawned" else context_with("darkroom.decoding.bad_image")


def later_if_even(chunk: int) -> tuple[int, int, float]:
    time.sleep(0.1 if chunk % 2 == 0 else 0)
    return chunk, os.getpid(), time.monotonic()


class Taken:
    """Numbers without end, and how many have been taken."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.count += 1
            yield number


def test_results_come_in_the_order_of_the_chunks_not_in_that_of_their_ends(
    context: BaseContext | None,
) -> None:
    results = list(ordered_map(later_if_even, range(12), 2, context=context))
    assert [chunk for chunk, _, _ in results] == list(range(12))
    ends = [end for _, _, end in results]
    assert ends != sorted(ends)
    pids = {pid for _, pid, _ in results}
    assert os.getpid() not in pids
    assert len(pids) == 2


def test_one_worker_is_this_process() -> None:
    results = list(ordered_map(later_if_even, range(3), 1))
    assert [(chunk, pid) for chunk, pid, _ in results] == [(i, os.getpid()) for i in range(3)]
    assert list(ordered_map(later_if_even, [], 1)) == []


def test_chunks_are_taken_little_ahead_of_the_results() -> None:
    for workers, ahead in ((1, 0), (2, 4)):
        taken = Taken()
        results = ordered_map(later_if_even, taken, workers)
        assert taken.count == 0
        for number in range(10):
            assert next(results)[0] == number
            assert taken.count == number + 1 + ahead
        results.close()


def leave_a_trace(place: tuple[Path, int]) -> int:
    folder, chunk = place
    time.sleep(0.05)
    (folder / str(chunk)).touch()
    return chunk


def test_a_generator_that_is_closed_early_leaves_no_worker(
    tmp_path: Path, context: BaseContext | None
) -> None:
    places = ((tmp_path, chunk) for chunk in range(1000))
    results = ordered_map(leave_a_trace, places, 2, context=context)
    assert next(results) == 0
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == []
    done = len(list(tmp_path.iterdir()))
    assert done < 10
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) == done


def wait_for(path: Path | None) -> None:
    while path is not None and not path.exists():
        time.sleep(0.01)


def test_deleted_workers_are_not_waited_for(tmp_path: Path) -> None:
    """The garbage collector may delete them in a thread whose start another thread waits for."""
    of_others = set(multiprocessing.active_children())  # of earlier tests
    workers = Workers(wait_for, 1, multiprocessing.get_context("spawn"))
    results = workers.map([None, tmp_path / "released"], most_pending=2)
    next(results)
    own = set(multiprocessing.active_children()) - of_others
    assert own
    owned: list[Any] = [results, workers]
    del results, workers
    deleting = threading.Thread(target=owned.clear)
    deleting.start()
    deleting.join(60)
    was_deleted = not deleting.is_alive()
    (tmp_path / "released").touch()
    assert was_deleted
    # not `join`: the pool's own thread may have taken the exit status, of which this one then knows late
    give_up = time.monotonic() + 60
    while own & set(multiprocessing.active_children()):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def refuse_three(chunk: int) -> int:
    if chunk == 3:
        raise BadImage("truncated", "half of it")
    return chunk


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_reaches_the_caller_after_the_results_before_it(workers: int) -> None:
    assert list(ordered_map(refuse_three, [0, 1, 2, 4], workers)) == [0, 1, 2, 4]
    results = ordered_map(refuse_three, itertools.count(), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BadImage) as raised:
        next(results)
    assert (raised.value.outcome, raised.value.reason) == ("truncated", "half of it")
    assert multiprocessing.active_children() == []


def test_an_exception_of_the_chunks_reaches_the_caller() -> None:
    def chunks() -> Iterator[int]:
        yield from range(6)
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        list(ordered_map(refuse_three, (chunk + 4 for chunk in chunks()), 2))
    assert multiprocessing.active_children() == []


def kill_itself_at_three(chunk: int) -> int:
    if chunk == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def test_a_worker_that_is_killed_is_named_as_such(context: BaseContext | None) -> None:
    with pytest.raises(UserError, match=r"a worker process was killed.*DARKROOM_WORKERS=1"):
        list(ordered_map(kill_itself_at_three, range(8), 2, context=context))
    assert multiprocessing.active_children() == []


class Costly:
    """A function that counts how often it is handed over."""

    handed_over = 0

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def __reduce__(self) -> tuple[Any, ...]:
        Costly.handed_over += 1
        return Costly, (self.offset,)

    def __call__(self, chunk: int) -> int:
        return chunk + self.offset


def test_the_function_is_handed_over_once_a_worker(
    context: BaseContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Costly, "handed_over", 0)
    results = ordered_map(Costly(7), range(40), 2, context=context)
    assert list(results) == [chunk + 7 for chunk in range(40)]
    assert 1 <= Costly.handed_over <= 2


PARENT = """
import multiprocessing, signal, os
from test_parallel import later_if_even
from darkroom.parallel import context_with, ordered_map
if __name__ == "__main__":
    context = context_with("json") if {} else None
    results = ordered_map(later_if_even, range(1000), 2, context=context)
    print(next(results)[0], *(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("from_server", [False, True])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, from_server: bool) -> None:
    from support import start_python  # not above: the workers would import torch with it

    process = start_python(PARENT.format(from_server), cwd=tmp_path)
    assert process.stdout is not None
    first, *pids = map(int, process.stdout.readline().split())
    assert first == 0
    assert len(pids) == 2
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))


SERVED = """
from darkroom.parallel import context_with, ordered_map
from darkroom.errors import UserError
if __name__ == "__main__":
    try:
        context = context_with({!r})
    except UserError as error:
        raise SystemExit(f"refused: {{error}}")
    question = "'wave' in __import__('sys').modules"
    print(*ordered_map(eval, [question] * 4, 2, context=context))
"""


@pytest.mark.parametrize(("module", "is_imported"), [("wave", "True"), ("json", "False")])
def test_worker_processes_start_with_the_module_imported(
    tmp_path: Path, module: str, is_imported: str
) -> None:
    from support import output_of, start_python

    assert output_of(start_python(SERVED.format(module), cwd=tmp_path)).split() == [is_imported] * 4


def test_a_folder_whose_path_is_too_long_for_a_socket_is_one_message(tmp_path: Path) -> None:
    from support import start_python

    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    process = start_python(SERVED.format("wave"), cwd=tmp_path, TMPDIR=f"{folder}")
    output, errors = process.communicate()
    if process.returncode == 0:  # newer versions of Python use /tmp instead (cpython#132124)
        assert output.split() == ["True"] * 4
    else:
        [line] = errors.splitlines()
        assert line.startswith("refused: worker processes cannot be started (")
        assert "TMPDIR" in line

"""A run that several processes log, because each is killed: one run with everything."""

import subprocess
import sys
from pathlib import Path

from darkroom.tracking.journal.file import Journal, journals
from darkroom.tracking.records import File, Metrics, Start

NUM_POINTS = 5

ATTEMPT = f"""
import os, signal, sys
from pathlib import Path
from darkroom.runtime import Runtime
from darkroom.tracking import recorder
from darkroom.tracking.destinations import tracked_once
from darkroom.tracking.journal.file import journals
from darkroom.tracking.journal.writer import close_dead

EVENTS = {{"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "fcntl.flock"}}
recorder.start_sender = lambda root: None
recorder.Recorder._wait = lambda *arguments: True

def log(kill_at):
    left = kill_at
    def count(event, arguments):
        nonlocal left
        if event in EVENTS and f"{{arguments[0]}}".startswith((str(Path.cwd()), "marks")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    with tracked_once("sweep", Runtime(), "mine", Path("marks/mine")) as run:
        for step in range({NUM_POINTS}):
            run.log_metrics({{"f1": step / 10}}, step)
        run.log_artifacts(Path("report.txt"))

kill_at = is_over = 0
while not is_over:
    kill_at += 1
    child = os.fork()
    if not child:
        log(kill_at)
        os._exit(0)
    is_over = os.waitpid(child, 0)[1] == 0
    for journal in journals(Path.cwd()):  # as the sender does
        close_dead(journal)
print(kill_at)
"""
"""Kills the first attempt at its first change of a file, the second at its second, until one ends."""


def log_killed(folder: Path) -> int:
    """Returns the number of attempts that it took."""
    (folder / "report.txt").write_text("report")
    shown = subprocess.run(
        [sys.executable, "-c", ATTEMPT], cwd=folder, check=True, stdout=subprocess.PIPE
    )
    return int(shown.stdout)


def records_of(journal: Journal, kind: type) -> list[Metrics | File | Start]:
    return [line.record for line in journal.read().lines if isinstance(line.record, kind)]


def test_killed_at_each_change_of_a_file_it_is_one_run_with_everything(tmp_path: Path) -> None:
    assert log_killed(tmp_path) > 10
    [journal] = journals(tmp_path)
    assert [record.step for record in records_of(journal, Metrics)] == [*range(NUM_POINTS)]
    assert {record.path for record in records_of(journal, File)} == {"report.txt"}
    assert len(records_of(journal, Start)) == 1
    assert journal.end() is not None
    assert (tmp_path / "marks/mine").exists()


def test_what_was_logged_is_not_logged_again(tmp_path: Path) -> None:
    log_killed(tmp_path)
    [journal] = journals(tmp_path)
    size = journal.size
    assert log_killed(tmp_path) == 1
    assert [one.size for one in journals(tmp_path)] == [size]

"""The sender sends what is its own, reports what is damaged, keeps what is refused, and ends."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import JOURNALS, REFUSED, Journal, journals
from darkroom.tracking.journal.lines import seal
from darkroom.tracking.journal.receipts import NAME, Receipt
from darkroom.tracking.journal.trouble import OutOfReach, Trouble, read_trouble
from darkroom.tracking.journal.writer import create_journal
from darkroom.tracking.mlflow import sender as sender_module
from darkroom.tracking.mlflow.delivery import JOURNAL_TAG
from darkroom.tracking.mlflow.sender import NUM_KEPT, Sender
from darkroom.tracking.mlflow.sender_process import LOG_BYTES, has_sender, start_sender
from darkroom.tracking.mlflow.store import QUIET, open_store
from darkroom.tracking.records import End, Metrics, NotResumed, Params, Record, Resumed, Start, Status


@pytest.fixture
def root(empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    shutil.copy(empty_mlflow, tmp_path)
    return tmp_path


def embedded(root: Path) -> Address:
    return Address.of(root, {})


ELSEWHERE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}  # the discard port


def points(*steps: int) -> list[Record]:
    return [Metrics(values={"loss": 1 / (1 + step)}, step=step, timestamp_ms=step) for step in steps]


def write(
    root: Path,
    *said: Record,
    status: Status | None = "FINISHED",
    address: Address | None = None,
    may_resume: bool = False,
) -> Journal:
    address = address or embedded(root)
    start = Start(
        stage="train",
        name="train",
        tags={"stage": "train"},
        destination=address.digest,
        address=f"{address}",
        may_resume=may_resume,
        timestamp_ms=1_000,
    )
    writer = create_journal(root, start)
    for record in said:
        writer.append(record)
    if status:
        writer.append(End(status=status, error="" if status == "FINISHED" else "it", timestamp_ms=2_000))
    writer.close()
    writer.journal.release()
    return Journal(writer.journal.folder)


def send(root: Path) -> list[str]:
    remarks: list[str] = []
    Sender(root, embedded(root), report=remarks.append).send_all()
    return remarks


def runs(root: Path) -> dict[str, tuple[str, set[int]]]:
    """Status and steps of each run, by its journal."""
    store = open_store(root, embedded(root))
    client, experiment, found = store.client, store.experiment, {}
    for run in client.search_runs([experiment.experiment_id]):
        history = client.get_metric_history(run.info.run_id, "loss")
        assert len(history) == len({point.step for point in history})
        assert run.data.tags[JOURNAL_TAG] not in found
        found[run.data.tags[JOURNAL_TAG]] = run.info.status, {point.step for point in history}
    return found


def folders(root: Path, *under: str) -> list[str]:
    return sorted(path.name for path in (root / JOURNALS).joinpath(*under).iterdir() if path.is_dir())


def test_a_finished_run_is_removed_when_it_has_arrived(root: Path) -> None:
    journal = write(root, *points(0, 1))
    assert send(root) == []
    assert runs(root) == {journal.name: ("FINISHED", {0, 1})}
    assert folders(root) == []


def test_a_run_that_may_go_on_is_kept_and_the_latest_of_them_alone(root: Path) -> None:
    names = [write(root, *points(0), status="FAILED").name for _ in range(NUM_KEPT + 3)]
    assert send(root) == []
    assert set(runs(root)) == set(names)
    assert folders(root) == names[3:]


def test_journals_of_another_mlflow_are_left_alone_however_many(root: Path) -> None:
    address = Address.of(root, ELSEWHERE)
    names = [write(root, *points(0), status="FAILED", address=address).name for _ in range(NUM_KEPT + 3)]
    write(root, status="FAILED")
    assert send(root) == []
    assert set(names) <= set(folders(root))
    assert len(runs(root)) == 1


def test_what_a_killed_sender_left_is_removed_by_the_next(root: Path) -> None:
    journal = write(root, *points(0))
    copy = root / "copy"
    shutil.copytree(journal.folder, copy)
    send(root)
    shutil.copytree(copy, journal.folder)  # as if it had died before it could remove it
    Receipt(embedded(root).digest, "run", journal.size).save(journal)
    assert send(root) == []
    assert folders(root) == []


def test_a_run_that_went_on_after_an_error_has_none(root: Path) -> None:
    said = [*points(0), End(status="KILLED", error="the process died", timestamp_ms=5)]
    journal = write(root, *said, Resumed(timestamp_ms=6), *points(1))
    assert send(root) == []
    assert runs(root) == {journal.name: ("FINISHED", {0, 1})}
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    [run] = client.search_runs(["1"])
    assert "error" not in run.data.tags
    assert run.info.end_time == 2_000


def test_a_run_that_waits_is_seen_when_it_goes_or_has_ended(root: Path) -> None:
    journal = write(root, *points(0), status=None, may_resume=True)
    assert journal.hold()
    assert Sender(root, embedded(root)).send_all()
    assert runs(root) == {}
    journal.release()
    send(root)
    assert runs(root) == {journal.name: ("KILLED", {0})}

    journal = write(root, *points(0), NotResumed(), status=None, may_resume=True)
    assert journal.hold()
    assert Sender(root, embedded(root)).send_all()
    assert runs(root)[journal.name] == ("RUNNING", {0})
    journal.release()


# damage


@pytest.mark.slow
def test_every_damage_is_reported_and_all_that_is_readable_arrives(root: Path) -> None:
    chance = random.Random(0)
    expected: dict[str, set[int]] = {}
    for _ in range(30):
        journal = write(root, *points(*range(10)))
        content = bytearray(journal.file.read_bytes())
        match chance.randrange(4):
            case 0:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            case 1:
                at = chance.randrange(len(content))
                content[at : at + chance.randrange(1, 100)] = chance.randbytes(chance.randrange(100))
            case 2:
                lines = content.splitlines(keepends=True)
                del lines[chance.randrange(len(lines) - 1)]
                content = bytearray(b"".join(lines))
            case 3:
                (journal.folder / NAME).write_bytes(chance.randbytes(chance.randrange(200)))
        journal.file.write_bytes(content)
        read = journal.read().lines
        expected[journal.name] = {line.record.step for line in read if isinstance(line.record, Metrics)}
        if not journal.read().damage:
            assert len(read) == 12 or journal.end() is None
    whole = write(root, *points(*range(10)))
    damaged = {journal.name for journal in journals(root) if journal.read().damage}
    remarks = send(root)
    found = runs(root)
    assert {name: steps for name, (_, steps) in found.items()} == {
        **expected,
        whole.name: set(range(10)),
    }
    assert {remark.partition(":")[0] for remark in remarks} == damaged
    assert set(folders(root, REFUSED)) == {name for name in damaged if found[name][0] == "FINISHED"}
    assert whole.name not in damaged


def test_lines_of_a_newer_version_are_kept(root: Path) -> None:
    journal = write(root, *points(0), status=None)
    end = seal(b'{"number":3,"record":{"kind":"end","status":"FINISHED","timestamp_ms":5}}')
    with journal.file.open("ab") as file:
        file.write(seal(b'{"number":2,"record":{"kind":"hologram","depth":3}}') + end)
    [remark] = send(root)
    assert "another version" in remark
    assert runs(root) == {journal.name: ("FINISHED", {0})}
    assert folders(root, REFUSED) == [journal.name]
    assert b"hologram" in (root / JOURNALS / REFUSED / journal.name / "journal.jsonl").read_bytes()


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_damaged_copy_of_an_artifact_is_reported_and_stops_nothing(damage: str, root: Path) -> None:
    (root / "a.txt").write_text("contents")
    address = embedded(root)
    start = Start(
        stage="train", name="train", tags={}, destination=address.digest, address="", timestamp_ms=1
    )
    writer = create_journal(root, start)
    file = writer.keep(Path("a.txt"), root / "a.txt")
    for record in (file, *points(0), End(status="FINISHED", timestamp_ms=2)):
        writer.append(record)
    writer.close()
    writer.journal.release()
    copy = writer.journal.spooled(file)
    if damage == "gone":
        shutil.rmtree(writer.journal.spool)
    else:
        copy.write_text("content" if damage == "cut" else "Contents")
    whole = write(root, *points(1))
    [remark] = send(root)
    assert "a.txt" in remark
    assert ("gone" if damage == "gone" else "damaged") in remark
    assert runs(root)[writer.journal.name] == ("FINISHED", {0})
    assert runs(root)[whole.name] == ("FINISHED", {1})


def test_what_cannot_be_read_does_not_keep_others_from_being_sent(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = write(root, *points(0)), write(root, *points(1))
    read = Journal.read

    def failing(journal: Journal, offset: int = 0) -> object:
        if journal.name == bad.name:
            raise PermissionError(13, "Permission denied")
        return read(journal, offset)

    monkeypatch.setattr(Journal, "read", failing)
    [remark] = send(root)
    assert "Permission denied" in remark
    assert set(runs(root)) == {good.name}
    monkeypatch.setattr(Journal, "read", read)
    send(root)
    assert set(runs(root)) == {good.name, bad.name}


# what others do to MLflow


def test_a_run_that_was_deleted_is_sent_anew_when_it_goes_on(root: Path) -> None:
    journal = write(root, *points(0), status=None)
    assert journal.hold()
    sender = Sender(root, embedded(root))
    sender.send_all()
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    [run] = client.search_runs(["1"])
    client.delete_run(run.info.run_id)
    with journal.file.open("ab") as file:
        for number, record in enumerate(
            [*points(1), Params(values={"a": "1"}), End(status="FINISHED", timestamp_ms=9)], 2
        ):
            content = f'{{"number":{number},"producer":null,"record":{record.model_dump_json()}}}'
            file.write(seal(content.encode()))
    journal.release()
    sender.send_all()
    assert runs(root) == {journal.name: ("FINISHED", {0, 1})}


@pytest.mark.slow
def test_a_database_that_was_deleted_is_made_anew_and_gets_the_whole_run(root: Path) -> None:
    journal = write(root, *points(0), status=None)
    assert journal.hold()
    sender = Sender(root, embedded(root))
    sender.send_all()
    assert runs(root) == {journal.name: ("RUNNING", {0})}
    (root / "mlflow.db").unlink()
    journal.release()
    sender.send_all()
    assert runs(root) == {journal.name: ("KILLED", {0})}


def test_a_deleted_experiment_is_waited_for(root: Path) -> None:
    journal = write(root, *points(0))
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    client.delete_experiment("1")
    sender = Sender(root, embedded(root))
    for _ in range(2):
        with pytest.raises(OutOfReach, match="is deleted; restore it with"):
            sender.send_all()
    client.restore_experiment("1")
    sender.send_all()
    assert runs(root) == {journal.name: ("FINISHED", {0})}


def test_a_run_that_died_in_an_outage_does_not_keep_the_sender(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Address.of(root, ELSEWHERE)
    for _ in range(2):
        write(root, *points(0), status=None, address=address)
    monkeypatch.setattr(sender_module, "GIVE_UP_SECONDS", 1.0)
    remarks: list[str] = []
    began = time.monotonic()
    Sender(root, address, report=remarks.append).run()
    assert time.monotonic() - began < sender_module.GIVE_UP_SECONDS + 30
    assert len(remarks) == 1  # of several tries
    assert read_trouble(root, address) == Trouble("Connection refused", may_pass=True)
    assert read_trouble(root, address, time.time() + 60) is None
    assert all(journal.end() is not None for journal in journals(root))


def test_a_project_that_was_moved_sends_what_waited(root: Path) -> None:
    journal = write(root, *points(0))
    moved = root.with_name(f"{root.name}-moved")
    root.rename(moved)
    assert send(moved) == []
    assert runs(moved) == {journal.name: ("FINISHED", {0})}


# the process


def wait_for(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_sender_ends_by_itself_and_serves_what_comes_meanwhile(root: Path) -> None:
    first = write(root, *points(0))
    process = start_sender(root)
    wait_for(lambda: not first.file.exists())
    second = write(root, *points(1))  # of the next stage of a `dvc repro`
    other = start_sender(root)
    wait_for(lambda: not second.file.exists())
    assert other.wait(120) == 0  # it leaves the work to the first
    assert process.wait(120) == 0
    assert not has_sender(root, embedded(root))
    assert set(runs(root)) == {first.name, second.name}
    assert b"rror" not in (root / JOURNALS / "sender.log").read_bytes()


STAGE = """
import sys, time
from pathlib import Path
from darkroom.runtime import load_runtime
from darkroom.tracking.destinations import tracked
with tracked("said", load_runtime()) as run:
    run.log_metrics({"loss": 1.0}, step=0)
    print("began", flush=True)
    sys.stdin.readline()
"""


def stage(root: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STAGE],
        cwd=root,
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def senders(root: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"darkroom.tracking.mlflow.sender" in arguments and os.fsencode(root) in arguments:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_sender_that_is_killed_is_replaced_though_it_was_an_earlier_stages(root: Path) -> None:
    (root / JOURNALS).mkdir()
    earlier = start_sender(root)
    wait_for(lambda: has_sender(root, embedded(root)))
    with stage(root) as process:
        assert process.stdout is not None
        process.stdout.readline()
        [journal] = journals(root)
        wait_for(
            lambda: (
                senders(root) == [earlier.pid] and Receipt.load(journal, embedded(root).digest).offset
            )
        )
        earlier.kill()
        earlier.wait()
        _, errors = process.communicate("\n")
        assert (process.returncode, errors) == (0, "")
    assert runs(root) == {journal.name: ("FINISHED", {0})}


def test_a_killed_stage_is_closed_by_the_sender_that_outlives_it(root: Path) -> None:
    with stage(root) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    [journal] = journals(root)
    wait_for(lambda: runs(root).get(journal.name) == ("KILLED", {0}))


@pytest.mark.slow
def test_two_addresses_at_once_have_two_senders(root: Path) -> None:
    second = f"sqlite:///{root / 'second.db'}"
    shutil.copy(root / "mlflow.db", root / "second.db")
    processes = [stage(root), stage(root, MLFLOW_TRACKING_URI=second)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        _, errors = process.communicate("\n")
        assert (process.returncode, errors) == (0, "")
    shutil.copy(root / "second.db", root / "seen.db")
    assert len(runs(root)) == 1
    (root / "mlflow.db").unlink()
    (root / "second.db").rename(root / "mlflow.db")
    assert len(runs(root)) == 1


def test_the_log_does_not_grow_for_ever(root: Path) -> None:
    (root / JOURNALS).mkdir()
    log = root / JOURNALS / "sender.log"
    log.write_bytes(b"x" * (LOG_BYTES + 1))
    process = start_sender(root)
    assert log.stat().st_size == 0
    assert (root / JOURNALS / "sender.1.log").stat().st_size == LOG_BYTES + 1
    process.kill()
    process.wait()

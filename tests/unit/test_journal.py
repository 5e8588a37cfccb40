"""Journals on disk: what was written can be read, whatever else was damaged, and each damage is told."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from darkroom.tracking.journal.file import (
    JOURNALS,
    LEFTOVER_SECONDS,
    Journal,
    journals,
    tidy,
)
from darkroom.tracking.journal.lines import seal
from darkroom.tracking.journal.receipts import NAME, Receipt
from darkroom.tracking.journal.writer import Writer, close_dead, create_journal
from darkroom.tracking.records import End, Metrics, Params, Record, Start

DIGEST = "0123456789abcdef"
SAID: list[Record] = [
    Params(values={"train.lr": "0.1", "name": "größer ☃"}),
    *(Metrics(values={"loss": 1 / step}, step=step, timestamp_ms=1_000 + step) for step in range(1, 6)),
    End(status="FINISHED", timestamp_ms=2_000),
]


def start(stage: str = "train", timestamp_ms: int = 1_000) -> Start:
    return Start(
        stage=stage, name=stage, tags={}, destination=DIGEST, address="", timestamp_ms=timestamp_ms
    )


def write(root: Path, *said: Record, stage: str = "train") -> Journal:
    """Writes a journal as a process does that ends without a word more."""
    writer = create_journal(root, start(stage))
    for record in said:
        assert writer.append(record) is None
    assert writer.close() is None
    writer.journal.release()
    return Journal(writer.journal.folder)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return write(tmp_path, *SAID)


def test_what_is_written_is_read(journal: Journal) -> None:
    reading = journal.read()
    assert [line.record for line in reading.lines] == [start(), *SAID]
    assert [line.number for line in reading.lines] == list(range(8))
    assert reading.offsets[-1] == reading.end == journal.size
    assert reading.damage == []
    assert journal.end() == SAID[-1]
    assert journal.start() == start()


def test_reading_goes_on_where_it_ended(journal: Journal) -> None:
    whole = journal.read()
    for number, offset in enumerate(whole.offsets):
        rest = journal.read(offset)
        assert (rest.lines, rest.damage) == (whole.lines[number + 1 :], [])


def test_a_half_written_line_is_left_for_later(journal: Journal) -> None:
    content = journal.file.read_bytes()
    whole = journal.read()
    for length in range(len(content)):
        journal.file.write_bytes(content[:length])
        reading = journal.read()
        num_whole = sum(offset <= length for offset in whole.offsets)
        assert reading.lines == whole.lines[:num_whole]
        assert reading.damage == []
        assert journal.end() is None


@pytest.mark.slow
def test_a_journal_cut_anywhere_is_closed_as_killed_and_the_cut_line_alone_is_lost(
    tmp_path: Path,
) -> None:
    whole = write(tmp_path / "whole", *SAID).file.read_bytes()
    ends = [
        i for i, byte in enumerate(whole) if byte == ord("\n")
    ]  # where but the line break is missing
    journal = write(tmp_path / "cut", *SAID)
    for length in range(1, len(whole)):
        journal.file.write_bytes(whole[:length])
        assert close_dead(journal)
        reading = journal.read()
        num_whole = sum(end <= length for end in ends)
        assert [line.record for line in reading.lines[:-1]] == [start(), *SAID][:num_whole]
        end = journal.end()
        assert end is not None
        assert end.status == "KILLED"
        assert len(reading.damage) == (length not in ends and length - 1 not in ends)


@pytest.mark.slow
def test_every_flipped_bit_is_noticed_and_costs_the_lines_it_hits(journal: Journal) -> None:
    content = journal.file.read_bytes()
    lines = journal.read().lines
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        journal.file.write_bytes(damaged)
        reading = journal.read()
        is_last_byte = position == len(content) - 1
        assert reading.damage or is_last_byte
        assert len(reading.lines) >= len(lines) - 2
        assert all(line in lines for line in reading.lines)
        journal.start()  # tells something in any case
        journal.end()


def test_garbage_is_read_without_a_crash(journal: Journal) -> None:
    chance = random.Random(0)
    content = journal.file.read_bytes()
    for _ in range(300):
        at, length = chance.randrange(len(content)), chance.randrange(200)
        damaged = content[:at] + chance.randbytes(length) + content[at + chance.randrange(200) :]
        journal.file.write_bytes(damaged)
        assert journal.read().end <= len(damaged)
        journal.start()
        journal.end()


def test_a_missing_line_is_noticed(journal: Journal) -> None:
    lines = journal.file.read_bytes().splitlines(keepends=True)
    journal.file.write_bytes(b"".join(lines[:2] + lines[4:]))
    assert journal.read().damage == ["lines 2 to 3 are missing"]
    journal.file.write_bytes(b"".join(lines[1:]))
    assert journal.read().damage == ["lines 0 to 0 are missing"]


def test_a_damaged_beginning_leaves_what_the_name_tells(journal: Journal) -> None:
    content = journal.file.read_bytes()
    journal.file.write_bytes(b"x" + content[1:])
    found = journal.start()
    assert (found.stage, found.destination, found.timestamp_ms) == ("train", DIGEST, 1_000)
    assert found.tags["journal"] == "damaged"


def test_lines_of_another_version_are_told_from_damage(journal: Journal) -> None:
    with journal.file.open("ab") as file:
        file.write(seal(b'{"number": 8, "record": {"kind": "hologram"}}'))
    [remark] = journal.read().damage
    assert "another version of darkroom" in remark


def test_the_end_of_a_run_with_a_long_error_is_found(tmp_path: Path) -> None:
    from darkroom.tracking.journal.file import LENGTH_OF_ERROR

    for char in ("x", "☃", "\x00", '"', "\n"):
        end = End(status="FAILED", error=char * LENGTH_OF_ERROR, timestamp_ms=1)
        assert write(tmp_path, end).end() == end


def test_later_journals_sort_behind_earlier_ones_though_the_clock_is_put_back(tmp_path: Path) -> None:
    written = []
    for timestamp_ms in (5_000, 5_000, 4_000, 1_000, 6_000):
        writer = create_journal(tmp_path, start(timestamp_ms=timestamp_ms))
        written.append(writer.journal.name)
        writer.close()
        writer.journal.release()
    assert [journal.name for journal in journals(tmp_path)] == written


def test_what_else_lies_there_is_left_alone(tmp_path: Path, journal: Journal) -> None:
    folder = tmp_path / JOURNALS
    (folder / "20240101-notes").mkdir()
    (folder / "2024.txt").write_text("notes")
    empty = folder / "20240101-000000-000000-train-0123456789abcdef-01234567"
    empty.mkdir()
    assert [found.name for found in journals(tmp_path)] == [journal.name]
    assert tidy(tmp_path) == [f"{empty.name}: its journal is gone"]
    assert len(list(folder.iterdir())) == 4


def test_what_a_killed_process_left_half_made_is_deleted_later(tmp_path: Path, journal: Journal) -> None:
    hidden = journal.folder.with_name(f".{journal.name}")
    hidden.mkdir()
    assert tidy(tmp_path) == []
    assert hidden.exists()
    old = time.time() - LEFTOVER_SECONDS - 1
    os.utime(hidden, (old, old))
    assert tidy(tmp_path) == []
    assert not hidden.exists()
    assert journal.file.exists()


def test_a_journal_is_held_by_its_writer_and_by_no_one_else(tmp_path: Path) -> None:
    writer = create_journal(tmp_path, start())
    other = Journal(writer.journal.folder)
    assert not other.hold()
    assert not close_dead(other)
    writer.close()
    writer.journal.release()
    assert close_dead(other)
    assert other.hold()
    other.release()


def test_a_removed_journal_cannot_be_held(tmp_path: Path, journal: Journal) -> None:
    late = Journal(journal.folder)
    assert journal.hold()
    journal.remove()
    journal.release()
    assert not late.hold()
    assert list((tmp_path / JOURNALS).iterdir()) == []


def test_a_forked_child_does_not_give_up_what_its_parent_holds(tmp_path: Path) -> None:
    writer = create_journal(tmp_path, start())
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from darkroom.tracking.journal.writer import create_journal\n"
        "from darkroom.tracking.records import Start\n"
        f"start = Start.model_validate_json({start().model_dump_json()!r})\n"
        f"writer = create_journal(Path({str(tmp_path)!r}), start)\n"
        "if os.fork() == 0:\n"
        "    sys.exit(0)\n"  # with all that an interpreter does at its end
        "os.wait()\n"
        "print(writer.journal.folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        journal = Journal(Path(process.stdout.readline().strip()))
        assert not close_dead(journal)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert close_dead(journal)
    writer.close()


def test_what_the_disk_does_not_take_waits_for_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = create_journal(tmp_path, start())
    pwrite = os.pwrite

    def full(file: int, raw: bytes, offset: int) -> int:
        if len(raw) > 10:
            return pwrite(file, raw[:10], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    for record in SAID[:3]:
        error = writer.append(record)
        assert error is not None
    assert len(writer.journal.read().lines) == 1
    monkeypatch.setattr(os, "pwrite", pwrite)
    assert writer.append(SAID[3]) is None
    reading = writer.journal.read()
    assert [line.record for line in reading.lines] == [start(), *SAID[:4]]
    assert reading.damage == []


def test_a_journal_that_cannot_begin_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, raw: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        create_journal(tmp_path, start())
    assert list((tmp_path / JOURNALS).iterdir()) == []


def test_who_deletes_a_journal_that_is_written_is_found_out(tmp_path: Path) -> None:
    writer = create_journal(tmp_path, start())
    Journal(writer.journal.folder).remove()
    assert writer.append(SAID[0]) is None
    assert "deleted" in str(writer.close())


def test_a_later_writer_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    journal = write(tmp_path, *SAID[:3])
    with journal.file.open("ab") as file:
        file.write(b"torn")
    assert journal.hold()
    writer = Writer(journal)
    writer.append(SAID[-1])
    writer.close()
    reading = journal.read()
    assert [line.number for line in reading.lines] == [0, 1, 2, 3, 4]
    assert len(reading.damage) == 1
    assert journal.end() == SAID[-1]


def test_a_long_journal_is_read_in_seconds(tmp_path: Path) -> None:
    writer = create_journal(tmp_path, start())
    began = time.monotonic()
    for step in range(20_000):
        writer.append(Metrics(values={"loss": 1.0}, step=step, timestamp_ms=step))
    wrote = time.monotonic()
    assert len(writer.journal.read().lines) == 20_001
    assert wrote - began < 20
    assert time.monotonic() - wrote < 10


# receipts


def test_a_receipt_is_read_as_it_was_saved(journal: Journal) -> None:
    receipt = Receipt(DIGEST, "run", 17, {"models": "maker"}, ["a = 2"])
    receipt.save(journal)
    assert Receipt.load(journal, DIGEST) == receipt
    assert Receipt.load(journal, "another") == Receipt("another")


def test_a_damaged_receipt_is_none(journal: Journal) -> None:
    Receipt(DIGEST, "run", 17, {}, []).save(journal)
    path = journal.folder / NAME
    content = path.read_bytes()
    empty = Receipt(DIGEST)
    for length in range(len(content) - 1):
        path.write_bytes(content[:length])
        assert Receipt.load(journal, DIGEST) == empty
    for position in range(len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        assert Receipt.load(journal, DIGEST) == empty
    path.write_bytes(seal(b'{"destination": "0123456789abcdef", "of": "another version"}'))
    assert Receipt.load(journal, DIGEST) == empty
    path.write_bytes(seal(b"[]"))
    assert Receipt.load(journal, DIGEST) == empty


def test_a_receipt_for_more_than_there_is_is_none(journal: Journal) -> None:
    Receipt(DIGEST, "run", journal.size + 1).save(journal)
    assert Receipt.load(journal, DIGEST) == Receipt(DIGEST)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_can_read_a_journal(tmp_path: Path, umask: int) -> None:
    (tmp_path / "report.html").write_text("report")
    earlier = os.umask(umask)
    try:
        journal = write(tmp_path, *SAID)
        assert journal.hold()
        writer = Writer(journal)
        writer.keep(tmp_path / "report.html")
        writer.close()
        Receipt(DIGEST).save(journal)
        journal.release()
    finally:
        os.umask(earlier)
    found = modes(tmp_path / JOURNALS)
    folders = [JOURNALS, journal.name, "files", next(journal.spool.iterdir()).name]
    files = ["journal.jsonl", "report.html", NAME, "lock"]
    assert found == dict.fromkeys(folders, 0o700) | dict.fromkeys(files, 0o600)


def test_journals_of_an_earlier_version_are_closed_to_others(tmp_path: Path) -> None:
    journal = write(tmp_path, *SAID)
    (tmp_path / "outside").write_text("not ours")
    (tmp_path / "outside").chmod(0o644)
    (journal.folder / "link").symlink_to(tmp_path / "outside")
    for path in (journal.file, journal.folder, tmp_path / JOURNALS):
        path.chmod(0o755)
    write(tmp_path, *SAID)
    assert {mode for name, mode in modes(tmp_path / JOURNALS).items() if name != "link"} == {
        0o700,
        0o600,
    }
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o644

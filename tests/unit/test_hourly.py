"""The hourly log: whole after a kill, shared by processes, and tested for drift as a table is."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from scipy.stats import ks_2samp

from darkroom.cli import main
from darkroom.comparison.drift import Sample
from darkroom.comparison.drift_log import binned, load_log, sample_of
from darkroom.errors import UserError
from darkroom.prediction.hourly import EDGES, MAX_ANSWERS, OTHERS, HourlyLog, bins_of, read_hours

BEGIN = datetime(2026, 11, 30, 22, 30, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: datetime = BEGIN) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def fill(folder: Path, num: int, seed: int = 0, model: str = "m", begin: datetime = BEGIN) -> pa.Table:
    """Logs predictions of three hours, and returns them as a table."""
    random, clock = np.random.default_rng(seed), Clock(begin)
    log = HourlyLog(folder, clock)
    classes = random.choice(["cat", "dog", "owl"], num, p=[0.5, 0.3, 0.2]).tolist()
    confidence = np.round(random.beta(8, 0.5, num), 6)
    unfamiliarity = np.round(random.gamma(9, 0.1, num), 4)
    for index, answer in enumerate(classes):
        clock.now = begin + timedelta(hours=3 * index / num)
        log.add(model, answer, confidence=confidence[index], unfamiliarity=unfamiliarity[index])
        if index % 50 == 0:
            log.write()
    log.write()
    columns = {"class": classes, "probability": confidence, "unfamiliarity": unfamiliarity}
    return pa.table(columns)


def run(*arguments: object) -> Result:
    words = [f"{argument}" for argument in arguments]
    return CliRunner().invoke(main, ["drift", *words], catch_exceptions=False)


@pytest.mark.parametrize("name", EDGES)
def test_a_value_is_in_the_bin_whose_edges_are_around_it(name: str) -> None:
    edges = EDGES[name]
    assert (np.diff(edges) > 0).all()
    values = np.concatenate([edges, edges + 0.00004, np.random.default_rng(0).random(999)])
    found = bins_of(name, values)
    rounded = np.round(values, 4)
    assert (edges[found] <= rounded).all()
    assert (rounded < np.append(edges, np.inf)[found + 1]).all()
    assert bins_of(name, edges).tolist() == list(range(len(edges)))


def test_a_log_has_each_prediction_in_its_hour(tmp_path: Path) -> None:
    table = fill(tmp_path / "log", 900)
    hours = list(read_hours(tmp_path / "log"))
    starts = sorted({hour.start for hour in hours})
    assert starts == [BEGIN.replace(minute=0) + timedelta(hours=n) for n in range(4)]
    assert sum(hour.row.count for hour in hours) == 900
    first = table.slice(0, 150)  # half an hour
    counted = {h.answer: h.row.count for h in hours if h.start == starts[0]}
    assert counted == Counter(first["class"].to_pylist())
    sample = sample_of(load_log(tmp_path / "log"))
    expected = binned(
        Sample(
            Counter(table["class"].to_pylist()),
            Counter(table["class"].to_pylist()),
            {"confidence": table["probability"].to_numpy(), "unfamiliarity": table[2].to_numpy()},
        )
    )
    assert sample.answers == expected.answers
    for name in EDGES:
        assert sorted(sample.numbers[name]) == sorted(expected.numbers[name])


def test_several_processes_share_a_folder_and_the_latest_model_counts(tmp_path: Path) -> None:
    fill(tmp_path, 100, seed=1)
    fill(tmp_path, 50, seed=2)
    assert len(list(tmp_path.iterdir())) == 2 * 4
    assert len(sample_of(load_log(tmp_path))) == 150
    fill(tmp_path, 10, seed=3, model="new", begin=BEGIN + timedelta(days=1))
    log = load_log(tmp_path)
    assert (len(sample_of(log)), log.num_others) == (10, 4)
    assert len(sample_of(load_log(tmp_path, until=BEGIN + timedelta(hours=9)))) == 150


def test_answers_are_bounded_and_failed_writes_are_made_up_for(tmp_path: Path) -> None:
    clock = Clock()
    log = HourlyLog(tmp_path / "log", clock)
    for index in range(MAX_ANSWERS + 5):
        log.add("m", f"{index}", confidence=None, unfamiliarity=None)
    (tmp_path / "log").rename(tmp_path / "away")
    with pytest.raises(OSError, match="No such file"):
        log.write()
    clock.now += timedelta(hours=1)
    log.add("m", "late", confidence=float("nan"), unfamiliarity=None)
    (tmp_path / "away").rename(tmp_path / "log")
    log.write()
    rows = {hour.answer: hour.row.count for hour in read_hours(tmp_path / "log")}
    assert (len(rows), rows[OTHERS], rows["late"]) == (MAX_ANSWERS + 2, 5, 1)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--log .*file: cannot be written"):
        HourlyLog(tmp_path / "file")


WRITER = """
import sys
from pathlib import Path
from darkroom.prediction.hourly import HourlyLog
log = HourlyLog(Path(sys.argv[1]))
while True:
    for answer in "abc":
        log.add("m", answer, confidence=0.5, unfamiliarity=1.0)
    log.write()
    print("written", flush=True)
"""


def test_a_kill_leaves_whole_files(tmp_path: Path) -> None:
    for kill in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE)
        assert process.stdout
        for _ in range(20 + 7 * kill):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    hours = list(read_hours(tmp_path))
    assert {hour.answer for hour in hours} == {"a", "b", "c"}
    counts = Counter[str]()
    for hour in hours:
        counts[hour.answer] += hour.row.count
    assert min(counts.values()) >= 20 + 27 + 34
    assert len({*counts.values()}) == 1  # never a part of a file


def test_drift_of_a_log_is_that_of_the_table_in_bins(tmp_path: Path) -> None:
    reference = fill(tmp_path / "a", 400, seed=1)
    new = fill(tmp_path / "b", 300, seed=2)
    pq.write_table(reference, tmp_path / "a.parquet")
    results = [run(one, tmp_path / "b", "--json") for one in (tmp_path / "a.parquet", tmp_path / "a")]
    assert [result.exit_code for result in results] == [0, 0]
    one, two = (json.loads(result.stdout) for result in results)
    for test, same in zip(one["tests"], two["tests"], strict=True):
        assert (test["name"], test["p_value"]) == (same["name"], pytest.approx(same["p_value"]))
        assert test["distance"] == pytest.approx(same["distance"])
    distances = {test["name"]: test["distance"] for test in one["tests"]}
    for name, column in (("confidence", "probability"), ("unfamiliarity", "unfamiliarity")):
        pair = [EDGES[name][bins_of(name, t[column].to_numpy())] for t in (reference, new)]
        assert distances[name] == pytest.approx(ks_2samp(*pair).statistic)
        raw = ks_2samp(reference[column].to_numpy(), new[column].to_numpy()).statistic
        assert distances[name] <= raw + 1e-12  # bins never find more
    fill(tmp_path / "b", 300, seed=3, model="m2", begin=BEGIN + timedelta(days=2))
    found = run(
        tmp_path / "a.parquet", tmp_path / "b", "--since", "2026-12-01", "--report", tmp_path / "r.html"
    )
    assert found.exit_code == 0
    assert "300 predictions, against 400" in found.stdout
    assert "Drift by hour" in (tmp_path / "r.html").read_text()
    early = run(tmp_path / "a.parquet", tmp_path / "b", "--until", "2026-11-30T23")
    assert "50 predictions, against 400" in early.stdout
    earlier = run(tmp_path / "a.parquet", tmp_path / "b")
    assert "4 hours of earlier models are not used" in earlier.stderr


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    table = fill(tmp_path / "log", 20)
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "none").mkdir()
    for arguments, words in (
        ((tmp_path / "a.parquet", tmp_path / "none"), "has no hour of a log; give a folder"),
        ((tmp_path / "a.parquet", tmp_path / "log", "--since", "2030-01-01"), "between the times"),
        ((tmp_path / "a.parquet", tmp_path / "a.parquet", "--until", "2030-01-01"), "neither"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert words in result.stderr
    file = next((tmp_path / "log").iterdir())
    os.truncate(file, file.stat().st_size - 5)
    result = run(tmp_path / "a.parquet", tmp_path / "log")
    assert (result.exit_code, f"{file}: not a log" in result.stderr) == (2, True)


@pytest.mark.slow
def test_a_server_logs_what_it_answers(tmp_path: Path) -> None:
    from served import serving
    from served_exports import draw, write_export, write_mask_export

    exported = write_export(tmp_path / "export")
    with serving(exported, "--log", tmp_path / "log") as served:
        answers = [served.predict(draw(seed)).prediction for seed in range(12)]
        assert served.predict(b"no image").status == 415
        assert served.end() == 0
    hours = list(read_hours(tmp_path / "log"))
    counts, bins = Counter[str](), {name: Counter[int]() for name in EDGES}
    for hour in hours:
        counts[hour.answer] += hour.row.count
        for name, found in hour.row.bins.items():
            bins[name].update(found)
    assert counts == Counter(answer["classes"][0] for answer in answers)
    confidence = [round(answer["probabilities"][0], 6) for answer in answers]
    assert bins["confidence"] == Counter(bins_of("confidence", np.array(confidence)).tolist())
    masks = [sys.executable, "-c", "from darkroom.cli import main; main()", "serve"]
    refused = subprocess.run(
        [*masks, write_mask_export(tmp_path / "masks"), "--port", "0", "--log", tmp_path / "log"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert (refused.returncode, "masks have no classes to count" in refused.stderr) == (2, True)

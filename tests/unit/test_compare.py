"""`darkroom compare`: the statistics against scipy and scikit-learn, and what is refused."""

import io
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compared import BAD, GOOD, LABELS, NAMES, SIMILAR, files_of, git, guesses, run
from handmade import write_lock
from numpy.typing import NDArray
from onnx import TensorProto, helper
from registered import new_store
from scipy.stats import false_discovery_control, norm
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from darkroom.comparison.matching import match
from darkroom.comparison.predictions import Predictions
from darkroom.comparison.side import Side
from darkroom.comparison.text import markdown
from darkroom.comparison.verdict import calibration, compare, holm
from darkroom.errors import UserError
from darkroom.metrics.paired import DETECTABLE, Paired, compare_units, label_units, mcnemar
from darkroom.metrics.resampling import NUM_RESAMPLES
from darkroom.models.exported import describe_export
from darkroom.paths import METRICS, MODEL, PREDICTIONS


def side(name: str, *arguments: Any, **extra: Any) -> Side:
    return Side(name, Predictions.parse(*files_of(*arguments), name), **extra)


def one_hot(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return labels[:, None] == np.arange(3)


def paired(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    labels: NDArray[np.int64] = LABELS,
    groups: NDArray[np.int64] | None = None,
    num_resamples: int = 2_000,
) -> Paired:
    units = label_units(one_hot(labels), one_hot(first), one_hot(second), groups)
    return compare_units(units, num_resamples=num_resamples)


def test_scores_are_those_of_scikit_learn() -> None:
    found = paired(BAD, GOOD)
    expected = [f1_score(LABELS, preds, average="macro") for preds in (BAD, GOOD)]
    assert found.scores == pytest.approx(expected, abs=1e-12)
    for row, preds in zip(found.class_scores, (BAD, GOOD), strict=True):
        assert row == pytest.approx(f1_score(LABELS, preds, average=None), abs=1e-12)
    predictions = side("a", BAD).predictions
    measured = calibration(predictions)
    assert measured["nll"] == pytest.approx(
        log_loss(LABELS, predictions.probabilities, labels=[0, 1, 2])
    )
    assert measured["brier"] == pytest.approx(
        brier_score_loss(LABELS, predictions.probabilities, labels=[0, 1, 2], scale_by_half=False)
    )


def test_interval_agrees_with_a_bootstrap_image_by_image() -> None:
    random, differences = np.random.default_rng(0), []
    places = [np.flatnonzero(index == LABELS) for index in range(3)]
    for _ in range(2_000):
        drawn = np.concatenate([random.choice(place, len(place)) for place in places])
        scores = []
        for preds in (BAD, GOOD):
            hits = np.bincount(LABELS[drawn][preds[drawn] == LABELS[drawn]], minlength=3)
            both = np.bincount(LABELS[drawn], minlength=3) + np.bincount(preds[drawn], minlength=3)
            scores.append((2 * hits / both).mean())
        differences.append(scores[1] - scores[0])
    found = paired(BAD, GOOD)
    assert found.standard_error == pytest.approx(np.std(differences), rel=0.07)
    assert (found.low, found.high) == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=0.01)


@pytest.mark.slow
def test_randomisation_test_agrees_with_every_exchange() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    first, second = labels.copy(), np.array([1, 0, 0, 1, 2, 1, 2, 0])
    differences = []
    for swaps in product([False, True], repeat=8):
        one, other = np.where(swaps, second, first), np.where(swaps, first, second)
        scores = [f1_score(labels, preds, average="macro") for preds in (one, other)]
        differences.append(scores[1] - scores[0])
    observed = abs(differences[0])
    exact = np.mean(np.abs(differences) >= observed - 1e-12)
    found = paired(first, second, labels, num_resamples=NUM_RESAMPLES)
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_the_same_input_gives_the_same_result_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    found = paired(BAD, GOOD)
    shuffled = paired(BAD[order], GOOD[order], LABELS[order])
    assert (found.low, found.high, found.p_value) == (shuffled.low, shuffled.high, shuffled.p_value)
    mirrored = paired(GOOD, BAD)
    assert mirrored.difference == -found.difference
    assert mirrored.high < 0 < found.low


def test_groups_widen_the_interval() -> None:
    """Ten copies of 30 images say no more than the 30 images."""
    few = slice(0, 30)
    labels, first, second = (np.tile(one[few], 10) for one in (LABELS, BAD, GOOD))
    apart = paired(first, second, labels)
    together = paired(first, second, labels, groups=np.tile(np.arange(30), 10))
    assert together.standard_error > 2 * apart.standard_error


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [(0, 0, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375), (6, 6, 1.0), (0, 10, 0.001953125)],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, expected: float) -> None:
    """Twice the sum of binomial coefficients, over 2 to the number of discordant images."""
    first = np.array([True] * only_first + [False] * only_second + [True] * 7)
    second = np.array([False] * only_first + [True] * only_second + [True] * 7)
    assert mcnemar(first, second) == (only_first, only_second, pytest.approx(expected))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert all(np.array(holm([0.01, 0.2, 0.03])) >= false_discovery_control([0.01, 0.2, 0.03]))


def test_power_is_that_of_the_normal_quantiles() -> None:
    assert pytest.approx(norm.ppf(0.975) + norm.ppf(0.8), abs=1e-6) == DETECTABLE
    found = paired(SIMILAR, GOOD)
    needed = found.needed(300)
    assert needed is not None
    assert found.detectable * (300 / needed) ** 0.5 == pytest.approx(abs(found.difference), rel=0.01)
    assert paired(GOOD, GOOD).needed(300) is None


def test_verdicts() -> None:
    good, similar, bad = side("good", GOOD), side("similar", SIMILAR), side("bad", BAD)
    assert compare(bad, good).verdict == "better"
    assert compare(good, bad).verdict == "worse"
    near = compare(good, similar)
    assert near.verdict == "indistinguishable"
    assert "similar and good are not distinguishable with these 300 images" in near.sentence
    assert "images would be needed to tell" in near.sentence
    assert "They predict the same for every image" in compare(good, good).sentence


def test_few_flips_are_not_a_verdict() -> None:
    """The percentile interval alone would call four flips in one direction better."""
    fewer = LABELS.copy()
    fewer[:4] = (LABELS[:4] + 1) % 3
    found = compare(side("a", fewer), side("b", LABELS))
    assert found.only_right == (0, 4)
    assert found.mcnemar_p == 0.125
    assert found.paired.low > 0
    assert found.verdict == "indistinguishable"
    assert "too few images differ" in found.remarks[-1]


def test_false_alarms_are_rare_without_a_difference() -> None:
    alarms = 0
    for seed in range(100):
        first, second = (guesses(0.1, 1_000 + 2 * seed + add) for add in (0, 1))
        found = paired(first, second, num_resamples=500)
        alarms += found.p_value <= 0.05 and found.low * found.high > 0
    assert alarms <= 10  # 5 are expected at most; 11 or more happen in one of 90 such tests


def test_other_test_sets_are_refused_with_counts() -> None:
    paths = [f"{index}.png" for index in range(300)]
    other = [*paths[10:], *(f"new {index}.png" for index in range(10))]
    order = np.arange(300)[10:].tolist() + list(range(10))
    with pytest.raises(UserError, match="290 images in common, 10 only in a, 10 only in b"):
        match(side("a", GOOD), side("b", GOOD[order], LABELS[order], other))
    with pytest.raises(UserError, match="299 images in common, 1 with other labels"):
        match(side("a", GOOD), side("b", GOOD, np.where(np.arange(300) == 7, (LABELS + 1) % 3, LABELS)))


def test_common_images_are_compared_on_request() -> None:
    paths = [f"{index}.png" for index in range(300)]
    first, second = side("a", BAD), side("b", GOOD[10:], LABELS[10:], paths[10:])
    with pytest.raises(UserError, match="290 images in common, 10 only in a; --common"):
        match(first, second)
    found = compare(first, second, common=True)
    assert found.num_images == 290
    assert found.paired.scores[0] == pytest.approx(f1_score(LABELS[10:], BAD[10:], average="macro"))
    assert "excluded: 10 only in a" in found.remarks[0]
    with pytest.raises(UserError, match="nothing to compare"):
        match(first, side("b", GOOD, LABELS, [f"other {path}" for path in paths]), common=True)


def test_order_does_not_matter_but_labels_do() -> None:
    order = np.random.default_rng(1).permutation(300)
    paths = [f"{index}.png" for index in order]
    shuffled = side("b", GOOD[order], LABELS[order], paths)
    found = compare(side("a", BAD), shuffled)
    assert found.paired.scores[1] == pytest.approx(f1_score(LABELS, GOOD, average="macro"))
    with pytest.raises(UserError, match="0 images in common, 300 with other labels"):
        match(side("a", BAD), side("b", GOOD, (LABELS + 1) % 3))


def test_other_contents_under_the_same_path_are_refused() -> None:
    def manifest(digest: str) -> bytes:
        rows = [
            {
                "path": f"{index}.png",
                "split": "test",
                "group": None,
                "duplicate_of": None,
                "file_sha256": digest if index == 3 else "same",
            }
            for index in range(300)
        ]
        written = io.BytesIO()
        schema = pa.schema(
            [(name, pa.string()) for name in ("path", "split", "group", "duplicate_of", "file_sha256")]
        )
        pq.write_table(pa.Table.from_pylist(rows, schema), written)
        return written.getvalue()

    def with_data(digest: str, of_file: str) -> Side:
        return side("a", GOOD, data_digest=digest, read_manifest=lambda: manifest(of_file))

    old = with_data("1" * 64, "old")
    assert match(old, with_data("1" * 36, "old")).remarks == []
    assert (
        match(old, with_data("2" * 64, "old")).remarks == []
    )  # of another size, or with more to train on
    with pytest.raises(UserError, match="299 images in common, 1 with other contents"):
        match(old, with_data("2" * 64, "new"))
    assert "contents" in match(old, side("b", GOOD)).remarks[0]


def test_other_classes_are_refused_with_names() -> None:
    predictions, metrics = files_of(GOOD)
    names = json.loads(metrics)
    names["test"]["per_class"].reverse()
    parsed = Predictions.parse(predictions, json.dumps(names).encode(), "b")
    other = Side("b", Predictions(**{**parsed.__dict__, "class_names": ("dog", "cat", "bird")}))
    with pytest.raises(UserError, match="only b has bird"):
        match(side("a", GOOD), other)


def test_several_labels() -> None:
    random = np.random.default_rng(0)
    targets = random.random((200, 3)) < 0.4
    preds = [targets ^ (random.random((200, 3)) < wrong) for wrong in (0.3, 0.02)]

    def several(name: str, preds: NDArray[np.bool_]) -> Side:
        def named(rows: NDArray[np.bool_]) -> list[list[str]]:
            return [[NAMES[index] for index in np.flatnonzero(row)] for row in rows]

        table = pa.table(
            {
                "path": [f"{index}" for index in range(200)],
                "labels": named(targets),
                "preds": named(preds),
                "probabilities": list(np.where(preds, 0.9, 0.1)),
            }
        )
        written = io.BytesIO()
        pq.write_table(table, written)
        metrics = {"test": {"exact_match": 0.5, "per_class": [{"class": name} for name in NAMES]}}
        return Side(name, Predictions.parse(written.getvalue(), json.dumps(metrics).encode(), name))

    found = compare(several("a", preds[0]), several("b", preds[1]))
    assert found.verdict == "better"
    expected = [f1_score(targets, one, average="macro") for one in preds]
    assert found.paired.scores == pytest.approx(expected, abs=1e-12)
    exact = [(one == targets).all(axis=1) for one in preds]
    assert found.only_right == (int((exact[0] & ~exact[1]).sum()), int((exact[1] & ~exact[0]).sum()))
    with pytest.raises(UserError, match="several labels"):
        match(several("a", preds[0]), side("b", GOOD))


def test_names_are_escaped_in_markdown() -> None:
    text = markdown(compare(side("a|b", BAD), side("<i>", GOOD)))
    assert "a\\|b" in text
    assert "&lt;i&gt;" in text
    assert "<b>" not in text


def as_json(*arguments: str) -> dict[str, Any]:
    code, output = run(*arguments, "--json")
    assert code == 0, output
    found: dict[str, Any] = json.loads(output)
    return found


def test_revisions_and_the_workspace(two_commits: Path) -> None:
    found = as_json("bad")
    assert (found["verdict"], found["n"], found["second"]) == ("better", 300, "workspace")
    assert found["low"] <= found["difference"] <= found["high"]
    assert as_json("workspace", "rev:bad")["verdict"] == "worse"
    assert as_json("main", "good")["verdict"] == "indistinguishable"
    code, output = run("bad", "--html", "page.html")
    assert code == 0
    assert "workspace is better than commit" in output
    page = Path("page.html").read_text()
    assert "&lt;b&gt;|owl" in page
    assert "<b>|owl" not in page


def test_unknown_names_are_answered_with_kinds_and_near_ones(two_commits: Path) -> None:
    code, output = run("mian")
    assert code == 2
    for part in ("mian: not known", "a DVC experiment (exp:NAME)", "did you mean main?"):
        assert part in output
    assert "exp:main: not a DVC experiment" in run("exp:main")[1]
    assert "there is no MLflow yet" in run("run:x")[1]
    assert "no model is registered" in run("champion")[1]


def test_predictions_that_are_gone_are_named_with_the_remedy(two_commits: Path) -> None:
    git("rm", "--quiet", "--cached", f"{PREDICTIONS}")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "gone")
    PREDICTIONS.write_bytes(b"other")
    code, output = run("main", "bad")
    assert code == 2
    assert "not in the folder, DVC's cache or git" in output
    assert "dvc fetch --all-commits" in output
    code, output = run("bad")
    assert (code, "workspace: predictions.parquet or metrics.json is damaged" in output) == (2, True)
    PREDICTIONS.unlink()
    assert "dvc repro evaluate" in run("bad")[1]


def write_export(folder: Path) -> None:
    """Writes summary.txt and an ONNX model that averages each channel."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["means"]),
        helper.make_node("Flatten", ["means"], ["probabilities"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 3, 8, 8])
    found = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "means", [images], [found])
    (folder / "export").mkdir()
    file = folder / "export/model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    values = {"class_names": list(NAMES), "channels": 3, "input_size": [8, 8], "resize": "pad"}
    (folder / "export/model.json").write_text(
        json.dumps(describe_export(values, folder / "export", [file]))
    )
    (folder / "reports/train/summary.txt").write_text("1,234 parameters, 5,678 multiply-adds an image\n")


def test_costs_are_those_of_the_compared_models_or_not_said(two_commits: Path) -> None:
    write_export(two_commits)
    write_lock(two_commits)
    git("add", "--all")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "exported")
    found = as_json("main", "workspace", "--latency")
    assert found["parameters"] == [1234, 1234]
    latency = found["latency"]
    for median, low, high in (*latency["milliseconds"], latency["ratio"]):
        assert 0 < low <= median <= high
    assert latency["rounds"] >= 20
    assert "one image (ms)" in run("main", "workspace", "--latency")[1]
    without = as_json("main", "workspace")
    assert without.keys() == found.keys() - {"latency"}
    missing = as_json("bad", "workspace", "--latency")
    assert missing["parameters"] == [None, 1234]
    assert "latency" not in missing
    assert any(
        "not measured: commit" in remark and "dvc.lock has no result of export" in remark
        for remark in missing["remarks"]
    )
    # the negative twin: a model that was trained after the export
    MODEL.write_text("other")
    stale = as_json("main", "workspace", "--latency")
    assert stale["parameters"] == [1234, None]
    assert "latency" not in stale
    assert "export/model.json: belongs to another model" in stale["remarks"][-1]


@pytest.mark.slow
def test_runs_are_compared_by_the_files_in_mlflow(two_commits: Path) -> None:
    store = new_store(two_commits, "darkroom")
    client, ids = store.client, []
    for name, preds in (("bad run", BAD), ("good run", GOOD)):
        run_id = client.create_run(store.experiment.experiment_id, run_name=name).info.run_id
        for path, content in zip((PREDICTIONS, METRICS), files_of(preds), strict=True):
            copy = two_commits / "scratch" / path.name
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(content)
            client.log_artifact(run_id, f"{copy}", path.parent.as_posix())
        ids.append(run_id)
    write_export(two_commits)
    client.log_artifacts(ids[1], "reports/train", "reports/train")
    tags = {"mlflow.parentRunId": ids[1]}
    below = client.create_run(store.experiment.experiment_id, run_name="export", tags=tags).info.run_id
    client.log_artifacts(below, "export", "export")
    assert as_json(ids[1], ids[1], "--latency")["latency"]["rounds"] >= 20
    found = as_json(ids[0], "run:good run", "--latency")
    assert (found["verdict"], found["parameters"]) == ("better", [None, 1234])
    assert "export/model.json: MLflow does not have this file" in found["remarks"][-1]
    assert as_json(ids[1], ids[0])["verdict"] == "worse"
    assert "did you mean 'good run'" in run("god run")[1] or "did you mean good run" in run("god run")[1]
    assert "MLflow has no such run" in run("run:other")[1]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")
def test_reading_predictions_starts_no_threads_that_could_outlive_the_interpreter() -> None:
    """A process that ended while Arrow's threads were starting was aborted by C++."""
    code = """
import os, sys
import pyarrow as pa, pyarrow.parquet as pq
from darkroom.comparison.predictions import read_parquet
content = sys.stdin.buffer.read()
counts = [len(os.listdir("/proc/self/task"))]
for read in (read_parquet, lambda content: pq.read_table(pa.BufferReader(content))):
    assert len(read(content)) == 300
    counts.append(len(os.listdir("/proc/self/task")))
print(*counts)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=files_of(GOOD)[0], capture_output=True, check=True
    )
    before, without, with_threads = map(int, done.stdout.split())
    assert before == without < with_threads

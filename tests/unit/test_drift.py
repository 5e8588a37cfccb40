"""`darkroom drift` finds what has changed in predictions, and rarely what has not."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from scipy.stats import hypergeom

from darkroom.cli import main
from darkroom.comparison.drift import Sample, find_drift, newcombe

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
NAMES = np.array(["cat", "dog", "owl", "007"])


def draw(
    random: np.random.Generator,
    num: int,
    shares: NDArray[np.float64] = SHARES,
    unsure: float = 1,
    strange: float = 0,
) -> Sample:
    """Predictions as a model makes them: a class each, a confidence, an unfamiliarity."""
    classes = Counter(random.choice(NAMES, num, p=shares).tolist())
    numbers = {
        "confidence": random.beta(8, unsure, num),
        "unfamiliarity": random.gamma(9, 0.08, num) + strange,
    }
    return Sample(classes, classes, numbers)


@pytest.mark.slow
def test_without_a_change_the_rate_of_alarms_is_alpha() -> None:
    random = np.random.default_rng(0)
    alarms = sum(bool(find_drift(draw(random, 300), draw(random, 200)).changed) for _ in range(600))
    assert 0.02 < alarms / 600 < 0.08  # 0.05 and 3.3 standard errors


CHANGES = {
    "classes": {"shares": np.array([0.4, 0.15, 0.2, 0.25])},
    "confidence": {"unsure": 2},
    "unfamiliarity": {"strange": 0.15},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_and_named(name: str) -> None:
    random = np.random.default_rng(1)
    found = Counter[str]()
    for _ in range(20):
        drift = find_drift(draw(random, 300), draw(random, 300, **CHANGES[name]))
        found.update(change.name for change in drift.changed)
        if name == "classes" and drift.moved:
            assert {one.name for one in drift.moved} & {"dog", "007"}
    assert found[name] >= 19
    assert all(found[other] <= 3 for other in CHANGES if other != name)


def test_newcombe_has_the_interval_of_his_paper() -> None:
    """Newcombe (1998), table II: 56 of 70 against 48 of 80, method 10."""
    low, high = newcombe(np.array([48 / 80, 56 / 70]), np.array([80.0, 70.0]))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def sample(counts: dict[str, int], *numbers: list[float]) -> Sample:
    names = ("confidence", "unfamiliarity")
    return Sample(counts, counts, {n: np.array(v) for n, v in zip(names, numbers, strict=False)})


def test_the_p_value_of_a_class_is_that_of_fisher() -> None:
    drift = find_drift(sample({"a": 30, "b": 20}), sample({"a": 10, "b": 30}))
    table = hypergeom(90, 40, 50)
    chances = table.pmf(np.arange(51))
    expected = chances[chances <= table.pmf(30) * (1 + 1e-9)].sum()
    assert [one.p_value for one in drift.classes] == pytest.approx([2 * expected] * 2)  # two classes
    by_name = {one.name: one for one in drift.classes}
    assert by_name["a"].shares == (0.6, 0.25)
    low, high = by_name["a"].interval
    assert by_name["a"].difference == pytest.approx(-0.35)
    assert low < -0.35 < high < 0


def test_a_class_that_is_new_and_one_that_is_gone_are_named() -> None:
    drift = find_drift(sample({"a": 50, "gone": 20}), sample({"a": 50, "new": 20}))
    assert {one.name: np.sign(one.difference) for one in drift.moved} == {"gone": -1, "new": 1}


def test_small_and_constant_samples_are_no_drift() -> None:
    one = sample({"a": 1}, [1.0], [0.5])
    assert not find_drift(one, one).changed
    same = sample({"a": 9}, [1.0] * 9, [0.5] * 9)
    assert not find_drift(same, same).changed
    assert find_drift(sample({"a": 900}), sample({"b": 1})).changes[0].p_value < 0.01


def test_the_same_input_gives_the_same_result() -> None:
    random = np.random.default_rng(2)
    first, second = draw(random, 30), draw(random, 9)
    results = [find_drift(first, second).to_json() for _ in range(2)]
    assert results[0] == results[1] != find_drift(second, first).to_json()


# the command


def drift(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["drift", *map(str, arguments)], catch_exceptions=False)


def write(path: Path, num: int, seed: int, shares: NDArray[np.float64] = SHARES) -> Path:
    """Writes predictions.parquet as evaluate does, and a CSV and a Parquet as predict does."""
    random = np.random.default_rng(seed)
    classes = random.choice(NAMES, num, p=shares)
    confidence = random.beta(8, 1e-3, num).astype(np.float32)  # nearly all are almost 1
    unfamiliarity = random.gamma(9, 0.08, num).astype(np.float32)
    path.mkdir()
    paths = [f"{index}.png" for index in range(num)]
    table = {"path": paths, "label": classes[::-1], "pred": classes, "correct": [True] * num}
    columns = {**table, "probability": confidence, "unfamiliarity": unfamiliarity}
    pq.write_table(pa.table(columns), path / "predictions.parquet")
    lines = ["path,class,probability,unfamiliarity,unfamiliar"] + [
        f'"a\n{index}.png",{name},{p:.6f},{u:.4f},{"true" if u > 1 else "false"}'
        for index, (name, p, u) in enumerate(zip(classes, confidence, unfamiliarity, strict=True))
    ]
    (path / "predict.csv").write_text("\n".join(lines) + "\n")
    written = {"class": classes, "probability": np.round(confidence.astype(float), 6)}
    rounded = np.round(unfamiliarity.astype(float), 4)
    pq.write_table(
        pa.table({"path": paths, **written, "unfamiliarity": rounded}), path / "predict.parquet"
    )
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    write(folder / "reference", 400, 0)
    write(folder / "same", 300, 1)
    write(folder / "other", 300, 2, np.array([0.4, 0.15, 0.2, 0.25]))
    return folder


FILES = ("predictions.parquet", "predict.csv", "predict.parquet")


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_table_gives_the_same_answer(tables: Path, name: str) -> None:
    whole = drift(tables / "reference/predictions.parquet", tables / "other/predict.csv", "--json")
    assert whole.exit_code == 10
    result = drift(tables / "reference" / name, tables / "other/predict.csv", "--json")
    answer, expected = json.loads(result.stdout), json.loads(whole.stdout)
    assert answer["classes"] == expected["classes"]
    assert [one["distance"] for one in answer["tests"]] == pytest.approx(
        [one["distance"] for one in expected["tests"]]
    )
    assert {one["name"] for one in answer["classes"] if one["moved"]} == {"dog", "007"}
    assert not drift(tables / "reference" / name, tables / "same/predict.csv").exit_code
    # the same predictions, rounded by predict or not
    same = json.loads(drift(tables / "same" / name, tables / "same/predict.csv", "--json").stdout)
    assert max(one["distance"] for one in same["tests"]) < 0.01
    assert not same["drift"]


def test_it_says_what_has_changed(tables: Path) -> None:
    result = drift(tables / "reference/predict.csv", tables / "other/predict.csv")
    assert result.exit_code == 10
    assert "drift in classes of 300 predictions, against 400 (dog -" in result.stdout
    assert "points, 007 +" in result.stdout
    result = drift(tables / "reference/predict.csv", tables / "same/predict.csv")
    assert (result.exit_code, "no drift is shown" in result.stdout) == (0, True)
    strict = drift(tables / "reference/predict.csv", tables / "other/predict.csv", "--alpha", "1e-20")
    assert strict.exit_code == 0


def test_labels_are_counted_one_by_one(tmp_path: Path) -> None:
    """Several labels per image, of predict and of evaluate."""
    before = ["a|b"] * 60 + ["a"] * 30 + [""] * 10
    after = ["b"] * 60 + ["a"] * 30 + [""] * 10
    lines = "".join(f"{index}.png,{labels},\n" for index, labels in enumerate(after))
    (tmp_path / "new.csv").write_text(f"path,labels,probabilities\n{lines}")
    lists = [labels.split("|") if labels else [] for labels in before]
    pq.write_table(pa.table({"path": ["x"] * 100, "preds": lists}), tmp_path / "old.parquet")
    result = drift(tmp_path / "old.parquet", tmp_path / "new.csv", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 10
    shares = {one["name"]: (one["shares"], one["moved"]) for one in answer["classes"]}
    assert shares == {"a": ([0.9, 0.3], True), "b": ([0.6, 0.6], False)}


def test_a_number_that_only_one_table_has_is_named(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("path,class,probability\n" + "x.png,cat,0.9\n" * 5)
    result = drift(tables / "reference/predict.csv", tmp_path / "new.csv")
    assert "unfamiliarity is not tested: only" in result.stderr


def test_of_a_table_of_rows_the_predicted_class_counts(tmp_path: Path) -> None:
    rows = "".join(f"x{index},cat,0.5\n" for index in range(50))
    (tmp_path / "rows.csv").write_text(f"class,predicted_class,predicted_probability\n{rows}")
    (tmp_path / "images.csv").write_text("class,probability\n" + "cat,0.5\n" * 50)
    answer = json.loads(drift(tmp_path / "rows.csv", tmp_path / "images.csv", "--json").stdout)
    assert [one["name"] for one in answer["classes"]] == ["cat"]
    assert not answer["drift"]


BAD = {
    "absent": (None, "there is no such file"),
    "empty": ("", "has no predicted classes, but the columns none"),
    "no row": ("path,class,probability\n", "has no predictions"),
    "other columns": ("a,b\n1,2\n", "has no predicted classes, but the columns a, b"),
    "a mask": ("path,mask,road\nx,y,0.5\n", "tables of masks are not supported"),
    "not a number": ("class,probability\ncat,high\n", "not a table of predictions"),
    "no number": ("class,probability\ncat,\n", "probability is not a number in 1 row"),
    "nan": ("class,probability\ncat,nan\n", "probability is not a number in 1 row"),
    "binary": ("class\0\xff", "not a table of predictions"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_another_file_is_refused_by_name(tables: Path, tmp_path: Path, kind: str, ending: str) -> None:
    content, message = BAD[kind]
    path = tmp_path / f"new{ending}"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    result = drift(tables / "reference/predict.csv", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{path}: ")
    assert message in result.stderr or ending == ".parquet"
    assert drift(path, tables / "reference/predict.csv").exit_code == 2

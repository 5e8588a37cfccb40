"""Trainings on parts of the rows: statistics of these alone, against scikit-learn; what commands say."""

import csv
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from preparation import PARAMS, prepare
from ruamel.yaml import YAML
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from darkroom.catalogue.counting import blank_spec, make_without_weights
from darkroom.cli import main
from darkroom.comparison.seed_noise import SEEDS
from darkroom.config.train import TrainConfig
from darkroom.models.summary import input_text, summary_text
from darkroom.paths import MANIFEST
from darkroom.recipes import use_recipe
from darkroom.retraining.folds import assign_folds
from darkroom.retraining.groups import load_groups
from darkroom.retraining.inputs.row import RecodedRows
from darkroom.retraining.parts import LabelledImages, Part
from darkroom.retraining.trainings import Training, of_folds, probabilities_of_each
from darkroom.runtime import load_runtime
from darkroom.tabular.encoding import UNKNOWN, encode, fit_encoding
from darkroom.tabular.kinds import Column
from darkroom.tabular.refitting import recode, refit
from darkroom.tabular.table import Table, read_table

COLUMNS = [
    Column("age", "number"),
    Column("city", "category"),
    Column("member", "boolean"),
    Column("joined", "date"),
]
DECAY = 0.02
ROOT = Path(__file__).parents[2]


def people(num_rows: int = 60) -> Table:
    """Rows with missing cells, of which the first half lacks a city and has one month of joining."""
    random = np.random.default_rng(0)
    lines = ["age,city,member,joined,label"]
    for row in range(num_rows):
        is_late = row >= num_rows // 2
        age = "" if row % 7 == 0 else f"{random.normal(40 + 20 * is_late, 10):.3f}"
        city = random.choice(["Bonn", "Oslo", "Rome"] if is_late else ["Bonn", "Oslo"])
        day = f"2026-{random.integers(1, 13) if is_late else 5:02d}-{random.integers(1, 29):02d}"
        member = random.choice(["yes", "no", ""])
        lines.append(f"{age},{city},{member},{day},{random.choice(['a', 'b'])}")
    return read_table("rows.csv", "\n".join(lines).encode(), {"data.label_column": "label"})


def test_statistics_of_a_part_are_those_of_a_new_fit_to_its_rows() -> None:
    table = people()
    whole = fit_encoding(table, COLUMNS, np.ones(len(table), np.bool_))
    values = np.column_stack(encode(whole, table))
    for rows in (np.arange(30), np.arange(30, 60), np.arange(0, 60, 5)):
        is_part = np.isin(np.arange(len(table)), rows)
        expected = fit_encoding(table, COLUMNS, is_part)
        found = refit(whole, values[rows])
        assert found == expected
        # rows of the other part, with what that fit does not know, are encoded as it encodes them
        np.testing.assert_array_equal(
            recode(values, whole, found), np.column_stack(encode(expected, table))
        )
    first = refit(whole, values[:30])
    assert "Rome" not in first.categories[0].values
    assert "joined.month" in whole.names
    assert "joined.month" not in first.names
    cities = recode(values, whole, first)[:, first.names.index("city")]
    assert (cities[:30] != UNKNOWN).all()
    assert (cities == UNKNOWN).any()
    assert refit(whole, values[:31]) != first


def test_a_network_of_rows_is_summarised_without_weights() -> None:
    encoding = fit_encoding(people(), COLUMNS, np.ones(60, np.bool_))
    for depth, inputs in ((0, 5 + 3 + 3), (1, None)):
        spec = blank_spec(
            name="mlp",
            width=8,
            depth=depth,
            input_size=(1, 1),
            channels=encoding.size,
            num_classes=3,
            encoding=encoding,
        )
        text = summary_text(make_without_weights(spec), spec)
        assert f"{inputs * 3 + 3:,} parameters" in text if inputs else "Embedding" in text
        assert "multiply-adds a row" in text
        assert input_text(spec) == "rows of 7 values"


def prepare_tumours(folder: Path, planted: bool = False) -> Path:
    """breast_cancer after prepare; a clear case of a malignant tumour may be labelled benign."""
    frame = load_breast_cancer(as_frame=True).frame
    labels = np.where(frame.pop("target") == 1, "benign", "malignant")
    assert labels[0] == "malignant"
    labels[0] = "benign" if planted else labels[0]
    (folder / "table").mkdir()
    frame.assign(label=labels).to_csv(folder / "table/rows.csv", index=False)
    prepare(folder / "table", folder / "data", table="rows.csv", image_size="auto")
    (folder / "data/dataset.json").rename(folder / "data/prepared/dataset.json")
    (folder / "data/manifest.parquet").rename(folder / "data/prepared/manifest.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_tumours(tmp_path_factory.mktemp("rows"))


def planned(images: LabelledImages) -> list[Training]:
    """Two folds with a logistic regression that is trained until it no longer changes."""
    base = TrainConfig.of(PARAMS)
    model = base.model.model_copy(update={"name": "mlp", "depth": 0, "dropout": 0.0})
    changes = {"epochs": 200, "batch_size": 512, "lr": 0.5, "schedule": "constant", "ema_decay": None}
    more = {"weight_decay": DECAY, "label_smoothing": 0.0, "warmup_fraction": None}
    train = base.train.model_copy(update={**changes, **more})
    augment = base.augment.model_copy(update=dict.fromkeys(("crop_padding", "rotate", "scale"), 0))
    sections = {"model": model, "train": train, "augment": augment}
    config = base.model_copy(update={**sections, "num_threads": 1})
    groups = load_groups(MANIFEST, images.shards.paths)
    folds = assign_folds(images.target.strata(images.shards.labels), groups, 2, 0)
    return of_folds(config, images, groups, folds)


def regression(
    values: NDArray[np.float64], labels: NDArray[np.int64], part: Part, scaled_by: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The probabilities of all rows by scikit-learn, fitted to the training rows of a part.

    Two vectors of weights share the penalty, so each weight of scikit-learn's single vector has half.
    """
    scaler = StandardScaler().fit(values[scaled_by])
    train = part.train_rows
    model = LogisticRegression(C=2 / (DECAY * len(train)), tol=1e-8, max_iter=10_000)
    model.fit(scaler.transform(values[train]), labels[train])
    return np.asarray(make_pipeline(scaler, model).predict_proba(values))


@pytest.mark.slow
def test_folds_of_rows_are_those_of_a_logistic_regression_on_the_training_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    images = LabelledImages("folds")
    every = np.arange(len(images.shards))
    values, labels = images.shards.gather(every).reshape(len(every), -1), images.shards.labels
    trainings = planned(images)
    found = list(probabilities_of_each(trainings, images, load_runtime(), "folds"))
    for one, of_fold in zip(trainings, found, strict=True):
        assert one.part is not None
        expected = regression(values, labels, one.part, one.part.train_rows)[one.rows]
        np.testing.assert_allclose(of_fold, expected, atol=2e-3)
        leaking = regression(values, labels, one.part, every)[one.rows]
        assert np.abs(leaking - expected).max() > 5e-3  # which the tolerance tells apart


def test_what_is_tested_does_not_change_the_statistics(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    images = LabelledImages("folds")
    one, other = planned(images)
    assert one.part is not None
    assert other.part is not None
    tested = Part(images, one.part.train_rows, one.rows)
    assert tested.info.encoding == one.part.info.encoding != images.info.encoding
    assert other.part.info.encoding != one.part.info.encoding
    rows = tested.open("val", None)
    assert isinstance(rows, RecodedRows)
    indices = np.array([3, 1])
    again = pickle.loads(pickle.dumps(rows))
    np.testing.assert_array_equal(again.gather(indices), rows.gather(indices))
    np.testing.assert_array_equal(rows.gather(indices), images.shards.gather(one.rows[indices]))
    assert rows.digest == again.digest != Part(images, other.rows, one.rows).open("val", None).digest


COMMANDS = {
    "summary": "mlp for rows of 30 values, 2 classes",
    "folds 2": " rows ",
    "seeds 2": " rows ",
    "learning-curve --sizes 30,60": "training rows",
    "suspects --folds 2": " among 455 rows; ",
}


@pytest.mark.slow
def test_commands_that_train_again_speak_of_rows_and_find_a_planted_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepare_tumours(tmp_path, planted=True))
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    use_recipe("breast_cancer", ROOT / "recipes", Path("params.yaml"))
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["data"] |= {"fetch": [], "path": "table", "table": "rows.csv"}
    params["train"]["epochs"] = 10
    params["num_threads"] = 1
    yaml.dump(params, Path("params.yaml"))
    said = {}
    for command, phrase in COMMANDS.items():
        result = CliRunner().invoke(main, command.split())
        assert result.exit_code == 0, result.output
        said[command] = result.output
        assert phrase in result.output
    [kept] = SEEDS.iterdir()
    assert kept.read_bytes() == Path("reports/seeds/seeds.json").read_bytes()
    pages = {f"{path}": words_in(path.read_text()) for path in Path().rglob("*.html")}
    assert len(pages) == 2
    for name, text in {**said, **pages}.items():
        assert not re.search(r"\bimages?\b", text, re.IGNORECASE), (name, text)

    rows = list(csv.DictReader(Path("suspects/suspects.csv").read_text().splitlines()))
    assert rows[0]["path"] == "rows.csv:2"
    assert (rows[0]["label"], rows[0]["suggested"]) == ("benign", "malignant")
    rows[0]["new_label"], rows[1]["exclude"] = "malignant", "yes"
    with Path("edited.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    result = CliRunner().invoke(main, ["relabel", "edited.csv"])
    assert result.exit_code == 0, result.output
    assert "table/rows-relabelled.csv: 1 row excluded (1 " in result.output
    assert "  data.table: rows-relabelled.csv\n  data.split_column: split\n" in result.output
    relabelled = list(csv.DictReader(Path("table/rows-relabelled.csv").read_text().splitlines()))
    assert len(relabelled) == 568
    assert relabelled[0]["label"] == "malignant"
    assert {row["split"] for row in relabelled} == {"train", "val", "test"}


def words_in(page: str) -> str:
    """The text of a page that people read: without scripts, styles, tags and pictures."""
    return re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)

"""Rows of tables through preparation, the model, export and predict; against pandas and torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from preparation import prepare as prepare_folder
from ruamel.yaml import YAML
from support import make_spec

from darkroom.comparison.costs import costs_of
from darkroom.comparison.side import Side
from darkroom.dataset.info import DatasetInfo, load_info
from darkroom.dataset.shards import Shards
from darkroom.errors import UserError
from darkroom.export.formats import write_formats
from darkroom.export.source import Source
from darkroom.inputs import Category, Encoding, Number
from darkroom.models.classifier import probabilities_of
from darkroom.models.exported import DESCRIPTION, describe_export
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_model, save_model
from darkroom.models.spec import ModelSpec
from darkroom.params import load_params
from darkroom.prediction.decisions import Failure
from darkroom.prediction.rows import RowPredictor
from darkroom.preparation.decision import Decision
from darkroom.recipes import use_recipe
from darkroom.reporting.row_pictures import BAR, HEIGHT, draw_rows
from darkroom.reporting.tables import write_json

NUM_ROWS = 60
ROOT = Path(__file__).parents[2]


def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, NUM_ROWS).astype(float),
            "city": rng.choice(["Bonn", "Oslo", "Rome"], NUM_ROWS),
            "member": rng.choice(["yes", "no"], NUM_ROWS),
            "code": [f"p{row}" for row in range(NUM_ROWS)],
            "label": rng.choice(["buys", "leaves"], NUM_ROWS),
            "house": [f"h{row // 2}" for row in range(NUM_ROWS)],
            "weight": rng.integers(1, 4, NUM_ROWS).astype(float),
        }
    )
    frame.loc[[3, 8], "age"] = np.nan
    frame.loc[5, "label"] = None
    frame.loc[21] = frame.loc[20]  # equal rows, in all that is predicted from
    frame.loc[21, "label"] = "leaves" if frame.loc[20, "label"] == "buys" else "buys"
    return frame


def prepare(folder: Path, frame: pd.DataFrame, **data: Any) -> tuple[DatasetInfo, Decision, list[str]]:
    source = folder / "data"
    source.mkdir(parents=True)
    frame.to_csv(source / "people.csv", index=False)
    options = {"table": "people.csv", "columns": {"code": "ignored"}, **data}
    prepared = prepare_folder(source, folder, **options)
    return prepared.info, prepared.data.decision, prepared.report()


def test_a_table_becomes_shards_of_its_numbers_and_codes(tmp_path: Path) -> None:
    frame = people()
    columns = {"group_column": "house", "weight_column": "weight"}
    info, _, remarks = prepare(tmp_path, frame, **columns)
    encoding = info.encoding
    assert encoding is not None
    assert encoding.names == ["age", "city", "member"]
    assert (info.input, info.channels, info.mean) == ("row", 3, [])
    seen = []
    houses: list[set[str]] = []
    for split in ("train", "val", "test"):
        shards = Shards(tmp_path / "prepared" / split, num_classes=2)
        rows = [int(path.removeprefix("people.csv:")) - 2 for path in shards.paths]
        there = frame.loc[rows]
        values = shards.gather(np.arange(len(rows)))
        assert (values.dtype, values.shape) == (np.float64, (len(rows), 1, 1, 3))
        ages, cities, members = values.reshape(len(rows), 3).T
        np.testing.assert_array_equal(ages, there["age"])
        names = [["?", *category.values] for category in encoding.categories]
        assert [names[0][int(code)] for code in cities] == there["city"].tolist()
        truth = ["true" if member == "yes" else "false" for member in there["member"]]
        assert [names[1][int(code)] for code in members] == truth
        assert [info.class_names[label] for label in shards.labels] == there["label"].tolist()
        assert shards.weights is not None
        np.testing.assert_array_equal(shards.weights, there["weight"])
        if split == "train":
            known = there["age"].dropna()
            assert encoding.numbers[0].median == known.median()
            filled = there["age"].fillna(known.median())
            assert encoding.numbers[0].mean == pytest.approx(filled.mean(), rel=1e-14)
        seen += rows
        houses.append(set(there["house"]))
    assert sorted(seen) == [row for row in range(NUM_ROWS) if row != 5]
    assert sum(map(len, houses)) == len(set.union(*houses))
    assert any("code: set" in remark for remark in remarks)
    assert any("equal rows with different labels: 1" in remark for remark in remarks)
    assert "people.csv:7,,unlisted,no label" in (tmp_path / "problems.csv").read_text().replace('"', "")
    write_json(info.to_document(), tmp_path / "dataset.json")
    assert load_info(tmp_path / "dataset.json").encoding == encoding


def test_equal_rows_stay_together_and_a_column_that_tells_the_label_is_named(tmp_path: Path) -> None:
    frame = people().dropna(subset="label")
    frame["outcome"] = frame["label"].map({"buys": 3.5, "leaves": 7.5})
    twice = pd.concat([frame, frame], ignore_index=True)
    _, decision, remarks = prepare(tmp_path, twice, columns={"code": "ignored", "house": "ignored"})
    pairs = decision.duplicates
    assert len(pairs) >= len(frame)
    assert (decision.splits[pairs.first] == decision.splits[pairs.second]).all()
    assert [remark for remark in remarks if "column outcome alone predicts the label" in remark]


LABELS: dict[str, tuple[dict[int, Any], str]] = {
    "no label": (dict.fromkeys(range(NUM_ROWS)), "gives no row a label; its column label is empty"),
    "one class": (dict.fromkeys(range(NUM_ROWS), "buys"), "one class (buys); at least two are needed"),
    "a rare class": ({7: "steals"}, "too few rows for train, val and test: steals has 1; a class needs"),
    "names that look alike": ({7: "Buys"}, "merge_labels: {"),
}


@pytest.mark.parametrize(("changes", "message"), LABELS.values(), ids=LABELS)
def test_bad_labels_are_refused_by_name(tmp_path: Path, changes: dict[int, Any], message: str) -> None:
    frame = people().fillna({"label": "buys"})
    frame["label"] = frame["label"].astype(object)
    for row, label in changes.items():
        frame.loc[row, "label"] = label
    with pytest.raises(UserError) as refused:
        prepare(tmp_path, frame)
    assert message in str(refused.value)
    assert "image" not in str(refused.value)


BAD_TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "no such file": ({"table": "peopel.csv"}, "does not contain peopel.csv; did you mean people.csv"),
    "not a table": ({"table": "people.xlsx"}, "data.table: the suffix of people.xlsx is not one of"),
    "no such label": ({"label_column": "y"}, "data.label_column"),
    "no such group": ({"group_column": "home"}, "data.group_column"),
    "a label as a column": ({"columns": {"label": "number"}}, "'label' has another meaning already"),
    "an unknown column": ({"columns": {"agee": "number"}}, "did you mean age"),
    "ids": ({"columns": {}}, "code: 59 different texts in 60 rows"),
    "words as numbers": ({"columns": {"code": "ignored", "city": "number"}}, "'Rome' is not a number"),
    "a split that is none": ({"split_column": "city"}, "has the split 'Rome'"),
    "a weight that is none": ({"weight_column": "city"}, "has the weight 'Rome'"),
}


@pytest.mark.parametrize(("data", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_is_refused_by_name(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    frame = people().fillna({"label": "buys"})
    with pytest.raises(UserError) as refused:
        prepare(tmp_path, frame, **data)
    assert message in str(refused.value)


ENCODING = Encoding(
    columns={"age": "number", "joined": "date", "city": "category", "member": "boolean"},
    numbers=(
        Number(name="age", median=40.0, mean=41.0, std=12.0),
        Number(name="joined.days", median=19000.0, mean=19000.0, std=100.0),
    ),
    categories=(
        Category(name="city", values=("", "Bonn", "Rome")),
        Category(name="member", values=("false", "true")),
    ),
)
TABLE = """age,joined,city,member,note
44,2022-01-10,Rome,yes,a
NA,2022-02-11,Bonn,no,b
31.5,2022-03-12,Paris,no,c
x,2022-03-12,Rome,no,d
50,,,yes,e
"""
VALUES = [
    [44, 19002, 2 + 1, 2],
    [np.nan, 19034, 2, 1],
    [31.5, 19063, 0, 1],
    [50, np.nan, 1, 2],
]
"""By hand: 2022-01-10 is day 19,002 since 1970; Paris is unknown."""


def row_spec(depth: int) -> ModelSpec:
    return make_spec(
        name="mlp",
        depth=depth,
        channels=4,
        input_size=(1, 1),
        mean=(),
        std=(),
        encoding=ENCODING,
        temperature=(2.0,),
    )


@pytest.fixture(scope="module", params=[0, 2])
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, spec = tmp_path_factory.mktemp("export"), row_spec(request.param)
    torch.manual_seed(0)
    save_model(make_classifier(spec), spec, folder / "checkpoint.safetensors")
    model, loaded = load_model(folder / "checkpoint.safetensors")
    assert loaded == spec
    files = write_formats(["onnx"], folder / "checkpoint.safetensors", Source(model, loaded), folder)
    write_json(describe_export(loaded.preprocessing(), folder, files), folder / DESCRIPTION)
    return folder


@pytest.mark.slow
def test_compare_times_one_row_by_both_models(export: Path) -> None:
    def read(path: Path) -> bytes:
        if not (export / path.name).exists():
            raise UserError(f"{path}: not available")
        return (export / path.name).read_bytes()

    side = Side("a", None, read_file=read)  # type: ignore[arg-type]
    costs = costs_of(side, side, latency=True)
    assert costs.latency is not None
    assert costs.latency.num_rounds >= 20
    assert costs.latency.ratio[1] > 0
    assert not costs.not_measured


def test_predict_classifies_the_rows_of_a_csv_as_the_checkpoint_does(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (export / "rows.csv").write_text(TABLE)
    predictor = RowPredictor(export)
    table = predictor.load(export / "rows.csv")
    *outcomes, last = everything = list(predictor.predict(table))
    with monkeypatch.context() as patch:
        patch.setattr("darkroom.prediction.rows.ROWS_AT_ONCE", 2)  # the bad cell is in the second group
        for start in range(len(everything)):
            assert list(predictor.predict(table, start=start)) == everything[start:]
    bad = outcomes.pop(3)
    assert isinstance(bad, Failure)
    assert (bad.path.name, bad.reason) == ("rows.csv:5", "age: 'x' is not a number")
    model, spec = load_model(export / "checkpoint.safetensors")
    with torch.inference_mode():
        expected = probabilities_of(model(torch.tensor(VALUES, dtype=torch.float64)), spec)
    for outcome, of_row in zip([*outcomes, last], expected.tolist(), strict=True):
        assert not isinstance(outcome, Failure)
        assert outcome.classes == (spec.class_names[int(np.argmax(of_row))],)
        assert outcome.probabilities[0] == pytest.approx(max(of_row), abs=1e-6)
    assert not isinstance(last, Failure)
    assert last.cells == ("50", "", "", "yes", "e")

    (export / "one.csv").write_text("\n".join(TABLE.splitlines()[:2]))
    [alone] = predictor.predict(predictor.load(export / "one.csv"))
    assert not isinstance(alone, Failure)
    assert alone.probabilities == outcomes[0].probabilities


def test_a_table_without_a_column_of_the_model_is_refused(export: Path) -> None:
    (export / "less.csv").write_text(TABLE.replace("city", "town"))
    with pytest.raises(UserError, match=r"less.csv: lacks columns that the model takes: city"):
        RowPredictor(export).load(export / "less.csv")
    with pytest.raises(UserError, match=r"1.jpg: the model takes rows of a table"):
        RowPredictor(export).load(export / "1.jpg")


def test_rows_are_drawn_as_bars_of_standard_deviations() -> None:
    [first, second] = draw_rows(ENCODING, np.array([[77.0, np.nan, 2, 0], [41.0, 18700.0, 1, 1]]))
    assert first.shape == (HEIGHT, 4 * (BAR + 1) + 1, 1)
    ink = [(first == 70)[:, 1 + bar * (BAR + 1)].sum() for bar in range(4)]
    assert ink == [HEIGHT // 2, 0, 0, 0]  # three deviations above; missing; the middle one; unknown
    ink = [(second == 70)[:, 1 + bar * (BAR + 1)].sum() for bar in range(4)]
    assert ink[0] == 0
    assert ink[1] == HEIGHT // 2  # three below


MISTAKES = {
    "augment: {rotate: 8}": "augment.rotate: 8.0 is for images, but data.table 'rows.csv' has rows",
    "augment: {horizontal_flip: true}": "augment.horizontal_flip: True is for images",
    "prepare: {image_size: 8}": "prepare.image_size: 8 is for images",
    "prepare: {storage: encoded}": "prepare.storage: encoded is for images",
    "model: {name: cnn, depth: 2}": "model.name: cnn takes images",
    "model: {weights: models/weights/a.pth}": "model.weights: models/weights/a.pth belongs to",
    "evaluate: {tta: flip}": "evaluate.tta: flip is for images",
    "export: {formats: [onnx, onnx-int8]}": "export.formats: onnx-int8 is for images",
    'data: {label_separator: "|"}': "data.label_separator: the rows of data.table 'rows.csv' have one",
    "data: {manifest: labels.csv}": "data.manifest: 'labels.csv' is for images, but data.table",
    "data: {table: null, columns: {a: number}}": "data.columns: {'a': 'number'} are columns of",
    "data: {columns: {a: text}}": "data.columns: 'text' is not allowed; it must be {column: number",
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.items())
def test_a_parameter_for_images_is_refused_beside_a_table(
    tmp_path: Path, change: str, message: str
) -> None:
    params = tmp_path / "params.yaml"
    params.write_bytes((ROOT / "params.yaml").read_bytes())
    use_recipe("breast_cancer", ROOT / "recipes", params)
    values = YAML(typ="safe").load(params)
    values["data"] |= {"fetch": [], "path": "data/mine", "table": "rows.csv"}
    write_yaml(values, params)
    assert load_params(params).data.table == "rows.csv"
    for section, changes in YAML(typ="safe").load(change).items():
        values[section] |= changes
    write_yaml(values, params)
    with pytest.raises(UserError) as refused:
        load_params(params)
    assert message in str(refused.value)


def write_yaml(values: dict[str, Any], path: Path) -> None:
    with path.open("w") as file:
        YAML(typ="safe").dump(values, file)

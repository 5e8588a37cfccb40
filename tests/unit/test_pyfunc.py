"""The registered model as MLflow loads it: its answers are those of `predict`, its version is exact."""

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import onnx
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from packaging.requirements import Requirement
from PIL import Image
from registered import MADE, make_record, make_tested_run, new_store
from served_exports import IMAGES, draw, write_export, write_mask_export, write_row_export

from darkroom.errors import UserError
from darkroom.models.exported import describe_export, load_description
from darkroom.prediction.decisions import Failure
from darkroom.prediction.masks import class_shares
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.pyfunc.contents import REQUIREMENTS, write_code
from darkroom.prediction.rows import RowPredictor
from darkroom.reporting.tables import write_json
from darkroom.runtime import load_runtime
from darkroom.tracking.destinations import tracked
from darkroom.tracking.mlflow.logged_model import log_onnx
from darkroom.tracking.mlflow.read_back import DESCRIPTION_TAG
from darkroom.tracking.mlflow.registry import propose
from darkroom.tracking.mlflow.store import Store, as_default
from darkroom.tracking.records import Model

KINDS = {"images": write_export, "masks": write_mask_export, "rows": write_row_export}


@pytest.fixture(scope="module", autouse=True)
def same_path() -> Iterator[None]:
    """MLflow puts the code of a model in front of all other code, where processes would find it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        yield


@pytest.fixture(scope="module")
def root(empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pyfunc")
    shutil.copy(empty_mlflow, root)
    return root


@pytest.fixture(scope="module")
def exports(root: Path) -> dict[str, Path]:
    return {kind: write(root / kind) for kind, write in KINDS.items()}


@pytest.fixture(scope="module")
def sources(root: Path, exports: Mapping[str, Path]) -> dict[str, str]:
    """The folder of each model, as MLflow keeps it."""
    store = new_store(root, "served by MLflow")
    return {kind: folder_of(store, export(store, folder)) for kind, folder in exports.items()}


@pytest.fixture(scope="module")
def models(sources: Mapping[str, str]) -> dict[str, mlflow.pyfunc.PyFuncModel]:
    return {kind: mlflow.pyfunc.load_model(source) for kind, source in sources.items()}


def record_of(folder: Path, described: bool = True) -> Model:
    """What a journal keeps of an export."""
    _, record = make_record(folder.parent, 1.0)
    _, digests = load_description(folder)
    digest = digests["model.onnx"]
    file = record.file.model_copy(update={"sha256": digest.sha256, "size": digest.size})
    return record.model_copy(update={"file": file, "tags": {MADE: digest.sha256}})


def export(store: Store, folder: Path) -> Any:
    """Registers an export; returns its logged model."""
    found = store.client.search_runs([store.experiment.experiment_id], f"tags.of = '{folder}'")
    run_id = found[0].info.run_id if found else make_tested_run(store)
    store.client.set_tag(run_id, "of", f"{folder}")
    record = record_of(folder)
    model = log_onnx(store, run_id, folder / "model.onnx", record, folder / "model.json")
    propose(store, model, record.timestamp_ms)
    return model


def folder_of(store: Store, model: Any) -> str:
    return model.artifact_location.removeprefix("file://")


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


GOOD = to_base64(draw(0))


def without_name(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "file"}


def test_images_have_the_bits_of_predict_however_they_are_given(
    models: Mapping[str, Any], exports: Mapping[str, Path], tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in IMAGES]
    for path in paths:
        path.write_bytes(IMAGES[path.name])
    expected = list(Predictor(exports["images"]).predict(paths, 5))
    model = models["images"]
    texts = [to_base64(content) for content in IMAGES.values()]
    asked: list[Any] = [
        {"image": texts},
        {"image": [f"data:image/png;base64,{text}" for text in texts]},
        pd.DataFrame({"image": list(IMAGES.values())}),
        pd.DataFrame({"path": list(map(str, paths))}),
        {"path": list(map(str, paths))},
        pd.DataFrame({"path": paths, "image": None}),
        [{"image": text} for text in texts],
    ]
    for given in asked:
        answers = model.predict(given)
        assert len(answers) == len(expected) == len(IMAGES)
        for answer, outcome in zip(answers, expected, strict=True):
            assert not isinstance(outcome, Failure)
            assert [one["class"] for one in answer["top"]] == list(outcome.classes)
            assert [one["probability"] for one in answer["top"]] == list(outcome.probabilities)
            assert answer["unfamiliarity"] == outcome.unfamiliarity
            assert answer["classes"] == [outcome.classes[0]]
    alone = [model.predict({"image": [text]})[0] for text in texts]
    assert list(map(without_name, alone)) == list(map(without_name, model.predict({"image": texts})))
    assert [answer["file"] for answer in model.predict({"path": [f"{paths[0]}"]})] == [f"{paths[0]}"]
    other = model.predict({"image": [to_base64(draw(99))]})
    assert other[0]["top"] != alone[0]["top"]


@pytest.mark.parametrize("shape", [(9, 11, 3), (9, 11), (9, 11, 1)])
def test_pixels_are_what_their_png_would_be(models: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(shape[:2]) if shape[2:] == (1,) else pixels).save(file, "PNG")
    expected = models["images"].predict({"image": [to_base64(file.getvalue())]})
    for given in (pixels, pixels.tolist(), pixels.astype(np.int64)):
        assert models["images"].predict({"image": [given]}) == expected
    assert models["images"].predict({"image": [255 - pixels]}) != expected


def served(model: Any, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What MLflow's server answers, without the server."""
    schema = model.metadata.get_input_schema()
    answer = invocations(json.dumps(request), "application/json", model, schema)
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


def test_each_form_of_a_request_has_the_same_answer(models: Mapping[str, Any]) -> None:
    texts = [GOOD, to_base64(draw(1))]
    expected = models["images"].predict({"image": texts})
    for request in (
        {"inputs": {"image": texts}},
        {"inputs": [{"image": text} for text in texts]},
        {"instances": [{"image": text} for text in texts]},
        {"dataframe_records": [{"image": text} for text in texts]},
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
    ):
        assert served(models["images"], request) == expected
    rows = [{"age": "44", "colour": "red"}, {"age": "45", "colour": "blue"}]
    expected = models["rows"].predict(pd.DataFrame(rows))
    columns = {"age": ["44", "45"], "colour": ["red", "blue"]}
    for request in (
        {"inputs": columns},
        {"inputs": {**columns, "age": [44, 45]}},
        {"inputs": rows},
        {"dataframe_records": rows},
    ):
        assert served(models["rows"], request) == expected


def test_masks_are_those_of_predict(models: Mapping[str, Any], exports: Mapping[str, Path]) -> None:
    content = draw(1, (40, 25))
    expected = Predictor(exports["masks"], masks=True).mask_of(content)
    [found] = models["masks"].predict({"image": [to_base64(content)]}, params={"top_k": 2})
    mask = np.array(Image.open(io.BytesIO(base64.b64decode(found["mask_png"]))))
    assert np.array_equal(mask, expected)
    assert (found["width"], found["height"], len(found["shares"])) == (40, 25, 2)
    assert found["shares"][0]["share"] == class_shares(expected, 3).max()


def test_rows_have_the_answers_of_predict(
    models: Mapping[str, Any], exports: Mapping[str, Path]
) -> None:
    predictor = RowPredictor(exports["rows"])
    table = predictor.parse("a.csv", b"age,colour\n44,red\n,blue\n61.5,green\n")
    expected = list(predictor.predict(table, 3))
    ages = [44, None, 61.5]
    given = pd.DataFrame({"age": ages, "colour": ["red", "blue", "green"], "other": [1, 2, 3]})
    for rows in (given, given.to_dict("records")):
        answers = models["rows"].predict(rows)
        assert [answer["row"] for answer in answers] == [1, 2, 3]
        for answer, outcome in zip(answers, expected, strict=True):
            assert not isinstance(outcome, Failure)
            assert [one["probability"] for one in answer["top"]] == list(outcome.probabilities)
    whole = pd.DataFrame({"age": [44, 45], "colour": ["red", "red"]})  # int64
    first, second = models["rows"].predict(whole)
    assert first["top"] == answers[0]["top"] != second["top"]


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("images", {"image": ["!!"]}, "image 1: not base64"),
        ("images", {"image": ["aGVsbG8="]}, "image 1: not an image of a known format"),
        ("images", {"image": [to_base64(draw(0)[:-30])]}, "image 1: the bytes end too early"),
        ("images", {"path": ["/no/such.png"]}, "/no/such.png: No such file"),
        ("images", {"path": ["/"]}, "/: Is a directory"),
        ("images", {"path": ["a\0b"]}, "null"),
        ("images", {"path": [5]}, "int is not a path"),
        ("images", {"picture": [GOOD]}, "the request has no images"),
        ("images", pd.DataFrame({"image": []}), "the request has no images"),
        ("images", {"image": []}, "image 1: nothing was sent"),
        ("images", [], "the request has no images"),
        ("images", {"image": [{"data": GOOD}]}, "dict is not an image"),
        ("images", {"image": [[0.5, 0.5]]}, "an array of 2 is not an image"),
        ("images", {"image": [[[0.5, 0.5]]]}, "not integers from 0 to 255"),
        ("images", {"image": [[[256, 0]]]}, "not integers from 0 to 255"),
        ("images", {"image": [[[1, 2], [3]]]}, "different lengths"),
        ("masks", {"image": ["!!"]}, "image 1: not base64"),
        ("rows", {"age": [4]}, "missing inputs ['colour']"),
        ("rows", [], "missing inputs"),
        ("rows", pd.DataFrame({"age": [], "colour": []}), "no rows"),
        ("rows", {"age": ["1"], "colour": ["red", "red"]}, "the columns have different lengths"),
        ("rows", {"age": ["old"], "colour": ["red"]}, "row 1: age: 'old' is not a number"),
    ],
)
def test_bad_input_is_explained(models: Mapping[str, Any], kind: str, given: Any, words: str) -> None:
    with pytest.raises(MlflowException) as refusal:
        models[kind].predict(given)
    assert words in f"{refusal.value}"
    assert refusal.value.get_http_status_code() == 400


def test_a_bad_image_does_not_stop_the_others(models: Mapping[str, Any]) -> None:
    whole = models["images"].predict({"image": [GOOD, GOOD]})
    bad, good = models["images"].predict({"image": ["!!", GOOD]})
    assert set(bad) == {"error", "what_to_do"}
    assert good == whole[1]
    bad, good = models["rows"].predict(pd.DataFrame({"age": ["old", "4"], "colour": ["red", "red"]}))
    assert "'old' is not a number" in bad["error"]
    assert good["row"] == 2


def test_top_k_is_a_parameter(models: Mapping[str, Any]) -> None:
    for top_k in (1, 2):
        [answer] = models["images"].predict({"image": [GOOD]}, params={"top_k": top_k})
        assert len(answer["top"]) == top_k
    with pytest.raises(MlflowException, match="top_k is 0"):
        models["images"].predict({"image": [GOOD]}, params={"top_k": 0})


def test_options_are_given_when_the_model_is_loaded(sources: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(draw(0))
    given = {"path": [f"{tmp_path / 'a.png'}"]}
    closed = mlflow.pyfunc.load_model(sources["images"], model_config={"paths": False, "abstain": True})
    with pytest.raises(MlflowException, match="paths are switched off"):
        closed.predict(given)
    assert closed.predict({"image": [GOOD]})[0]["classes"] == ["abstain"]
    with pytest.raises(UserError, match="paths is 'no'; allowed are true and false"):
        mlflow.pyfunc.load_model(sources["images"], model_config={"paths": "no"})


@pytest.mark.parametrize("kind", KINDS)
def test_mlflow_can_serve_the_example_that_it_shows(
    sources: Mapping[str, str], models: Mapping[str, Any], kind: str
) -> None:
    example = Path(sources[kind], "serving_input_example.json").read_text()
    [answer] = served(models[kind], json.loads(example))
    outputs = {column.name for column in models[kind].metadata.get_output_schema().inputs}
    assert "error" not in answer
    assert answer.keys() <= outputs


def test_the_onnx_flavor_is_as_before(sources: Mapping[str, str], exports: Mapping[str, Path]) -> None:
    assert mlflow.onnx.load_model(sources["images"]) == onnx.load(exports["images"] / "model.onnx")
    lines = Path(sources["images"], "requirements.txt").read_text().splitlines()
    assert [Requirement(line).name for line in lines] == list(REQUIREMENTS)
    assert all(f"{Requirement(line).specifier}".startswith("==") for line in lines)
    assert not list(Path(sources["images"]).rglob("*.pkl"))


def test_other_rules_are_another_version_and_other_files_are_not(root: Path, tmp_path: Path) -> None:
    store = new_store(root, "versions of one ONNX file")
    folder = write_export(tmp_path / "export")
    first = export(store, folder)
    values, _ = load_description(folder)
    (folder / "parity.json").write_text("{}")
    files = [folder / "model.onnx", folder / "parity.json"]
    write_json(describe_export(values, folder, files), folder / "model.json")
    assert export(store, folder).model_id == first.model_id
    rules = {**values, "abstention": {"target_precision": 0.9, "threshold": 0.5}}
    write_json(describe_export(rules, folder, files), folder / "model.json")
    second = export(store, folder)
    assert second.model_id != first.model_id
    assert export(store, folder).model_id == second.model_id
    assert second.tags["sha256"] == first.tags["sha256"]
    found = store.client.search_model_versions(f"name = '{store.experiment.name}'")
    assert sorted(int(one.version) for one in found) == [1, 2]
    assert {one.tags[DESCRIPTION_TAG] for one in found} == {
        model.tags[DESCRIPTION_TAG] for model in (first, second)
    }


@pytest.mark.parametrize("damage", ["none", "damaged", "of another export"])
def test_without_a_description_the_onnx_file_alone_is_registered(
    root: Path, tmp_path: Path, damage: str
) -> None:
    store = new_store(root, f"only ONNX, {damage}")
    folder = write_export(tmp_path / "export")
    record = record_of(folder)
    other = write_export(tmp_path / "other", seed=1)
    shutil.copy(other / "model.json", folder)
    if damage == "damaged":
        (folder / "model.json").write_text("{")
    described = None if damage == "none" else folder / "model.json"
    model = log_onnx(store, make_tested_run(store), folder / "model.onnx", record, described)
    propose(store, model, 1)
    assert DESCRIPTION_TAG not in model.tags
    assert mlflow.onnx.load_model(folder_of(store, model)) == onnx.load(folder / "model.onnx")
    assert not Path(folder_of(store, model), "darkroom.zip").exists()


def test_it_goes_through_the_journal(
    inline_sender: None,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "pyfunc through the journal")
    monkeypatch.chdir(root)
    write_export(Path("export"))
    made = Path("models/model.safetensors")
    with tracked("train", load_runtime()) as run:
        run.log_output(made, "abc")
    with tracked("export", load_runtime()) as run:
        run.log_input(made, "abc", as_child=True).log_onnx(
            Path("export/model.onnx"),
            "classifier",
            description=Path("export/model.json"),
            params={},
            tags={MADE: "abc"},
            metrics={},
            dataset=("prepared", "d" * 64),
            step=1,
        )
    assert capsys.readouterr().err == ""
    with as_default(f"sqlite:///{root / 'mlflow.db'}"):
        loaded = mlflow.pyfunc.load_model("models:/pyfunc through the journal@candidate")
    expected = Predictor(Path("export")).outputs([Predictor(Path("export")).input_of(draw(0))])
    [answer] = loaded.predict({"image": [GOOD]})
    assert answer["top"][0]["probability"] == float(expected[0][0].max())


def test_the_same_code_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_code(tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    names = ZipFile(tmp_path / "a.zip").namelist()
    assert {name.split("/")[0] for name in names} == {"darkroom"}
    rooms = {name.split("/")[1] for name in names}
    assert not rooms & {"tracking", "training", "evaluation", "pipeline", "commands", "serving"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_code_needs_nothing_but_the_requirements(sources: Mapping[str, str], kind: str) -> None:
    """In a process of its own, in which darkroom is not installed."""
    example = Path(sources[kind], "input_example.json").read_text()
    script = f"""
import json, sys
import mlflow.pyfunc, pandas as pd
before = set(sys.modules)
model = mlflow.pyfunc.load_model({sources[kind]!r})
answers = model.predict(pd.DataFrame(**json.loads({example!r})))
import darkroom
print(json.dumps([darkroom.__file__, "error" in answers[0], sorted(set(sys.modules) - before)]))
"""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    file, failed, modules = json.loads(ran.stdout.splitlines()[-1])
    assert Path(file) == Path(sources[kind], "darkroom.zip", "darkroom", "__init__.py")
    assert not failed
    found = {module.partition(".")[0] for module in modules}
    assert not found & {"torch", "torchvision", "dvc", "sklearn", "onnx", "matplotlib", "sqlalchemy"}

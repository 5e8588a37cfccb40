"""`darkroom serve` for rows of a table and for masks: the answers are those of `predict`."""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from served import Served, check_refusal, form, serving
from served_exports import draw, write_mask_export, write_row_export

from darkroom.prediction.decisions import Failure
from darkroom.prediction.masks import class_shares
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.rows import RowPredictor

CSV = b"age,colour,other\n44,red,x\n,blue,y\n61.5,green,z\n"
ROWS = [{"age": 44, "colour": "red"}, {"colour": "blue"}, {"age": 61.5, "colour": "green"}]


@dataclass(frozen=True)
class Both:
    """A server and what it serves."""

    served: Served
    exported: Path


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    exported = write_row_export(tmp_path_factory.mktemp("rows") / "export")
    with serving(exported, "--max-body-mib", 1) as served:
        yield Both(served, exported)


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    exported = write_mask_export(tmp_path_factory.mktemp("masks") / "export")
    with serving(exported, "--max-pixels", 10_000) as served:
        yield Both(served, exported)


def as_parquet() -> bytes:
    table = pa.table({"age": [44, None, 61.5], "colour": ["red", "blue", "green"]})
    written = io.BytesIO()
    pq.write_table(table, written)
    return written.getvalue()


def test_rows_have_the_answers_of_predict_however_they_are_sent(rows: Both) -> None:
    predictor = RowPredictor(rows.exported)
    expected = list(predictor.predict(predictor.parse("rows.csv", CSV), 3))
    lines = "\n".join(map(json.dumps, ROWS)).encode()
    ask = rows.served.ask
    answers = [
        ask("/predict", CSV, content_type="text/csv; charset=utf-8"),
        ask("/predict", CSV, content_type="application/x-www-form-urlencoded"),  # curl --data-binary
        ask("/predict", lines, content_type="application/x-ndjson"),
        ask("/predict", as_parquet(), content_type="application/vnd.apache.parquet"),
        ask("/predict", json.dumps({"rows": ROWS}).encode(), content_type="application/json"),
        *(
            ask("/predict", body, content_type=kind)
            for body, kind in (form(("a.csv", CSV)), form(("b.jsonl", lines)))
        ),
    ]
    for answer in answers:
        assert answer.status == 200, answer.body
        found = answer.json["predictions"]
        assert len(found) == len(expected) == 3
        for one, outcome in zip(found, expected, strict=True):
            assert not isinstance(outcome, Failure)
            assert [t["class"] for t in one["top"]] == list(outcome.classes)
            assert [t["probability"] for t in one["top"]] == list(outcome.probabilities)  # not approx
            assert one["classes"] == [outcome.classes[0]]
    assert [one["row"] for one in answers[0].json["predictions"]] == [2, 3, 4]  # lines of the file
    other = ask("/predict", CSV.replace(b"44", b"45"), content_type="text/csv").json["predictions"]
    first = answers[0].json["predictions"]
    assert other[0]["top"] != first[0]["top"]
    assert other[1:] == first[1:]


def test_a_bad_cell_does_not_stop_the_other_rows(rows: Both) -> None:
    answer = rows.served.ask("/predict", CSV.replace(b"44", b"old"), content_type="text/csv")
    assert answer.status == 200, answer.body
    bad, *good = answer.json["predictions"]
    assert bad == {
        "row": 2, "error": "age: 'old' is not a number", "what_to_do": bad["what_to_do"]
    }  # fmt: skip
    whole = rows.served.ask("/predict", CSV, content_type="text/csv").json["predictions"]
    assert good == whole[1:]


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"age\n4\n", "text/csv", 422, "lacks columns that the model takes: colour"),
        (b"", "text/csv", 422, "empty"),
        (b"age,colour\n", "text/csv", 422, ""),
        (b"\xff\xfe\x00", "text/csv", 422, ""),
        (b"PAR1nothing", "application/vnd.apache.parquet", 422, "table.parquet"),
        (b'{"rows": []}', "application/json", 422, ""),
        (b'{"rows": 3}', "application/json", 422, "no rows as expected"),
        (b'{"rows": [[1]]}', "application/json", 422, "no rows as expected"),
        (b'{"rows": [{"age": {"a": 1}, "colour": []}]}', "application/json", 422, ""),
        (b'{"images": ["AAAA"]}', "application/json", 422, ""),
        (draw(0), "image/png", 415, "'image/png' is not accepted"),
        (b"age,colour\n" + b"4,red\n" * 10_001, "text/csv", 413, "10,001 rows"),
        (*form(("a.csv", CSV), ("b.csv", CSV)), 422, "several files"),
    ],
)
def test_bad_tables_are_explained(rows: Both, body: bytes, kind: str, status: int, words: str) -> None:
    check_refusal(rows.served.ask("/predict", body, content_type=kind), status, words)
    assert not [line for line in rows.served.lines if "Traceback" in line]


def test_the_model_and_the_page_of_rows_name_the_columns(rows: Both) -> None:
    model = rows.served.ask("/model").json
    assert model["input"] == "rows"
    assert model["columns"] == {"age": "number", "colour": "category"}
    assert "age,colour" in rows.served.ask("/").body.decode()


def test_masks_are_those_of_predict(masks: Both) -> None:
    predictor = Predictor(masks.exported, masks=True)
    for seed, size in ((0, (10, 12)), (1, (40, 25)), (2, (16, 16))):
        content = draw(seed, size)
        expected = predictor.mask_of(content)
        found = masks.served.predict(content).prediction
        mask = np.array(Image.open(io.BytesIO(base64.b64decode(found["mask_png"]))))
        assert (found["width"], found["height"]) == size
        assert np.array_equal(mask, expected)
        shares = class_shares(expected, 3).tolist()
        names = ("ground", "disc", "square")
        assert {one["class"]: one["share"] for one in found["shares"]} == dict(
            zip(names, shares, strict=True)
        )
        alone = masks.served.predict(content, accept="image/png")
        assert alone.headers["content-type"] == "image/png"
        assert alone.body == base64.b64decode(found["mask_png"])
    body, kind = form(*((f"{seed}.png", draw(seed)) for seed in range(3)))
    several = masks.served.ask("/predict", body, content_type=kind, accept="image/png")
    assert len(several.json["predictions"]) == 3  # as JSON: one PNG cannot hold them


def test_bad_images_for_masks_are_explained(masks: Both) -> None:
    check_refusal(masks.served.predict(b"nothing"), 415, "not an image")
    check_refusal(masks.served.predict(draw(0)[:70]), 422, "body: ")
    check_refusal(masks.served.predict(draw(0, (101, 100))), 413, "101 x 100 pixels")
    assert masks.served.metric("darkroom_failures_total") == 3

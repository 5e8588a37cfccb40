"""`darkroom serve` as a real process: the same answers as `predict`, in any batch, and its endpoints."""

import base64
import csv
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from served import Served, check_refusal, form, serving
from served_exports import IMAGES, NAMES, draw, write_export

from darkroom.cli import main
from darkroom.prediction.predictor import Predictor


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("serve") / "exported")


@pytest.fixture(scope="module")
def served(exported: Path) -> Iterator[Served]:
    """A server that waits for others long enough for them to come."""
    with serving(exported, "--max-wait-ms", 200, "--max-batch", 32, "--max-body-mib", 1) as served:
        yield served


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    for name, content in IMAGES.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


# the same answers


def test_answers_are_those_of_predict_to_the_last_bit(
    served: Served, exported: Path, photos: list[Path]
) -> None:
    expected = list(Predictor(exported).predict(photos, len(NAMES)))
    table = CliRunner().invoke(main, ["predict", f"{exported}", *map(str, photos)])
    printed = list(csv.reader(table.stdout.splitlines(), delimiter="\t"))
    assert len(printed) == len(photos) == 6
    for path, one, row in zip(photos, expected, printed, strict=True):
        found = served.predict(path.read_bytes(), "?top_k=99").prediction
        assert [t["class"] for t in found["top"]] == list(one.classes)
        assert [t["probability"] for t in found["top"]] == list(one.probabilities)  # not approx
        assert found["unfamiliarity"] == one.unfamiliarity
        [name], [probability] = found["classes"], found["probabilities"]
        unfamiliar = "true" if found["unfamiliar"] else "false"
        assert row[1:] == [
            name, f"{probability:.6f}", f"{found['unfamiliarity']:.4f}", unfamiliar
        ]  # fmt: skip


def test_the_ways_to_send_an_image_agree(served: Served) -> None:
    content = IMAGES["1.jpeg"]
    as_json = json.dumps({"images": [base64.b64encode(content).decode()]}).encode()
    address = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    named = json.dumps({"image": {"name": "1.jpeg", "data": address}}).encode()
    body, kind = form(("1.jpeg", content))
    answers = [
        served.ask("/predict", content, content_type="image/jpeg"),
        served.ask("/predict", content, content_type="application/octet-stream"),
        served.ask("/predict", content, content_type="application/x-www-form-urlencoded"),
        served.ask("/predict", as_json, content_type="application/json; charset=utf-8"),
        served.ask("/predict", named, content_type="application/json"),
        served.ask("/predict", body, content_type=kind),
    ]
    found = [answer.prediction for answer in answers]
    assert [one.pop("file") for one in found] == ["body"] * 3 + ["image 1", "1.jpeg", "1.jpeg"]
    assert all(one == found[0] for one in found)
    other = served.predict(IMAGES["2.bmp"]).prediction
    assert other["probabilities"] != found[0]["probabilities"]


def test_an_answer_does_not_depend_on_the_batch_and_requests_share_batches(served: Served) -> None:
    alone = {name: served.predict(content).prediction for name, content in IMAGES.items()}
    before = [served.metric(f"darkroom_batch_size_{part}") for part in ("count", "sum")]
    names = [name for name in IMAGES for _ in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        together = list(pool.map(lambda name: served.predict(IMAGES[name]).prediction, names))
    assert together == [alone[name] for name in names]
    after = [served.metric(f"darkroom_batch_size_{part}") for part in ("count", "sum")]
    batches, images = (now - then for now, then in zip(after, before, strict=True))
    assert images == len(names)
    assert batches < images / 2
    body, kind = form(*IMAGES.items())
    in_one = served.ask("/predict", body, content_type=kind).json["predictions"]
    strip = {"file"}
    assert [{k: v for k, v in one.items() if k not in strip} for one in in_one] == [
        {k: v for k, v in one.items() if k not in strip} for one in alone.values()
    ]


def test_a_bad_image_does_not_stop_the_others(served: Served) -> None:
    body, kind = form(("good.png", IMAGES["0.png"]), ("bad\x07.png", IMAGES["0.png"][:60]))
    answer = served.ask("/predict", body, content_type=kind)
    good, bad = answer.json["predictions"]
    assert good["classes"] == served.predict(IMAGES["0.png"]).prediction["classes"]
    assert bad["error"].startswith(r"bad\x07.png: ")
    assert bad["what_to_do"]
    body, kind = form(("x.png", b"GIF89a"), ("y.png", b"nothing"))
    assert served.ask("/predict", body, content_type=kind).status == 422


# the other endpoints


def test_endpoints_tell_about_the_model(served: Served, exported: Path) -> None:
    model = served.ask("/model").json
    assert model["name"] == "exported"
    assert tuple(model["class_names"]) == NAMES
    recorded = json.loads((exported / "model.json").read_text())["files"]["model.onnx"]["sha256"]
    assert model["sha256"] == recorded
    assert served.ask("/ready").json["model"]["sha256"] == recorded
    assert served.ask("/health").json == {"status": "alive"}
    assert "/predict" in served.ask("/openapi.json").json["paths"]
    assert str(exported.parent) not in str([served.ask(p).body for p in ("/", "/model", "/ready")])


def test_metrics_count_requests_classes_and_failures(served: Served) -> None:
    def counts() -> dict[str, float]:
        names = ("requests_total", "request_seconds_count", "predictions_total", "failures_total")
        return {name: served.metric(f"darkroom_{name}") for name in names}

    before = counts()
    found = served.predict(IMAGES["0.png"]).prediction
    assert served.predict(b"no image").status == 415
    after = counts()
    assert after["predictions_total"] - before["predictions_total"] == 1
    assert after["failures_total"] - before["failures_total"] == 1
    assert after["requests_total"] - before["requests_total"] == 2 + 4  # and those for the metrics
    text = served.ask("/metrics").body.decode()
    assert 'darkroom_requests_total{path="/predict",status="415"}' in text
    assert f'class="{found["classes"][0]}"' in text
    assert served.metric("darkroom_images_waiting") == 0


def test_the_page_escapes_names_and_loads_nothing(served: Served) -> None:
    page = served.ask("/")
    assert page.status == 200
    text = page.body.decode()
    assert NAMES[2] not in text
    assert re.findall(r"""(?:src|href)=["']?(?!#)[^"'> ]+""", text) == []
    assert "default-src 'none'" in page.headers["content-security-policy"]


# refusals


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"", "image/png", 422, "empty"),
        (b"hello", "image/png", 415, "not an image"),
        (draw(0)[:70], "image/png", 422, "body: "),
        (draw(0), "text/html", 415, "'text/html' is not accepted"),
        (b"{", "application/json", 422, "not JSON"),
        (b"[" * 100_000, "application/json", 422, "not JSON"),
        (b'{"images": []}', "application/json", 422, "no images"),
        (b'{"images": ["%%%"]}', "application/json", 422, "image 1 is not base64"),
        (b'{"images": [{"name": 1, "data": ""}]}', "application/json", 422, "no images"),
        (b"[" + b"0," * 500_000 + b"0]", "application/json", 413, "too many values"),
        (b"x", "multipart/form-data", 422, "form cannot be read"),
        (b"x", "multipart/form-data; boundary=a", 422, "form"),
        (*form(), 422, "no file"),
        (*form(*[("x", b"y")] * 65), 413, "at most 64"),
        (bytes(2**20 + 1), "image/png", 413, "at most 1 MiB"),
    ],
)
def test_bad_requests_are_explained(
    served: Served, body: bytes, kind: str, status: int, words: str
) -> None:
    check_refusal(served.ask("/predict", body, content_type=kind), status, words)


def test_unknown_paths_methods_and_numbers_are_explained(served: Served) -> None:
    check_refusal(served.ask("/../../etc/passwd"), 404, "nothing at this path")
    check_refusal(served.ask("/predict"), 405, "method")
    for query in ("?top_k=0", "?top_k=x", "?top_k=1001", "?top_k=%D9%A3"):
        check_refusal(served.predict(IMAGES["0.png"], query), 422, "top_k")


# start


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["serve", *map(str, arguments)], prog_name="darkroom")
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.slow
def test_what_cannot_be_served_is_explained(
    exported: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no such file" in refused(tmp_path)
    damaged = write_export(tmp_path / "damaged")
    content = bytearray((damaged / "model.onnx").read_bytes())
    content[200] ^= 1
    (damaged / "model.onnx").write_bytes(content)
    assert "bytes differ from the recorded" in refused(damaged)
    assert "choose another --port" in refused(exported, "--port", served.port)
    assert "not a version of a model" in refused("models:/darkroom")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("darkroom.serving")]:
        monkeypatch.delitem(sys.modules, name)
    assert "pip install 'darkroom[serve]'" in refused(exported)

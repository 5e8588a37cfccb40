"""Preprocessing inside the ONNX file: Pillow is the reference for pixels, `predict` for answers."""

from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support import make_spec, unlabelled

from darkroom.dataset.views import EvaluationView
from darkroom.decoding.colour import to_channels
from darkroom.decoding.decode import PixelLayout, resize
from darkroom.errors import UserError
from darkroom.export import preprocessing
from darkroom.export.checks import _Viewed
from darkroom.export.formats import FORMATS, takes_pictures, write_formats
from darkroom.export.parity import check_parity
from darkroom.export.preprocessing import Preprocessing
from darkroom.export.source import Source
from darkroom.models.exported import describe_export
from darkroom.models.factory import make_classifier
from darkroom.models.file import save_model
from darkroom.models.spec import ModelSpec
from darkroom.prediction.predictor import Predictor
from darkroom.reporting.tables import write_json

NAMES = ["onnx", "onnx-with-preprocessing"]

RESIZES = ("stretch", "crop", "pad")
VIEWS = (None, "centre", "whole")


def as_predict_does(picture: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """The input of the model for an RGB picture, uint8 ``(channels, height, width)``."""
    size = spec.prepared_size or spec.input_size
    layout = PixelLayout(*size, spec.channels, spec.resize)  # type: ignore[arg-type]
    image = resize(to_channels(Image.fromarray(picture), layout.channels), layout)
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(layout.shape)
    if spec.evaluate_crop:
        pixels = EvaluationView.of(spec.input_size, spec.evaluate_crop)(pixels[None])[0]  # type: ignore[misc]
    return pixels.transpose(2, 0, 1)


def draw_spec(random: np.random.Generator, resize: str, view: str | None, channels: int) -> ModelSpec:
    height, width = map(int, random.integers(1, 60, 2))
    if view is None:
        return make_spec(channels=channels, resize=resize, input_size=(height, width))
    inner = tuple(int(random.integers(1, side + 1)) for side in (height, width))
    whole = {"prepared_size": (height, width), "evaluate_crop": view}
    return make_spec(channels=channels, resize=resize, input_size=inner, **whole)


@pytest.mark.parametrize(("how", "view", "channels"), list(product(RESIZES, VIEWS, (1, 3))))
def test_every_byte_is_pillows(how: str, view: str | None, channels: int) -> None:
    random = np.random.default_rng(len(how) + 10 * VIEWS.index(view) + channels)
    for number in range(25):
        spec = draw_spec(random, how, view, channels)
        shape = *random.integers(1, 250, 2), 3
        picture = random.integers(0, 256, shape, dtype=np.uint8)
        if number % 3 == 0:
            picture = picture // 128 * 255  # sums between two levels are common
        with torch.compiler.set_stance("force_eager"):  # torch.cond compiles its branches otherwise
            found = Preprocessing(spec)(torch.from_numpy(picture)).numpy()
        np.testing.assert_array_equal(found, as_predict_does(picture, spec))


def test_the_order_of_both_axes_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow 13 begins with the columns of tall images; each axis is rounded."""
    random = np.random.default_rng(0)
    spec = make_spec(input_size=(50, 50), channels=3)
    pictures = [random.integers(0, 256, (height, 100, 3), dtype=np.uint8) for height in (150, 151)]
    expected = [as_predict_does(picture, spec) for picture in pictures]

    def equal() -> list[bool]:
        prepare = Preprocessing(spec)
        with torch.compiler.set_stance("force_eager"):
            found = [prepare(torch.from_numpy(picture)).numpy() for picture in pictures]
        return [bool((a == b).all()) for a, b in zip(found, expected, strict=True)]

    assert equal() == [True, True]
    monkeypatch.setattr(preprocessing, "_is_vertical_first", lambda *_: torch.tensor(False))
    assert equal() == [True, False]
    monkeypatch.setattr(preprocessing, "_is_vertical_first", lambda *_: torch.tensor(True))
    assert equal() == [False, True]


SPECS = {
    "rgb, cropped": make_spec(
        channels=3,
        resize="crop",
        input_size=(12, 10),
        unfamiliarity={"false_alarms": 0.05, "components": 5, "centres": 3},
    ),
    "grey, padded, whole": make_spec(resize="pad", prepared_size=(16, 20), evaluate_crop="whole"),
}


@pytest.fixture(scope="module", params=SPECS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Source, Path]:
    folder, spec = tmp_path_factory.mktemp("export"), SPECS[request.param]
    torch.manual_seed(0)
    model = make_classifier(spec).eval()
    if model.unfamiliarity is not None:
        for values in model.unfamiliarity.buffers():
            values.uniform_()
    save_model(model, spec, folder.parent / "checkpoint")
    source = Source(model, spec)
    files = write_formats(NAMES, folder.parent / "checkpoint", source, folder)
    write_json(describe_export(spec.preprocessing(), folder, files), folder / "model.json")
    return source, folder


def pictures() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(1)
    shapes = [(1, 1), (3, 200), (200, 3), (64, 48), (12, 10), (301, 97)]
    return [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


@pytest.mark.slow
def test_it_answers_as_predict_does_to_the_bit(exported: tuple[Source, Path], tmp_path: Path) -> None:
    _, folder = exported
    file = folder / FORMATS[NAMES[1]].file_name
    assert takes_pictures(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()
    assert (taken.name, taken.type, taken.shape) == ("image", "tensor(uint8)", ["height", "width", 3])
    names = [output.name for output in session.get_outputs()]
    predictor = Predictor(folder)
    for number, picture in enumerate(pictures()):
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture).save(path)
        [expected] = predictor.predict([path], top_k=2)
        found = dict(zip(names, session.run(None, {"image": picture}), strict=True))
        by_class = dict(zip(expected.classes, expected.probabilities, strict=True))  # type: ignore[union-attr]
        assert found["probabilities"].tolist() == [[by_class[name] for name in predictor.class_names]]
        if "unfamiliarity" in found:
            assert found["unfamiliarity"].tolist() == [expected.unfamiliarity]  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(exported: tuple[Source, Path], tmp_path: Path) -> None:
    source, folder = exported
    FORMATS[NAMES[1]].write(source, tmp_path / "again", False)
    content = (tmp_path / "again").read_bytes()
    assert content == (folder / FORMATS[NAMES[1]].file_name).read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.slow
def test_export_compares_it_on_images_before_the_view(exported: tuple[Source, Path]) -> None:
    source, folder = exported
    spec, file = source.spec, folder / FORMATS[NAMES[1]].file_name
    size = spec.prepared_size or spec.input_size
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (9, spec.channels, *size), dtype=np.uint8)
    view = EvaluationView.of(spec.input_size, spec.evaluate_crop)
    checkpoint = _Viewed(source.classifier, view) if view else source.classifier
    [parity] = check_parity(checkpoint, spec, [file], unlabelled(images), 1, 1e-5).values()
    assert parity.max_abs_difference < 1e-5
    assert len(parity.differences) == 9
    assert parity.latency["images_per_second"] > 0
    if view:
        other = _Viewed(source.classifier, EvaluationView(spec.input_size, "centre"))
        with pytest.raises(UserError, match=r"model-with-preprocessing\.onnx differs"):
            check_parity(other, spec, [file], unlabelled(images), 1, 1e-5)

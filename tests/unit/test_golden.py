"""Golden vectors: what is written, and that `predict` and readers in other languages give the same."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support import make_spec

from darkroom.dataset.views import EvaluationView
from darkroom.export.formats import write_formats
from darkroom.export.golden import one_per_class, write_golden
from darkroom.export.source import Source
from darkroom.models.classifier import Classifier
from darkroom.models.exported import describe_export
from darkroom.models.factory import make_classifier
from darkroom.models.file import save_model
from darkroom.models.spec import ModelSpec
from darkroom.prediction.predictor import Prediction, Predictor
from darkroom.reporting.tables import write_json

Exported = tuple[ModelSpec, Path, NDArray[np.uint8]]
"""The description, the exported folder, and its prepared images."""

READERS = Path(__file__).parents[2] / "docs/readers"
WEB_VERSION = "1.30.0"
"""Of onnxruntime-web, which has no native code and so runs everywhere."""

SPECS = {
    "rgb": make_spec(channels=3, input_size=(12, 10), class_names=("cat", "dog, big", "Äther")),
    "grey, padded": make_spec(resize="pad"),
    "centre": make_spec(channels=3, resize="crop", prepared_size=(11, 14), evaluate_crop="centre"),
    "whole": make_spec(prepared_size=(16, 20), evaluate_crop="whole"),
    "labels": make_spec(channels=3, target="several_labels", thresholds=(0.4, 0.6)),
}


def make_model(spec: ModelSpec) -> Classifier:
    """A model that tells images apart."""
    torch.manual_seed(1)
    model = make_classifier(spec)
    pixels = torch.randint(0, 256, (64, spec.channels, *spec.input_size), dtype=torch.uint8)
    with torch.no_grad():
        linear = model.eval().network.head.linear
        linear.weight *= 30
        linear.bias -= model(pixels).mean(dim=0)
    return model


def draw(spec: ModelSpec) -> NDArray[np.uint8]:
    """Three prepared images of 3 x 3 blocks, uint8 ``(3, height, width, channels)``."""
    height, width = spec.prepared_size or spec.input_size
    blocks = np.random.default_rng(0).integers(0, 256, (3, 3, 3, spec.channels), dtype=np.uint8)
    return blocks[:, np.arange(height) * 3 // height][:, :, np.arange(width) * 3 // width]


@pytest.fixture(scope="module", params=SPECS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    project, spec = tmp_path_factory.mktemp("golden"), SPECS[request.param]
    model, images, folder = make_model(spec), draw(spec), project / "export"
    save_model(model, spec, project / "model.safetensors")
    files = write_formats(["onnx"], project / "model.safetensors", Source(model, spec), folder)
    files += write_golden(model, spec, images, 1e-5, folder)
    write_json(describe_export(spec.preprocessing(), folder, files), folder / "model.json")
    return spec, folder, images


def read(folder: Path) -> tuple[list[float], dict[str, list[float]]]:
    """The header, and the probabilities by name of the image."""
    header, *rows = (folder / "golden/expected.txt").read_text().splitlines()
    cells = [row.split(" ") for row in rows]
    return [float(cell) for cell in header.split(" ")], {
        name: [float(value) for value in values] for name, *values in cells
    }


def predict(folder: Path, num_classes: int) -> dict[str, list[float]]:
    """What `darkroom predict` says of the image files."""
    predictor = Predictor(folder)
    found = {}
    for prediction in predictor.predict(sorted(folder.glob("golden/*.png")), num_classes):
        assert isinstance(prediction, Prediction)
        by_class = dict(zip(prediction.classes, prediction.probabilities, strict=True))
        found[prediction.path.stem] = [by_class[name] for name in predictor.class_names]
    return found


@pytest.mark.slow
def test_predict_gives_the_expected_probabilities(
    exported: Exported,
) -> None:
    spec, folder, _ = exported
    header, expected = read(folder)
    assert header == [4, spec.channels, *spec.input_size, len(spec.class_names), 1e-5]
    assert list(expected) == ["0", "1", "2", "pattern"]
    assert predict(folder, len(spec.class_names)) == {
        name: pytest.approx(row, abs=1e-5) for name, row in expected.items()
    }
    assert np.ptp(list(expected.values()), axis=0).max() > 0.01  # or equality would mean little


@pytest.mark.slow
def test_tensors_are_what_the_model_gets(exported: Exported) -> None:
    spec, folder, images = exported
    view = EvaluationView.of(spec.input_size, spec.evaluate_crop)
    for name, image in enumerate(images if view is None else view(images)):
        tensor = np.fromfile(folder / f"golden/{name}.u8", np.uint8)
        assert np.array_equal(tensor, image.transpose(2, 0, 1).ravel())
    pattern = Image.open(folder / "golden/pattern.png")
    assert pattern.size != spec.input_size[::-1]
    if spec.resize == "stretch" and view is None:
        resized = pattern.resize(spec.input_size[::-1], Image.Resampling.BILINEAR)
        tensor = np.fromfile(folder / "golden/pattern.u8", np.uint8).reshape(-1, *spec.input_size)
        assert np.array_equal(tensor, np.asarray(resized).transpose(2, 0, 1))


def test_the_same_model_and_images_give_the_same_bytes(tmp_path: Path) -> None:
    spec = SPECS["rgb"]
    contents = []
    for name in "one", "two":
        files = write_golden(make_model(spec), spec, draw(spec), 1e-5, tmp_path / name)
        assert sorted((tmp_path / name / "golden").iterdir()) == sorted(files)
        contents.append({file.name: file.read_bytes() for file in files})
    assert contents[0] == contents[1]
    write_golden(make_model(spec), spec, 255 - draw(spec)[:1], 1e-5, tmp_path / "two")
    assert not (tmp_path / "two/golden/1.png").exists()
    assert (tmp_path / "two/golden/expected.txt").read_bytes() != contents[0]["expected.txt"]


def test_of_masks_the_means_over_their_pixels_are_expected(tmp_path: Path) -> None:
    spec = make_spec(name="unet", target="mask", depth=2)
    model = make_classifier(spec).eval()
    write_golden(model, spec, draw(spec), 1e-5, tmp_path)
    _, expected = read(tmp_path)
    images = np.stack([np.fromfile(tmp_path / f"golden/{name}.u8", np.uint8) for name in expected])
    with torch.no_grad():
        probabilities = model(torch.from_numpy(images.reshape(-1, 1, 8, 8))).softmax(dim=1).numpy()
    means = [[plane.astype(np.float64).mean() for plane in planes] for planes in probabilities]
    assert list(expected.values()) == [pytest.approx(row, abs=1e-6) for row in means]


@pytest.mark.parametrize(
    ("labels", "max_images", "indices"),
    [
        ([[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], 4, [2, 0, 3]),
        ([[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], 2, [2, 0]),
        ([[0, 1, 0]], 4, [0]),  # two classes have no image
        ([[0, 0], [1, 1], [1, 0]], 4, [1]),  # several labels
        ([[1, 0]], 0, []),
    ],
)
def test_the_first_image_of_each_class_is_chosen(
    labels: list[list[int]], max_images: int, indices: list[int]
) -> None:
    assert one_per_class(np.array(labels), max_images).tolist() == indices


def agree(command: list[str | Path], folder: Path) -> dict[str, list[float]]:
    """What a reader prints, after a check that it finds an expected value that is wrong."""
    done = subprocess.run([*command, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *rows, last = done.stdout.splitlines()
    assert re.fullmatch(r"largest difference [-.e\d]+; allowed (0.00001|1e-05)", last)
    expected = folder / "golden/expected.txt"
    text = expected.read_text()
    try:
        header, first, *others = text.splitlines(keepends=True)
        name, _, *values = first.split(" ")
        for row in " ".join([name, "0.123", *values]), " ".join([name, "nan", *values]), "":
            expected.write_text("".join([header, row, *others]))
            refused = subprocess.run([*command, folder], capture_output=True, text=True)
            assert refused.returncode == 1, refused.stdout
    finally:
        expected.write_text(text)
    return {row.split()[0]: [float(value) for value in row.split()[1:]] for row in rows}


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "package.json").write_text('{"private": true}')
    options = ["--no-package-lock", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
    install = [npm, "install", *options, f"onnxruntime-web@{WEB_VERSION}"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install onnxruntime-web {WEB_VERSION}: {done.stderr[:200]}")
    return [node, shutil.copy(READERS / "golden.mjs", folder)]


@pytest.fixture(scope="module")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    header = "#include <onnxruntime_cxx_api.h>"
    found = subprocess.run(
        [compiler, "-E", "-x", "c++", "-"], input=header.encode(), capture_output=True
    )
    if found.returncode != 0:
        pytest.skip("needs onnxruntime_cxx_api.h of ONNX Runtime's C++ package; its folder in CPATH")
    # the library of the Python package; only headers are missing there
    [library] = Path(sysconfig.get_path("purelib")).glob("onnxruntime/capi/libonnxruntime.so.*")
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "libonnxruntime.so.1").symlink_to(library)  # the name that the library calls itself
    program = folder / "golden"
    command = [
        compiler,
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-o",
        program,
        READERS / "golden.cpp",
        library,
    ]
    done = subprocess.run([*command, f"-Wl,-rpath,{folder}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [program]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["javascript", "cpp"])
def test_a_reader_in_another_language_agrees_with_predict(
    language: str,
    exported: Exported,
    request: pytest.FixtureRequest,
) -> None:
    spec, folder, _ = exported
    found = agree(request.getfixturevalue(language), folder)
    assert found == {
        name: pytest.approx(row, abs=1e-5)
        for name, row in predict(folder, len(spec.class_names)).items()
    }

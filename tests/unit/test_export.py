"""Exported files: they agree with the checkpoint, and their bytes depend on the model alone."""

import json
import math
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from effort import ALL
from support import compare, make_spec, unlabelled
from warm import WarmPython

import darkroom
from darkroom.dataset.targets.interface import stored_target
from darkroom.errors import UserError
from darkroom.evaluation.evaluate import evaluate
from darkroom.evaluation.intervals import with_intervals
from darkroom.export.formats import FORMATS, write_formats
from darkroom.export.parity import check_parity, disagreement
from darkroom.export.reload import LOADERS
from darkroom.export.scores import scores_of_files
from darkroom.export.source import ExportedModel, Source, output_names
from darkroom.models.classifier import probabilities_of
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_model, load_spec, save_model
from darkroom.targets import Target

FILES = ("model.safetensors", "model.onnx", "model.pt2")
MODELS = ("cnn", "mlp", "resnet", "vit", "torchvision:resnet18")

IMPORTS = """
from darkroom.compute.determinism import set_determinism

set_determinism(0, 1)
import onnxruntime, onnxscript, torch.export, torch.onnx, torchvision
import support, darkroom.export.formats, darkroom.models.factory, darkroom.models.file
"""
EXPORT = """
import json, sys
from pathlib import Path

import torch
from support import make_spec
from darkroom.compute.determinism import set_determinism
from darkroom.export.formats import write_formats
from darkroom.export.source import Source
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_model, save_model

UNFAMILIARITY = {"false_alarms": 0.05, "components": 5, "centres": 3}
SPECS = {
    "cnn": make_spec(
        **{"input_size": (16, 13), "dropout": 0.2, "activation": "silu", "pooling": "avg"},
        unfamiliarity=UNFAMILIARITY,
    ),
    "mlp": make_spec(name="mlp", input_size=(16, 13), width=16, dropout=0.2, activation="tanh"),
    "resnet": make_spec(
        name="resnet", channels=3, input_size=(16, 16), stochastic_depth=0.2, head="concat_pool"
    ),
    "vit": make_spec(
        name="vit", input_size=(16, 12), width=32, patch_size=4, stochastic_depth=0.2, head="mlp"
    ),
    "torchvision:resnet18": make_spec(name="torchvision:resnet18", channels=3, input_size=(32, 32)),
}


def export(name, seed, folder):
    spec = SPECS[name]
    set_determinism(seed, 1)
    model = make_classifier(spec)
    shape = (16, spec.channels, *spec.input_size)
    model(torch.randint(0, 256, shape, dtype=torch.uint8))  # so that statistics are not at their start
    if model.unfamiliarity is not None:
        for values in model.unfamiliarity.buffers():
            values.uniform_()
    checkpoint = Path("models", folder, "model.safetensors")
    save_model(model, spec, checkpoint)
    write_formats(["onnx", "pt2"], checkpoint, Source(*load_model(checkpoint)), Path(folder))


for name, seed, folder in json.loads(sys.argv[1]):
    export(name, seed, folder)
"""


def folder_name(model: str) -> str:
    return model.replace(":", "-")


def warm_python(folder: Path, imports: str, **env: str) -> WarmPython:
    folder.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env}
    return WarmPython(imports, folder / "output.txt", environ, cwd=folder)


class Exports:
    """Exports models in fresh processes, each when first wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pythons: dict[str, WarmPython] = {}

    def __call__(self, model: str) -> Path:
        """Returns the exported folder of a model; `cnn` has `other-weights` beside it."""
        others = [("cnn", 1, "other-weights")] if model == "cnn" else []
        return self._export("here", model, *others)

    def again(self, model: str) -> Path:
        """Returns the folder into which another process has exported the same model."""
        return self._export("elsewhere/deeper", model)

    def _export(self, place: str, model: str, *others: tuple[str, int, str]) -> Path:
        root = self._folder / place
        exported = root / folder_name(model)
        if place not in self.pythons:
            self.pythons[place] = warm_python(root, IMPORTS, PYTHONHASHSEED=f"{len(place)}")
        if not exported.exists():
            jobs = [*others, (model, 0, folder_name(model))]
            ended = self.pythons[place].run(EXPORT, json.dumps(jobs), cwd=root)
            assert ended.status == 0, ended.output
        return exported


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    folder = tmp_path_factory.mktemp("exports")
    exports = Exports(folder)
    yield exports
    for python in exports.pythons.values():
        python.close()
    shutil.rmtree(folder)  # a quarter of a gigabyte


@pytest.fixture(params=MODELS)
def exported(request: pytest.FixtureRequest, exports: Exports) -> Path:
    """The exported folder of each model."""
    return exports(request.param)


@pytest.fixture
def cnn(exports: Exports, tmp_path: Path) -> Path:
    """The exported cnn, in a folder where it may be damaged."""
    return shutil.copytree(exports("cnn"), tmp_path / "cnn")


def images_for(folder: Path, num_images: int, seed: int = 0) -> np.ndarray:
    spec = load_spec(folder / "model.safetensors")
    shape = (num_images, spec.channels, *spec.input_size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


# agreement


@pytest.mark.slow
def test_files_agree_with_the_checkpoint(exports: Exports) -> None:
    folder = exports("cnn")
    model, spec = load_model(folder / "model.safetensors")
    paths = [folder / file for file in FILES]
    parities = check_parity(
        model, spec, paths, unlabelled(images_for(folder, 7)), num_threads=1, tolerance=1e-4
    )
    assert list(parities) == list(FILES)
    for parity in parities.values():
        assert 0 <= parity.max_abs_difference < 1e-5
        assert parity.answers.agreement == 1.0
        assert parity.unfamiliarity_difference is not None
        assert 0 <= parity.unfamiliarity_difference < 1e-5
        assert parity.to_dict() == {
            "num_images": 7,
            "max_abs_difference_below": 1e-5,
            "argmax_agreement": 1.0,
            "unfamiliarity_difference_below": 1e-5,
        }
        assert set(parity.latency) == {"p50_ms", "p99_ms", "images_per_second"}


FAMILIES = {
    "alexnet": (63, "linear"),
    "convnext_tiny": (32, "linear"),
    "densenet121": (32, "concat_pool"),
    "efficientnet_b0": (32, "linear"),
    "googlenet": (32, "concat_pool"),
    "inception_v3": (75, "linear"),
    "maxvit_t": (224, "linear"),
    "mnasnet0_5": (32, "linear"),
    "mobilenet_v2": (32, "concat_pool"),
    "mobilenet_v3_small": (32, "linear"),
    "regnet_x_400mf": (32, "linear"),
    "shufflenet_v2_x0_5": (32, "linear"),
    "squeezenet1_1": (32, "linear"),
    "swin_t": (32, "linear"),
    "vgg11": (32, "concat_pool"),
    "vit_b_32": (32, "linear"),
}
"""A model of each of torchvision's families, with a side that it takes, and a head."""

SAMPLE = ("googlenet", "mobilenet_v2", "vit_b_32")


FAMILY_IMPORTS = """
import warnings

from darkroom.compute.determinism import set_determinism
set_determinism(0, 1)
import onnxruntime, torch.onnx, torchvision
from support import make_spec
from darkroom.export.formats import write_onnx
from darkroom.export.source import Source
from darkroom.models.factory import make_classifier

warnings.simplefilter("ignore", FutureWarning)
# the first export imports half of torch; none of this starts a thread, which no child would have
from pathlib import Path
write_onnx(Source(make_classifier(make_spec()).eval(), make_spec()), Path("warm.onnx"))
"""
EXPORT_FAMILY = """
import sys
from pathlib import Path

import numpy as np
import torch

from support import compare, make_spec
from darkroom.export.formats import FORMATS
from darkroom.export.reload import load_onnx, load_pt2
from darkroom.export.source import Source
from darkroom.models.classifier import probabilities_of
from darkroom.models.factory import make_classifier

name, side, head = sys.argv[1], int(sys.argv[2]), sys.argv[3]
spec = make_spec(name=f"torchvision:{name}", input_size=(side, side), head=head)
torch.manual_seed(0)
model = make_classifier(spec).eval()
loads = {"onnx": load_onnx, "pt2": load_pt2}
images = np.random.default_rng(0).integers(0, 256, (3, 1, side, side), dtype=np.uint8)
with torch.inference_mode():
    expected = probabilities_of(model(torch.from_numpy(images)), spec).numpy()
for name in sys.argv[4:]:
    FORMATS[name].write(Source(model, spec), path := Path(FORMATS[name].file_name), False)
    print(compare(spec, expected, loads[name](path)(images)).max_abs_difference)
"""

FORMATS_OF_FAMILIES = ("onnx", "pt2") if ALL else ("onnx",)
"""An ONNX file is made from the program that a pt2 file holds."""


@pytest.fixture(scope="module")
def families_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    python = warm_python(tmp_path_factory.mktemp("families"), FAMILY_IMPORTS)
    yield python
    python.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES if ALL else SAMPLE)
def test_one_of_each_family_of_torchvisions_agrees_with_its_export(
    name: str, families_python: WarmPython, tmp_path: Path
) -> None:
    # in a process of its own: what torch.export keeps of a model is a gigabyte and more
    arguments = (name, *FAMILIES[name], *FORMATS_OF_FAMILIES)
    ended = families_python.run(EXPORT_FAMILY, *arguments, cwd=tmp_path)
    assert ended.status == 0, ended.output
    differences = [float(line) for line in ended.output.splitlines()]
    assert len(differences) == len(FORMATS_OF_FAMILIES)
    assert max(differences) < 1e-5
    for file in tmp_path.iterdir():
        file.unlink()  # up to half a gigabyte


@pytest.mark.slow
def test_any_batch_size_works(exported: Path) -> None:
    model, spec = load_model(exported / "model.safetensors")
    program = torch.export.load(exported / "model.pt2").module()
    session = session_of(exported / "model.onnx")
    for batch_size in (1, 2, 5):
        images = images_for(exported, batch_size, seed=batch_size)
        with torch.inference_mode():
            logits, *scores = model.assess(torch.from_numpy(images))
            pt2 = program(torch.from_numpy(images))
        wanted = [logits, logits.softmax(dim=1), *(one for one in scores if one is not None)]
        assert len(wanted) == 2 + (spec.unfamiliarity is not None)
        for outputs in (pt2, session.run(None, {"images": images})):
            for actual, expected in zip(outputs, wanted, strict=True):
                assert actual.shape == expected.shape
                np.testing.assert_allclose(np.asarray(actual), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx_says_what_goes_in_and_out(exported: Path) -> None:
    session = session_of(exported / "model.onnx")
    spec = load_spec(exported / "model.safetensors")
    [images] = session.get_inputs()
    assert (images.name, images.type) == ("images", "tensor(uint8)")
    assert images.shape[1:] == [spec.channels, *spec.input_size]
    assert isinstance(images.shape[0], str)  # a name, so any number
    assert [output.name for output in session.get_outputs()] == output_names(spec)


@pytest.mark.slow
def test_dropout_is_off_in_every_format(cnn: Path) -> None:
    images = images_for(cnn, 4)
    session = session_of(cnn / "model.onnx")
    first, again = (session.run(["probabilities"], {"images": images})[0] for _ in range(2))
    assert first.tolist() == again.tolist()
    program = torch.export.load(cnn / "model.pt2").module()
    with torch.inference_mode():
        first, again = (program(torch.from_numpy(images))[1] for _ in range(2))
    assert torch.equal(first, again)


# bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_two_processes_in_two_folders_write_the_same_bytes(name: str, exports: Exports) -> None:
    here, elsewhere = exports(name), exports.again(name)
    for file in FILES:
        assert (here / file).read_bytes() == (elsewhere / file).read_bytes(), file


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_other_weights_are_other_bytes(file: str, exports: Exports) -> None:
    cnn = exports("cnn") / file
    other = cnn.parents[1] / "other-weights" / file
    assert cnn.read_bytes() != other.read_bytes()


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file and, of an archive, those of its members."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                yield member.filename.encode() + b"\n" + archive.read(member)


def paths_of_this_machine(path: Path) -> list[str]:
    """Those that are found in a file."""
    folders = (path.parents[1], Path(darkroom.__file__).parent, Path(torch.__file__).parent)
    wanted = {*map(str, folders), "site-packages", "darkroom/models"}
    parts = list(contents(path))
    return sorted(text for text in wanted if any(text.encode() in part for part in parts))


@pytest.mark.slow
def test_no_file_holds_a_path_of_the_machine(exported: Path) -> None:
    for file in FILES:
        assert paths_of_this_machine(exported / file) == []


@pytest.mark.slow
def test_without_care_the_files_would_hold_paths(tmp_path: Path) -> None:
    spec = make_spec()
    model = ExportedModel(make_classifier(spec), spec).eval()
    program = torch.export.export(model, (torch.zeros(2, 1, 8, 8, dtype=torch.uint8),))
    (tmp_path / "exported").mkdir()
    torch.export.save(program, tmp_path / "exported" / "model.pt2")
    torch.onnx.export(program, f=tmp_path / "exported" / "model.onnx", dynamo=True, verbose=False)
    for file in ("model.pt2", "model.onnx"):
        found = paths_of_this_machine(tmp_path / "exported" / file)
        assert str(Path(darkroom.__file__).parent) in found, file


def test_write_formats_copies_the_checkpoint_and_writes_what_is_asked(tmp_path: Path) -> None:
    checkpoint = tmp_path / "any name"
    spec = make_spec()
    model = make_classifier(spec).eval()
    save_model(model, spec, checkpoint)
    for names in ([], ["pt2"]):
        folder = tmp_path / "out" / f"{len(names)}"
        files = write_formats(names, checkpoint, Source(model, spec), folder)
        expected = ["model.safetensors", *(FORMATS[name].file_name for name in names)]
        assert files == [folder / name for name in expected]
        assert sorted(folder.iterdir()) == sorted(files)
        assert files[0].read_bytes() == checkpoint.read_bytes()


# what is refused


def check(folder: Path, file: str, tolerance: float = 1e-4) -> None:
    model, spec = load_model(folder / "model.safetensors")
    check_parity(
        model,
        spec,
        [folder / file],
        unlabelled(images_for(folder, 4)),
        num_threads=1,
        tolerance=tolerance,
    )


@pytest.mark.slow
def test_a_file_made_of_other_weights_is_refused(exports: Exports, cnn: Path) -> None:
    check(cnn, "model.onnx")
    shutil.copy(exports("cnn").parent / "other-weights" / "model.onnx", cnn)
    with pytest.raises(
        UserError, match=r"model\.onnx differs .*parity_tolerance allows 0\.0001"
    ) as refused:
        check(cnn, "model.onnx")
    *_, named = f"{refused.value}".splitlines()
    assert re.fullmatch(
        r"  image \d: the checkpoint predicts \w+, model\.onnx \w+; difference [\de.-]+", named
    )
    with pytest.raises(UserError, match=r"model\.onnx differs .* in an unfamiliarity; 0\.01 is allowed"):
        check(cnn, "model.onnx", tolerance=1.0)  # the probabilities may differ, the score may not


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 0.5, 0.98])
def test_a_truncated_file_is_refused_by_name(keep: float, cnn: Path) -> None:
    path = cnn / "model.onnx"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match="does not load and run in a new process") as refused:
        check(cnn, "model.onnx")
    assert str(path) in str(refused.value)


@pytest.mark.slow
def test_a_good_file_beside_a_missing_one_is_not_enough(cnn: Path) -> None:
    model, spec = load_model(cnn / "model.safetensors")
    (cnn / "gone.onnx").unlink(missing_ok=True)
    files = [cnn / "model.onnx", cnn / "gone.onnx"]
    with pytest.raises(UserError, match=r"gone\.onnx"):
        check_parity(model, spec, files, unlabelled(images_for(cnn, 2)), num_threads=1, tolerance=1.0)


# figures


def test_compare_takes_the_largest_difference_and_counts_equal_classes() -> None:
    expected = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875], [1.0, 0.0]], np.float32)
    actual = np.array([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75], [1.0, 0.0]], np.float32)
    parity = compare(make_spec(), expected, actual)
    assert (parity.max_abs_difference, parity.answers.agreement) == (0.25, 0.75)
    assert parity.differences.tolist() == [0, 0.25, 0.125, 0]
    parity = compare(make_spec(), expected, expected)
    assert (parity.max_abs_difference, parity.answers.agreement) == (0.0, 1.0)


def test_a_difference_that_is_no_number_is_not_hidden() -> None:
    expected = np.full((1, 2), 0.5, np.float32)
    actual = np.array([[0.5, np.nan]], np.float32)
    assert math.isnan(compare(make_spec(), expected, actual).max_abs_difference)


@pytest.mark.parametrize(
    ("difference", "bound"),
    [
        (0.0, 1e-5),
        (1e-9, 1e-5),
        (9.99e-6, 1e-5),
        (1e-5, 1e-4),
        (2.3e-5, 1e-4),
        (9.9e-5, 1e-4),
        (1e-4, 1e-3),
        (0.004, 0.01),
        (0.5, 1.0),
    ],
)
def test_the_bound_is_the_next_power_of_ten(difference: float, bound: float) -> None:
    parity = compare(make_spec(class_names=("a",)), np.zeros((1, 1)), np.array([[difference]]))
    assert parity.bound == bound
    assert parity.to_dict()["max_abs_difference_below"] == bound
    assert difference < parity.bound


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.2, 7.0])
def test_the_temperature_is_inside_every_format(temperature: float, tmp_path: Path) -> None:
    spec = make_spec(temperature=(temperature,))
    torch.manual_seed(0)
    model = make_classifier(spec).eval()
    save_model(model, spec, tmp_path / "checkpoint")
    files = write_formats(
        ["onnx", "pt2"], tmp_path / "checkpoint", Source(model, spec), tmp_path / "export"
    )
    images = images_for(tmp_path / "export", 5)
    logits, probabilities = session_of(files[1]).run(None, {"images": images})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, model(torch.from_numpy(images)).numpy(), atol=1e-5)
    powers = np.exp(logits.astype(np.float64) / temperature)
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images))
    forgotten = replace(spec, temperature=(1.0,))
    for file in files:
        actual = LOADERS[file.suffix](file)(images)
        right, wrong = (probabilities_of(expected, each).numpy() for each in (spec, forgotten))
        assert compare(spec, right, actual).bound == 1e-5
        assert compare(spec, wrong, actual).bound > 1e-3


def test_images_that_differ_are_named_worst_first(tmp_path: Path) -> None:
    expected = np.tile(np.array([0.75, 0.25], np.float32), (14, 1))
    actual = expected.copy()
    actual[1:] -= np.array([0.001, -0.001], np.float32) * np.arange(1, 14)[:, None]
    actual[5] = [0.25, 0.75]
    paths = [f"{index}.png" for index in range(14)]
    spec = make_spec(class_names=("cat", "a,b"))
    lines = disagreement("m.onnx", compare(spec, expected, actual), spec, 1e-4, paths).splitlines()
    assert lines[0].startswith(
        "export: m.onnx differs from the checkpoint by 0.5 in a probability (the same"
    )
    assert "92.9% of 14 images" in lines[0]
    assert lines[1] == "  5.png: the checkpoint predicts cat, m.onnx 'a,b'; difference 0.5"
    assert lines[2] == "  13.png: the checkpoint predicts cat, m.onnx cat; difference 0.013"
    assert len(lines) == 12
    assert lines[-1] == "  and 3 more"
    assert "0.png" not in [line.split(":")[0].strip() for line in lines]


@pytest.mark.parametrize("target", ["one_class", "several_labels"])
def test_scores_of_a_file_are_those_that_evaluate_gives_its_predictions(target: Target) -> None:
    random = np.random.default_rng(0)
    spec = make_spec(class_names=("a", "b", "c"), target=target)
    several = target == "several_labels"
    if several:
        spec = replace(spec, thresholds=(0.5, 0.5, 0.5))
    logits = torch.from_numpy(random.normal(size=(90, 3))).float()
    labels = random.integers(0, 2, (90, 3), np.uint8) if several else random.integers(0, 3, 90)
    groups = random.integers(0, 20, 90)
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    evaluation = evaluate(spec, torch.from_numpy(labels), logits, [f"{i}" for i in range(90)])
    expected = with_intervals(evaluation, groups).metrics
    probabilities = probabilities_of(logits, spec).numpy()
    truth = stored_target(target).indicators(labels, 3)
    good = compare(spec, probabilities, probabilities, truth)
    bad = compare(spec, probabilities, probabilities[:, ::-1], truth)
    scores = scores_of_files({"a": good, "b": good, "c": bad}, groups)
    assert scores["a"] == scores["b"] == {name: expected[name] for name in scores["a"]}
    assert len(scores["a"]) == 6
    assert scores["c"] != scores["a"]


# several labels an image


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported folder of a cnn that gives several labels."""
    folder = tmp_path_factory.mktemp("several")
    spec = make_spec(
        class_names=("a", "b", "c"),
        target="several_labels",
        thresholds=THRESHOLDS,
        temperature=TEMPERATURES,
    )
    torch.manual_seed(0)
    model = make_classifier(spec).eval()
    save_model(model, spec, folder / "checkpoint")
    write_formats(["onnx", "pt2"], folder / "checkpoint", Source(model, spec), folder / "export")
    return folder / "export"


THRESHOLDS = (0.5, 0.4567, 0.5)
TEMPERATURES = (0.3, 1.0, 4.0)


@pytest.mark.slow
def test_the_model_file_keeps_thresholds_to_the_last_digit(several: Path) -> None:
    spec = load_spec(several / "model.safetensors")
    assert (spec.target, spec.thresholds) == ("several_labels", THRESHOLDS)


@pytest.mark.slow
def test_probabilities_of_several_labels_are_sigmoids(several: Path) -> None:
    images = images_for(several, 6)
    model, _ = load_model(several / "model.safetensors")
    program = torch.export.load(several / "model.pt2").module()
    with torch.inference_mode():
        logits = model(torch.from_numpy(images))
        pt2 = program(torch.from_numpy(images))[1].numpy()
    [onnx] = session_of(several / "model.onnx").run(["probabilities"], {"images": images})
    expected = 1 / (1 + np.exp(-logits.double().numpy() / TEMPERATURES))
    for actual in (pt2, onnx):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        assert abs(actual.sum(axis=1) - 1).min() > 0.01  # no softmax


@pytest.mark.slow
def test_parity_of_several_labels_is_that_of_their_sets(several: Path) -> None:
    model, spec = load_model(several / "model.safetensors")
    paths = [several / name for name in FILES]
    images = images_for(several, 7)
    parities = check_parity(model, spec, paths, unlabelled(images[:4], images[4:]), 1, 1e-4)
    for parity in parities.values():
        assert parity.to_dict() == {
            "num_images": 7,
            "max_abs_difference_below": 1e-5,
            "labels_agreement": 1.0,
        }
    one_label = replace(spec, target="one_class", thresholds=None)
    with pytest.raises(UserError, match=r"differs .* \(the same class for"):
        check_parity(model, one_label, paths[1:2], unlabelled(images), 1, 1e-4)


def test_compare_counts_images_with_equal_sets() -> None:
    expected = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875], [1.0, 0.0]], np.float32)
    actual = np.array([[0.75, 0.75], [0.5, 0.25], [0.25, 0.75], [0.5, 0.0]], np.float32)
    # the most probable is the same in all, the set is not in the first
    spec = make_spec(target="several_labels", thresholds=(0.5, 0.6))
    parity = compare(spec, expected, actual)
    assert (parity.max_abs_difference, parity.answers.agreement) == (0.5, 0.75)
    halves = replace(spec, thresholds=(0.5, 0.5))
    assert compare(halves, expected, actual).answers.agreement == 0.5
    assert compare(make_spec(), expected, actual).answers.agreement == 1.0


@pytest.mark.slow
def test_probabilities_that_are_no_numbers_are_refused_with_the_image(cnn: Path) -> None:
    model, spec = load_model(cnn / "model.safetensors")
    images = images_for(cnn, 3)
    with torch.no_grad():
        model.network.head.linear.bias[0] = math.nan
    with pytest.raises(
        UserError, match=r"the checkpoint has outputs that are not finite for 3 of 3 .* a\.png"
    ):
        check_parity(
            model,
            spec,
            [cnn / "model.onnx"],
            unlabelled(images),
            1,
            1e-4,
            paths=["a.png", "b.png", "c.png"],
        )


@pytest.mark.slow
def test_an_exported_file_that_gives_no_numbers_is_refused(cnn: Path, tmp_path: Path) -> None:
    model, spec = load_model(cnn / "model.safetensors")
    broken, _ = load_model(cnn / "model.safetensors")
    with torch.no_grad():
        broken.network.head.linear.bias[0] = math.nan
    save_model(broken, spec, tmp_path / "checkpoint")
    [_, file] = write_formats(
        ["onnx"], tmp_path / "checkpoint", Source(broken, spec), tmp_path / "export"
    )
    with pytest.raises(UserError, match=r"model\.onnx has outputs that are not finite for 2 of 2"):
        check_parity(model, spec, [file], unlabelled(images_for(cnn, 2)), 1, 1e-4)

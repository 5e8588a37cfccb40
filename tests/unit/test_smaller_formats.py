"""Formats with fewer bits: what they hold, how they are judged, and that predict runs them."""

import json
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from PIL import Image
from support import make_spec, unlabelled

from darkroom.commands.predict import predict
from darkroom.errors import UserError
from darkroom.export.formats import FORMATS, is_smaller, write_formats
from darkroom.export.gate import settle
from darkroom.export.layers import float_nodes
from darkroom.export.onnx_int8 import _rounded
from darkroom.export.openvino import check_openvino
from darkroom.export.parity import Parity, check_parity
from darkroom.export.source import Source
from darkroom.models.exported import describe_export
from darkroom.models.factory import make_classifier
from darkroom.models.file import save_model
from darkroom.reporting.tables import write_json

NAMES = ["onnx", "onnx-fp16", "onnx-int8"]
SPEC = make_spec(
    channels=3, input_size=(16, 13), unfamiliarity={"false_alarms": 0.05, "components": 5, "centres": 3}
)


@dataclass(frozen=True)
class Exported:
    source: Source
    images: NDArray[np.uint8]
    files: list[Path]

    def graph(self, name: str) -> onnx.GraphProto:
        return onnx.load(self.files[0].with_name(FORMATS[name].file_name)).graph


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("smaller")
    torch.manual_seed(0)
    model = make_classifier(SPEC).eval()
    assert model.unfamiliarity is not None
    for values in model.unfamiliarity.buffers():
        values.uniform_()
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 13), dtype=np.uint8)
    save_model(model, SPEC, folder / "checkpoint")
    source = Source(model, SPEC, images[:24])
    files = write_formats(NAMES, folder / "checkpoint", source, folder / "export")
    write_json(
        describe_export(SPEC.preprocessing(), folder / "export", files), folder / "export/model.json"
    )
    return Exported(source, images, files)


def stored(graph: onnx.GraphProto, kind: int) -> int:
    """How many numbers of a type the graph stores."""
    return sum(int(np.prod(one.dims)) for one in graph.initializer if one.data_type == kind)


def test_layers_are_stored_with_fewer_bits_and_the_rest_in_float(exported: Exported) -> None:
    weights = sum(values.numel() for values in exported.source.classifier.network.parameters())
    plain, half, quantised = (exported.graph(name) for name in NAMES)
    assert stored(half, TensorProto.FLOAT16) > 0.9 * weights
    assert stored(quantised, TensorProto.INT8) > 0.9 * weights
    for graph in (half, quantised):
        # normalisation, temperature and unfamiliarity have theirs
        assert stored(graph, TensorProto.FLOAT) < stored(plain, TensorProto.FLOAT) - 0.9 * weights
        kinds = [each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)]
        assert kinds == [TensorProto.UINT8, *[TensorProto.FLOAT] * 3]


def test_fp16_is_valid_onnx_and_rounds_no_probability(exported: Exported) -> None:
    file = exported.files[2]
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [probabilities] = session.run(["probabilities"], {"images": exported.images})
    assert (probabilities != probabilities.astype(np.float16)).mean() > 0.9
    with torch.inference_mode():
        _, expected = exported.source.classifier.assess(torch.from_numpy(exported.images))
    [unfamiliarity] = session.run(["unfamiliarity"], {"images": exported.images})
    assert expected is not None
    np.testing.assert_allclose(unfamiliarity, expected.numpy(), rtol=0.01)


def test_first_and_last_layer_are_kept_if_asked(exported: Exported) -> None:
    graph = exported.graph("onnx")
    layers = [node.name for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    in_network = [name for name in layers if name not in float_nodes(graph, False)]
    more = set(float_nodes(graph, True)) - set(float_nodes(graph, False))
    assert more == {in_network[0], in_network[-1]}
    producer = {name: node for node in graph.node for name in node.output}
    kept = set(float_nodes(graph, False))
    assert producer["logits"].name not in kept
    assert {producer["probabilities"].name, producer["unfamiliarity"].name} < kept
    normalises = [node.name for node in graph.node[: [n.name for n in graph.node].index(layers[0])]]
    assert normalises
    assert set(normalises) < kept


def test_int8_ranges_are_those_of_the_calibration_images(exported: Exported) -> None:
    """Against the activations that PyTorch computes for them."""
    graph = exported.graph("onnx-int8")
    [first] = [node for node in graph.node if node.op_type == "Conv"][:1]
    producer = {name: node for node in graph.node for name in node.output}
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    pixels, weights = producer[first.input[0]], producer[first.input[1]]
    scale, zero = values[pixels.input[1]].item(), values[pixels.input[2]].item()

    calibration = torch.from_numpy(exported.source.calibration).float() / 255
    classifier = exported.source.classifier
    normalised = (calibration - classifier.mean) / classifier.std
    low, high = normalised.min().item(), normalised.max().item()
    assert scale == pytest.approx((high - low) / 255, rel=1 / 32)
    assert -zero * scale == pytest.approx(low, abs=scale + abs(low) / 32)
    channels = values[weights.input[1]]
    assert channels.shape == (values[weights.input[0]].shape[0],)
    assert np.abs(values[weights.input[0]]).max() <= 64  # 7 bits


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0, (0, 0)),
        (-1, 1, (-1, 1)),
        (-1.001, 1.001, (-1.015625, 1.015625)),
        (-1.0011, 1.0009, (-1.015625, 1.015625)),  # other last digits, the same range
        (0.3, 5.01, (0.296875, 5.0625)),
    ],
)
def test_ranges_are_widened_to_a_grid(low: float, high: float, expected: tuple[float, float]) -> None:
    assert tuple(_rounded(np.array([low]), np.array(high))) == expected


def test_same_bytes_again_and_others_when_safer(exported: Exported, tmp_path: Path) -> None:
    for name in NAMES[1:]:
        first = exported.files[0].with_name(FORMATS[name].file_name).read_bytes()
        for safer in (False, True):
            FORMATS[name].write(exported.source, tmp_path / "file", safer)
            assert ((tmp_path / "file").read_bytes() == first) is not safer
    fewer = replace(exported.source, calibration=exported.images[:24] // 2)
    vars(fewer)["onnx"] = exported.source.onnx  # to capture it again would take longest
    FORMATS["onnx-int8"].write(fewer, tmp_path / "file", False)
    assert (tmp_path / "file").read_bytes() != exported.files[-1].read_bytes()


def test_only_they_may_differ_from_the_checkpoint(exported: Exported) -> None:
    assert [is_smaller(file) for file in exported.files] == [False, False, True, True]
    model, files = exported.source.classifier, exported.files[-1:]
    batches = unlabelled(exported.images)
    parity = check_parity(model, SPEC, files, batches, 1, 1e-6, smaller=[files[0].name])
    assert 1e-6 < parity["model.int8.onnx"].max_abs_difference < 0.1
    with pytest.raises(UserError, match=r"model\.int8\.onnx differs .*parity_tolerance allows 1e-06"):
        check_parity(model, SPEC, files, batches, 1, 1e-6)


def test_an_image_has_the_same_probabilities_in_any_batch(exported: Exported) -> None:
    for file in exported.files[2:]:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        images = exported.images
        [together] = session.run(["probabilities"], {"images": images})
        for size in (2, 7):
            parts = [
                session.run(["probabilities"], {"images": images[at : at + size]})[0]
                for at in range(0, 35, size)
            ]
            np.testing.assert_array_equal(np.concatenate(parts)[:35], together[:35])


# the gate

TRUTH = np.eye(3, dtype=np.float32)[np.arange(300) % 3]


CLASSES = make_spec(class_names=("cat", "dog", "fox"))


def wrong(num_images: int) -> Parity:
    """A file that takes this many images of the first class for the second; the checkpoint is right."""
    outputs, parity = TRUTH.copy(), Parity(CLASSES)
    outputs[np.flatnonzero(TRUTH[:, 0])[:num_images]] = [0, 1, 0]
    parity.add(TRUTH, outputs, TRUTH > 0)
    return parity


def settled(first: int, second: int, drop: float) -> tuple[int, bool]:
    """How often the file was written again, and whether the judged one is safer."""
    calls = []

    def again() -> Parity:
        calls.append(second)
        return wrong(second)

    parity, judged = settle("model.int8.onnx", wrong(first), again, None, CLASSES.class_names, drop)
    assert parity.answers.scored == wrong(second if judged.safer else first).answers.scored
    return len(calls), judged.safer


def test_a_file_that_loses_too_much_is_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert settled(0, 0, 0) == (0, False)
    assert settled(1, 0, 0.05) == (0, False)
    assert capsys.readouterr().out == ""
    assert settled(30, 1, 0.05) == (1, True)
    told = capsys.readouterr().out
    assert (
        "export.max_f1_drop allows no bound below -0.05. F1 falls in: cat (1.0000 to 0.8235), dog"
        in told
    )
    assert "fox" not in told


def test_a_file_that_still_loses_too_much_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"macro F1 by -0\.\d+ .*F1 falls in: cat .*Remove the format from"
    ):
        settled(30, 20, 0.05)


def test_the_interval_counts_and_not_the_change_alone() -> None:
    changed = 0.005  # of macro F1, by one image
    assert abs(settle_change(1)) < changed
    assert settled(1, 0, changed) == (1, True)


def settle_change(num_images: int) -> float:
    parity = wrong(num_images)
    _, judged = settle("file", parity, lambda: parity, None, CLASSES.class_names, 1)
    assert judged.to_dict()["float_layers"] == "none"
    return float(judged.to_dict()["f1_macro_change"])


def test_masks_are_judged_by_the_f1_of_their_pixels() -> None:
    spec = make_spec(target="mask", input_size=(2, 4), class_names=("ground", "disc"))
    truth = np.array([[[0, 0, 0, 1], [0, 1, 1, 1]]], np.uint8)
    expected = np.stack([1.0 - truth, truth], axis=1).astype(np.float32)
    outputs = expected.copy()
    outputs[0, :, 0, 3] = [1, 0]  # a pixel of the disc is taken for ground
    parity = Parity(spec)
    parity.add(expected, outputs, truth)
    _, judged = settle("file", parity, lambda: parity, None, spec.class_names, 1)
    before, after = judged.paired.scores
    assert before == 1
    assert after == pytest.approx((8 / 9 + 6 / 7) / 2)


# predict


@pytest.mark.parametrize("name", NAMES[1:])
def test_predict_runs_them_after_checking_their_digest(
    name: str, exported: Exported, tmp_path: Path
) -> None:
    folder = exported.files[0].parent
    picture = tmp_path / "picture.png"
    Image.fromarray(exported.images[0].transpose(1, 2, 0)).save(picture)
    arguments = [f"{folder}", f"{picture}", "--format", name]
    result = CliRunner().invoke(predict, arguments, catch_exceptions=False)
    session = onnxruntime.InferenceSession(folder / FORMATS[name].file_name)
    [expected] = session.run(["probabilities"], {"images": exported.images[:1]})
    assert result.output.split("\t")[1:3] == [
        SPEC.class_names[expected[0].argmax()],
        f"{expected[0].max():.6f}",
    ]
    file = folder / FORMATS[name].file_name
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match=rf"{file.name}: .*model\.json records it"):
            CliRunner().invoke(predict, arguments, catch_exceptions=False)
    finally:
        file.write_bytes(content)


# OpenVINO


@pytest.mark.skipif(find_spec("openvino") is not None, reason="openvino is installed")
def test_openvino_is_asked_for() -> None:
    with pytest.raises(
        UserError, match=r"openvino needs the package openvino; install .*darkroom\[openvino\]"
    ):
        check_openvino()


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs the package openvino")
def test_openvino_agrees_with_the_checkpoint(exported: Exported, tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        checkpoint = exported.files[0]
        _, file = write_formats(["openvino"], checkpoint, exported.source, folder)
        contents.append([path.read_bytes() for path in (file, file.with_name("model.bin"))])
        assert sorted(path.name for path in folder.iterdir()) == [
            "model.bin",
            "model.safetensors",
            "model.xml",
        ]
    assert contents[0] == contents[1]
    [parity] = check_parity(
        exported.source.classifier, SPEC, [file], unlabelled(exported.images), 1, 1e-5
    ).values()
    assert json.dumps(parity.to_dict())

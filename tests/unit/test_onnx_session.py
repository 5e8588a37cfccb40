"""ONNX files that ONNX Runtime may load, but that are no classifier of these images."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from darkroom.errors import UserError
from darkroom.prediction.onnx_session import OnnxClassifier

UINT8, FLOAT, INT64 = TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64
IMAGES = ["batch", 3, 4, 4]


def model(
    inputs: dict[str, tuple[int, list]] | None = None,
    outputs: dict[str, tuple[int, list | None]] | None = None,
    nodes: list[onnx.NodeProto] | None = None,
    initializers: tuple[onnx.TensorProto, ...] = (),
) -> onnx.ModelProto:
    """A classifier that sums each channel, so that there are three classes; or what is asked for."""
    inputs = inputs or {"images": (UINT8, IMAGES)}
    outputs = outputs or {"probabilities": (FLOAT, ["batch", 3])}
    nodes = nodes or [
        helper.make_node("Cast", ["images"], ["floats"], to=FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["means"]),
        helper.make_node("Flatten", ["means"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def loaded(content: bytes, folder: Path) -> OnnxClassifier:
    (folder / "model.onnx").write_bytes(content)
    return OnnxClassifier(folder / "model.onnx", (3, 4, 4), (3,), folder / "model.json")


def test_a_classifier_gives_a_row_per_image(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    found = loaded(model().SerializeToString(), tmp_path).run(images)[0]
    np.testing.assert_allclose(found, images.mean((2, 3)), rtol=1e-6)


def without_opset() -> onnx.ModelProto:
    made = model()
    del made.opset_import[:]
    return made


def with_external_data() -> onnx.ModelProto:
    weights = helper.make_tensor("w", FLOAT, [1], [0.0])
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../elsewhere.bin")
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Add", ["flat", "w"], ["probabilities"]),
    ]
    return model(nodes=nodes, initializers=(weights,))


def that_fails() -> onnx.ModelProto:
    """The shapes agree in what is declared, and not when it runs."""
    shape = helper.make_tensor("shape", INT64, [2], [7, 7])
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["probabilities"]),
    ]
    return model(nodes=nodes, initializers=(shape,))


def of_the_future() -> onnx.ModelProto:
    made = model()
    made.ir_version = 99
    return made


ODD: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "no bytes": (lambda: b"", "cannot be loaded"),
    "no ONNX": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be loaded"),
    "a later version": (of_the_future, r"cannot be loaded \(Unsupported model IR version: 99, max"),
    "no opset": (without_opset, "cannot be loaded"),
    "an unknown operator": (
        lambda: model(nodes=[helper.make_node("Guess", ["images"], ["probabilities"], domain="mine")]),
        "cannot be loaded",
    ),
    "data elsewhere": (with_external_data, "cannot be loaded"),
    "two inputs": (
        lambda: model(inputs={"images": (UINT8, IMAGES), "more": (FLOAT, [1])}),
        "the inputs 'images', 'more'",
    ),
    "another output": (
        lambda: model(
            outputs={"scores": (FLOAT, ["batch", 3])},
            nodes=[
                helper.make_node("Cast", ["images"], ["floats"], to=FLOAT),
                helper.make_node("GlobalAveragePool", ["floats"], ["means"]),
                helper.make_node("Flatten", ["means"], ["scores"]),
            ],
        ),
        "the outputs 'scores'",
    ),
    "fractions": (
        lambda: model(
            inputs={"images": (FLOAT, IMAGES)},
            nodes=[
                helper.make_node("GlobalAveragePool", ["images"], ["means"]),
                helper.make_node("Flatten", ["means"], ["probabilities"]),
            ],
        ),
        r"its input is tensor\(float\)",
    ),
    "one image at a time": (
        lambda: model(
            inputs={"images": (UINT8, [1, 3, 4, 4])}, outputs={"probabilities": (FLOAT, [1, 3])}
        ),
        "its input is",
    ),
    "no width": (
        lambda: model(
            inputs={"images": (UINT8, ["batch", 3])},
            nodes=[helper.make_node("Cast", ["images"], ["probabilities"], to=FLOAT)],
        ),
        "its input is",
    ),
    "other images": (lambda: model(inputs={"images": (UINT8, ["batch", 3, 5, 5])}), "another model"),
    "other classes": (
        lambda: model(
            inputs={"images": (UINT8, ["batch", 4, 4, 4])},
            outputs={"probabilities": (FLOAT, ["batch", 4])},
        ),
        "another model",
    ),
    "an error on every image": (that_fails, "fails on an image|another model|cannot be loaded"),
}


@pytest.mark.parametrize(("make", "reason"), ODD.values(), ids=ODD)
def test_odd_files_are_refused_in_one_line(
    make: Callable[[], onnx.ModelProto | bytes],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = make()
    content = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(UserError, match=reason) as refused:
        loaded(content, tmp_path)
    assert f"{tmp_path / 'model.onnx'}" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not re.search("onnxruntime(_src)?[/:]|ONNXRuntimeError|Load model from", str(refused.value))
    assert capfd.readouterr().err == ""


OFF = "from darkroom.telemetry import switch_off_telemetry; switch_off_telemetry(); "


@pytest.mark.parametrize(("before", "left"), [("", [".ses"]), (OFF, [])])
def test_onnx_runtime_collects_nothing_about_users(before: str, left: list[str], tmp_path: Path) -> None:
    """With telemetry, importing it leaves the number of a session among the temporary files.

    It is off where the environment is that of a CI server, so nothing of ours is passed on.
    """
    subprocess.run(
        [sys.executable, "-c", f"{before}import onnxruntime"], env={"TMPDIR": f"{tmp_path}"}, check=True
    )
    assert [path.name for path in tmp_path.iterdir()] == left

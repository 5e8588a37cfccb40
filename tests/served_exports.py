"""Small exports made by hand, of each kind that `darkroom serve` takes, and images for them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from darkroom.models.exported import describe_export
from darkroom.reporting.tables import write_json

NAMES = ("cat", "dog, big", "</script><b>x", "Äther")
SIZE = (12, 10)


def draw(seed: int, size: tuple[int, int] = (10, 12), kind: str = "PNG") -> bytes:
    """An image of blocks in random colours."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(encoded, kind)
    return encoded.getvalue()


IMAGES = {
    f"{seed}.{kind.lower()}": draw(seed, (10 + seed, 30 - seed), kind)
    for seed, kind in enumerate(["PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM"])
}


def write_export(
    folder: Path, seed: int = 0, names: Sequence[str] = NAMES, size: tuple[int, int] = SIZE
) -> Path:
    """Writes what the export stage writes, of a small convolution with random weights."""
    random = np.random.default_rng(seed)
    weights = {
        "kernel": random.normal(0, 0.01, (8, 3, 3, 3)),
        "linear": random.normal(0, 2, (8, len(names))),
        "centre": random.normal(0, 1, 8),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["floats", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "linear"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Sub", ["features", "centre"], ["apart"]),
        helper.make_node("ReduceL2", ["apart"], ["unfamiliarity"], axes=[1], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 3, *size])]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(names)]),
        helper.make_tensor_value_info("unfamiliarity", TensorProto.FLOAT, ["n"]),
    ]
    described = {
        "class_names": list(names),
        "input_size": list(size),
        "channels": 3,
        "resize": "stretch",
        "abstention": {"target_precision": 0.9, "threshold": 0.99},
    }
    return _write(folder, nodes, inputs, outputs, weights, described)


def write_mask_export(folder: Path) -> Path:
    """Writes the export of a model that compares each pixel with a colour per class."""
    weights = {"kernel": np.random.default_rng(0).normal(0, 0.02, (3, 3, 1, 1))}
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["floats", "kernel"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 3, 16, 16])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3, 16, 16])]
    described = {
        "class_names": ["ground", "disc", "square"],
        "input_size": [16, 16],
        "channels": 3,
        "resize": "stretch",
        "target": "mask",
    }
    return _write(folder, nodes, inputs, outputs, weights, described)


def write_row_export(folder: Path) -> Path:
    """Writes the export of a linear model of the columns ``age`` and ``colour``."""
    weights = {"median": np.array(40.0), "linear": np.random.default_rng(0).normal(0, 1, (2, 3))}
    nodes = [
        helper.make_node("Cast", ["age"], ["years"], to=TensorProto.FLOAT),
        helper.make_node("IsNaN", ["years"], ["missing"]),
        helper.make_node("Where", ["missing", "median", "years"], ["filled"]),
        helper.make_node(
            "LabelEncoder",
            ["colour"],
            ["code"],
            domain="ai.onnx.ml",
            keys_strings=["blue", "red"],
            values_floats=[-20.0, 20.0],
            default_float=0.0,
        ),
        helper.make_node("Unsqueeze", ["filled", "one"], ["left"]),
        helper.make_node("Unsqueeze", ["code", "one"], ["right"]),
        helper.make_node("Concat", ["left", "right"], ["features"], axis=1),
        helper.make_node("MatMul", ["features", "linear"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "tenth"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info("age", TensorProto.DOUBLE, ["n"]),
        helper.make_tensor_value_info("colour", TensorProto.STRING, ["n"]),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])]
    described = {
        "class_names": ["low", "middle", "high"],
        "encoding": {
            "columns": {"age": "number", "colour": "category"},
            "numbers": [{"name": "age", "median": 40.0, "mean": 40.0, "std": 1.0}],
            "categories": [{"name": "colour", "values": ["blue", "red"]}],
        },
    }
    weights["tenth"] = np.array(0.1)
    return _write(folder, nodes, inputs, outputs, weights, described)


def _write(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Any],
    described: Mapping[str, Any],
) -> Path:
    stored = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    stored.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    graph = helper.make_graph(nodes, "graph", inputs, outputs, stored)
    folder.mkdir(parents=True, exist_ok=True)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    write_json(describe_export(described, folder, [folder / "model.onnx"]), folder / "model.json")
    return folder

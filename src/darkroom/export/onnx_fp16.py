"""Write ONNX with the weights and the values between layers as float16."""

from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from darkroom.export.layers import float_nodes
from darkroom.export.source import Source


def write_onnx_fp16(source: Source, path: Path, safer: bool) -> None:
    """Write the ONNX model in float16; inputs and outputs have the types of the float32 file.

    Args:
        safer: whether the first and the last layer keep float32.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load_from_string(source.onnx)
    half = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=float_nodes(model.graph, safer)
    )
    _mend_casts(half.graph)
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)
    path.write_bytes(half.SerializeToString(deterministic=True))


def _mend_casts(graph: GraphProto) -> None:
    """Correct what the converter does around nodes that keep float32.

    It writes a cast once per use, under the same name, which is not valid ONNX; and it rounds what one
    such node hands to the next to float16.
    """
    nodes = {tuple(node.output): node for node in graph.node}
    floats = {
        node.output[0]: node.input[0] for node in nodes.values() if _casts(node, TensorProto.FLOAT16)
    }
    for node in nodes.values():
        if _casts(node, TensorProto.FLOAT) and node.input[0] in floats:
            node.input[0] = floats[node.input[0]]
    used = {name for node in nodes.values() for name in node.input} | {one.name for one in graph.output}
    kept = [node for node in nodes.values() if used.intersection(node.output)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)


def _casts(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind

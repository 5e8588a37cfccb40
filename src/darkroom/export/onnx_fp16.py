"""Write ONNX with the weights and the values between layers as float16."""

from pathlib import Path

import onnx

from darkroom.export.layers import float_nodes
from darkroom.export.source import Source


def write_onnx_fp16(source: Source, path: Path, safer: bool) -> None:
    """Write the ONNX model in float16; inputs and outputs have the types of the float32 file.

    Args:
        safer: whether the first and the last layer keep float32.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load_from_string(source.onnx)
    half = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=float_nodes(model.graph, safer)
    )
    path.write_bytes(half.SerializeToString(deterministic=True))

"""Write ONNX with the weights and the values between layers as integers of 8 bits."""

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from darkroom.dataset.shards import Shards
from darkroom.export.layers import float_nodes
from darkroom.export.source import Source, strip_traces

NUM_CALIBRATION = 256
"""Maximum number of training images that are looked at."""

BATCH_SIZE = 16
"""Number of calibration images in memory at once, with all values between layers."""

STEPS = 64
"""A range is widened to a multiple of the power of two below it, divided by this."""

OPERATORS = (
    *("Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Flatten", "Gemm"),
    *("GlobalAveragePool", "MatMul", "MaxPool", "Mul", "Relu", "Reshape", "Transpose"),
)
"""What computes with integers."""


def calibration_images(train: Shards) -> NDArray[np.uint8]:
    """Return training images at equal distances, uint8 ``(n, channels, height, width)``."""
    indices = np.linspace(0, len(train) - 1, min(NUM_CALIBRATION, len(train))).astype(np.int64)
    return np.ascontiguousarray(train.gather(indices).transpose(0, 3, 1, 2))


def write_onnx_int8(source: Source, path: Path, safer: bool) -> None:
    """Write the ONNX model quantised by ONNX Runtime: static, with QuantizeLinear and DequantizeLinear.

    Weights are signed, with a scale per channel, and values between layers unsigned, with a scale per
    tensor: their range is that which the calibration images show. Weights have 7 bits, because sums of
    products of 8 bits overflow on x86 processors without VNNI: so the answers are the same with it and
    without.

    Args:
        safer: whether the first and the last layer keep float32.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
    from onnxruntime.quantization.quantize import save_tensors_data

    assert source.calibration is not None
    model = onnx.load_from_string(source.onnx)
    kept = float_nodes(model.graph, safer)
    # without it, the quantiser asks for normalisation layers to be folded, which the exporter has done
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with TemporaryDirectory(prefix="darkroom-int8-") as name:
        plain, ranges, quantised = (Path(name, file) for file in ("plain.onnx", "ranges", "int8.onnx"))
        onnx.save(model, plain)
        calibrator = create_calibrator(
            plain, OPERATORS, f"{Path(name, 'augmented.onnx')}", CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Batches(source.calibration))
        measured = calibrator.compute_data()
        rounded = {tensor: _rounded(*data.range_value) for tensor, data in measured.items()}
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, rounded), ranges)
        quantize_static(
            plain,
            quantised,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            calibration_cache_path=ranges,
        )
        written = onnx.load(quantised)
    strip_traces(written)
    path.write_bytes(written.SerializeToString(deterministic=True))


class _Batches:
    """Calibration images as ONNX Runtime's quantiser reads them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        starts = range(0, len(images), BATCH_SIZE)
        self._batches: Iterator[NDArray[np.uint8]] = (images[at : at + BATCH_SIZE] for at in starts)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _rounded(
    low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the range widened a little, so that it does not depend on the last bits of the values.

    These depend on the instruction set of the CPU, and the bytes of the file must not.
    """
    return np.array(-_up(-low.item()), np.float32), np.array(_up(high.item()), np.float32)


def _up(value: float) -> float:
    if value == 0:
        return 0.0
    step = 2.0 ** (math.frexp(value)[1] - 1) / STEPS
    return math.ceil(value / step) * step

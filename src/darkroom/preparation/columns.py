"""Builds columns of a segment from arrays and bytes, without ``pa.array``, which imports pandas."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BINARY = pa.binary()


def texts(values: Sequence[str], is_valid: NDArray[np.bool_]) -> pa.Array:
    """Return a column of texts, of which the invalid ones, all empty, become null."""
    encoded = [value.encode() for value in values]
    sizes = np.array([len(text) for text in encoded])[is_valid]
    return binaries(b"".join(encoded), sizes, is_valid, pa.string())


def fixed(values: NDArray, is_valid: NDArray[np.bool_]) -> pa.Array:
    """Return a column of numbers, truth values or bytes of equal size (dtype V); null if not valid.

    Args:
        values: those of the valid rows.
    """
    spread = np.zeros(len(is_valid), values.dtype)
    spread[is_valid] = values
    is_bytes = values.dtype.kind == "V"
    kind = pa.binary(values.itemsize) if is_bytes else pa.from_numpy_dtype(values.dtype)
    data = np.packbits(spread, bitorder="little") if values.dtype == bool else spread.view(np.uint8)
    return pa.Array.from_buffers(kind, len(is_valid), [_bits(is_valid), pa.py_buffer(data)])


def binaries(
    data: Any, sizes: NDArray[np.int64], is_valid: NDArray[np.bool_], kind: pa.DataType = BINARY
) -> pa.Array:
    """Return a column without copying its bytes; null if not valid.

    Args:
        data: the bytes of all valid rows, one after the other.
        sizes: number of bytes of each valid row.
    """
    lengths = np.zeros(len(is_valid) + 1, np.int32)
    lengths[1:][is_valid] = sizes
    offsets = np.cumsum(lengths, dtype=np.int32)
    buffers = [_bits(is_valid), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(is_valid), buffers)


def _bits(is_valid: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(is_valid, bitorder="little"))

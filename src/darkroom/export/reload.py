"""Run an exported file on images: ``python -m darkroom.export.reload`` in a new process.

It reads batches of images from its standard input, and writes the outputs for each to its
standard output. At the end of its input it measures how long the model takes, and writes that as JSON.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.compute.latency import time_in_turn

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import Tensor

    from darkroom.models.spec import ModelSpec

LARGE_BATCH = 32
"""Number of images per batch for the throughput."""

Run = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Returns a file's outputs for images, uint8 ``(n, channels, height, width)``, or rows.

These are the probabilities and, if the model measures it, the unfamiliarity as a last column:
``(n, num_classes)`` or ``(n, num_classes + 1)``.
"""


class Assessor(Protocol):
    """What is run as the checkpoint: a ``Classifier``, or one behind a view."""

    def assess(self, images: "Tensor") -> tuple["Tensor", "Tensor | None"]:
        """Return logits and unfamiliarity, as ``Classifier.assess``."""
        ...


def load_safetensors(path: Path) -> Run:
    """Return what runs the checkpoint."""
    from darkroom.models.file import load_model

    return run_of(*load_model(path))


def run_of(model: Assessor, spec: "ModelSpec") -> Run:
    """Return what runs a model in this process."""
    import torch

    from darkroom.models.classifier import probabilities_of

    @torch.inference_mode()
    def run(images: NDArray[Any]) -> NDArray[np.float32]:
        logits, unfamiliarity = model.assess(torch.from_numpy(images))
        outputs = probabilities_of(logits, spec), unfamiliarity
        return _columns(*(output.numpy() for output in outputs if output is not None))

    return run


def load_pt2(path: Path) -> Run:
    """Return what runs a ``torch.export`` archive."""
    import torch

    model = torch.export.load(path).module()

    @torch.inference_mode()
    def run(images: NDArray[Any]) -> NDArray[np.float32]:
        _, *outputs = model(torch.from_numpy(images))
        return _columns(*(output.numpy() for output in outputs))

    return run


def load_onnx(path: Path) -> Run:
    """Return what runs an ONNX file on the CPU."""
    import onnxruntime

    from darkroom.export.feeds import onnx_feeds
    from darkroom.models.spec import load_spec

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    num_axes = len(session.get_inputs()[0].shape)
    if num_axes == 3:
        return _of_pictures(session)
    # the columns of a table are vectors; only their codes need the checkpoint beside the file
    has_columns = num_axes == 1
    encoding = load_spec(path.with_name("model.safetensors")).encoding if has_columns else None

    def run(images: NDArray[Any]) -> NDArray[np.float32]:
        _, *outputs = session.run(None, onnx_feeds(images, encoding))
        return _columns(*outputs)

    return run


def _of_pictures(session: "InferenceSession") -> Run:
    """Return what runs a file that takes one picture, uint8 ``(height, width, 3)``."""

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pictures = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        if pictures.shape[3] == 1:
            pictures = pictures.repeat(3, axis=3)
        answers = [session.run(None, {"image": picture})[1:] for picture in pictures]
        return _columns(*map(np.concatenate, zip(*answers, strict=True)))

    return run


def load_openvino(path: Path) -> Run:
    """Return what runs an OpenVINO model on the CPU."""
    import openvino

    # without the hint, processors that have bfloat16 compute with it
    model = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        _, *outputs = model(images).values()
        return _columns(*outputs)

    return run


def _columns(
    probabilities: NDArray[np.float32], unfamiliarity: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    return probabilities if unfamiliarity is None else np.column_stack([probabilities, unfamiliarity])


LOADERS = {
    ".safetensors": load_safetensors,
    ".pt2": load_pt2,
    ".onnx": load_onnx,
    ".xml": load_openvino,
}


def write_array(array: NDArray[np.generic], file: IO[bytes]) -> None:
    """Write an array into a pipe: a line with its type and shape, and its bytes."""
    file.write(json.dumps([array.dtype.str, array.shape]).encode() + b"\n" + array.tobytes())
    file.flush()


def read_array(file: IO[bytes]) -> NDArray[Any] | None:
    """Return what ``write_array`` wrote; None at the end of the file, also if it comes too early."""
    line = file.readline()
    if not line:
        return None
    dtype, shape = json.loads(line)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    content = bytearray(file.read(size))  # torch wants memory that may be written
    return np.frombuffer(content, dtype).reshape(shape) if len(content) == size else None


def measure(run: Run, some: NDArray[Any]) -> dict[str, float]:
    """Return the latency of one image, and the throughput of large batches.

    Args:
        some: images, which are repeated.

    Returns:
        ``p50_ms`` and ``p99_ms`` of one image, and ``images_per_second`` in batches of ``LARGE_BATCH``.
    """
    images = some[np.arange(LARGE_BATCH) % len(some)]
    alone = time_in_turn([partial(run, images[:1])], max_seconds=3)
    together = time_in_turn(
        [partial(run, images)], num_rounds=20, min_rounds=3, max_seconds=3, num_warm_ups=1
    )
    p50, p99 = np.quantile(1e3 * alone, (0.5, 0.99)).tolist()
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "images_per_second": LARGE_BATCH / float(np.median(together)),
    }


def main() -> None:
    """``reload FILE NUM_THREADS``"""
    path, num_threads = Path(sys.argv[1]), int(sys.argv[2])
    from darkroom.compute.determinism import set_determinism

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not an answer
    if path.suffix in (".safetensors", ".pt2"):
        set_determinism(0, num_threads)
    run = LOADERS[path.suffix](path)
    last = None
    while (images := read_array(sys.stdin.buffer)) is not None:
        last = images
        write_array(run(images), answers)
    assert last is not None
    answers.write(json.dumps(measure(run, last)).encode())
    answers.close()


if __name__ == "__main__":
    main()

"""Run an exported file on images: ``python -m darkroom.export.reload`` in a new process."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def run_safetensors(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the checkpoint's outputs for uint8 NCHW images.

    Returns:
        the probabilities, and, if the model measures it, the unfamiliarity as a last column:
        ``(n, num_classes)`` or ``(n, num_classes + 1)``.
    """
    import torch

    from darkroom.models.classifier import probabilities_of
    from darkroom.models.file import load_model

    model, spec = load_model(path)
    with torch.inference_mode():
        logits, *unfamiliarity = model.assess(torch.from_numpy(images))
        outputs = probabilities_of(logits, spec), *(one for one in unfamiliarity if one is not None)
    return _columns(*(output.numpy() for output in outputs))


def run_pt2(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the outputs of a ``torch.export`` archive, as ``run_safetensors``."""
    import torch

    model = torch.export.load(path).module()
    with torch.inference_mode():
        _, *outputs = model(torch.from_numpy(images))
    return _columns(*(output.numpy() for output in outputs))


def run_onnx(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the outputs of an ONNX file on the CPU, as ``run_safetensors``."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    _, *outputs = session.run(None, {"images": images})
    return _columns(*outputs)


def _columns(
    probabilities: NDArray[np.float32], unfamiliarity: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    return probabilities if unfamiliarity is None else np.column_stack([probabilities, unfamiliarity])


RUNNERS = {".safetensors": run_safetensors, ".pt2": run_pt2, ".onnx": run_onnx}


def main() -> None:
    """``reload MODEL IMAGES.npy NUM_THREADS OUT.npy``"""
    model, images, num_threads, out = sys.argv[1:]
    from darkroom.compute.determinism import set_determinism

    path = Path(model)
    if path.suffix != ".onnx":
        set_determinism(0, int(num_threads))
    np.save(out, RUNNERS[path.suffix](path, np.load(images)))


if __name__ == "__main__":
    main()

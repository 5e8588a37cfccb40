"""Runs one exported file on images, in a process of its own: ``python -m darkroom.export.reload``."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def run_safetensors(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Runs the checkpoint. As the others: uint8 NCHW in, probabilities ``(n, num_classes)`` out."""
    import torch

    from darkroom.models.classifier import probabilities_of
    from darkroom.models.file import load_model

    model, spec = load_model(path)
    with torch.inference_mode():
        return probabilities_of(model(torch.from_numpy(images)), spec.multi_label).numpy()


def run_pt2(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Runs a ``torch.export`` archive."""
    import torch

    model = torch.export.load(path).module()
    with torch.inference_mode():
        _, probabilities = model(torch.from_numpy(images))
    return probabilities.numpy()


def run_onnx(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Runs an ONNX file with ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [probabilities] = session.run(["probabilities"], {"images": images})
    return probabilities


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

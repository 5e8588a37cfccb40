"""Run an exported file on images: ``python -m darkroom.export.reload`` in a new process."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def run_safetensors(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the checkpoint's probabilities, ``(n, num_classes)``, of uint8 NCHW images."""
    import torch

    from darkroom.models.classifier import probabilities_of
    from darkroom.models.file import load_model

    model, spec = load_model(path)
    with torch.inference_mode():
        return probabilities_of(model(torch.from_numpy(images)), spec).numpy()


def run_pt2(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities of a ``torch.export`` archive, as ``run_safetensors``."""
    import torch

    model = torch.export.load(path).module()
    with torch.inference_mode():
        _, probabilities = model(torch.from_numpy(images))
    return probabilities.numpy()


def run_onnx(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities of an ONNX file on the CPU, as ``run_safetensors``."""
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

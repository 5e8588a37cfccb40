"""Write golden vectors: images, and the tensors and probabilities that any use of the model must give.

``docs/export.md`` describes the files, and ``docs/decisions/0044-golden-vectors.md`` says why they are
not the original files.
"""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from darkroom.dataset.views import EvaluationView
from darkroom.decoding.decode import PixelLayout, decode
from darkroom.models.classifier import Classifier, probabilities_of
from darkroom.models.spec import ModelSpec

FOLDER = "golden"
EXPECTED = "expected.txt"
PATTERN = "pattern"
"""Name of the drawn image, which has another size than the model's input."""


def one_per_class(targets: NDArray[np.generic], max_images: int) -> NDArray[np.int64]:
    """Return the indices of the first image of each class, in the order of the classes.

    Args:
        targets: which classes each image has, ``(n, num_classes)``, 1 or 0.
        max_images: maximum number of indices.
    """
    first = [np.flatnonzero(column)[:1] for column in targets.T]
    indices = dict.fromkeys(np.concatenate(first).tolist())  # ordered; an image may have several
    return np.array(list(indices)[:max_images], np.int64)


def write_golden(
    model: Classifier, spec: ModelSpec, images: NDArray[np.uint8], tolerance: float, folder: Path
) -> list[Path]:
    """Write the folder ``golden`` of an export, and replace an existing one.

    The probabilities are those of the checkpoint, with masks their means over the pixels. An exported
    file may differ by ``tolerance``.

    Args:
        images: prepared images before the model's crop, uint8 ``(n, height, width, channels)``. They are
            named by number; a drawn pattern, which has to be resized, is added.
        folder: the exported folder.

    Returns:
        the files.
    """
    golden = folder / FOLDER
    shutil.rmtree(golden, ignore_errors=True)  # images of an earlier export may not be handed out
    golden.mkdir(parents=True)
    pictures = {f"{number}": image for number, image in enumerate(images)}
    layout = _layout(spec)
    pictures[PATTERN] = draw_pattern(layout)
    files = []
    tensors = []
    for name, pixels in pictures.items():
        encoded = _encode(pixels)
        tensors.append(_tensor(encoded, layout, spec))
        for suffix, content in ((".png", encoded), (".u8", tensors[-1].tobytes())):
            files.append(golden / f"{name}{suffix}")
            files[-1].write_bytes(content)
    with torch.inference_mode():
        logits, _ = model.assess(torch.from_numpy(np.stack(tensors)))
        probabilities = probabilities_of(logits, spec).reshape(*logits.shape[:2], -1).mean(dim=2).numpy()
    files.append(golden / EXPECTED)
    shape = len(pictures), *tensors[0].shape, len(spec.class_names)
    lines = [" ".join(map(str, shape)) + f" {tolerance:g}", *_rows(list(pictures), probabilities)]
    files[-1].write_text("".join(f"{line}\n" for line in lines), encoding="ascii", newline="\n")
    return files


def draw_pattern(layout: PixelLayout) -> NDArray[np.uint8]:
    """Return an RGB image to resize: fine and coarse detail, of another size and other proportions.

    Returns:
        uint8 ``(2 * height + 3, width + 5, 3)``.
    """
    y, x = np.mgrid[: 2 * layout.height + 3, : layout.width + 5]
    return np.stack([5 * x + 3 * y, x * y, 255 * ((x // 3 + y // 5) % 2)], axis=2).astype(np.uint8)


def _layout(spec: ModelSpec) -> PixelLayout:
    height, width = spec.prepared_size or spec.input_size
    return PixelLayout(height, width, spec.channels, spec.resize)  # type: ignore[arg-type]


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file; without compression, whose bytes can depend on the CPU."""
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG", compress_level=0)
    return file.getvalue()


def _tensor(encoded: bytes, layout: PixelLayout, spec: ModelSpec) -> NDArray[np.uint8]:
    """Return the model's input for an image file: uint8 ``(channels, height, width)``."""
    _, pixels = decode(encoded, layout)
    view = EvaluationView.of(spec.input_size, spec.evaluate_crop)
    if view is not None:
        pixels = view(pixels[None])[0]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _rows(names: list[str], probabilities: NDArray[np.float32]) -> Iterator[str]:
    """Yield a line per image; nine digits identify a float32."""
    for name, row in zip(names, probabilities.tolist(), strict=True):
        yield " ".join([name, *(f"{probability:.9g}" for probability in row)])

"""The mask of an image of any size: tiles that overlap, and the way back to the image's own size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom.dataset import resampling
from darkroom.dataset.views import EvaluationView
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, resize, scale_to_fit
from darkroom.decoding.formats import MAX_PIXELS

MIN_OVERLAP = 4
"""Neighbouring tiles share at least one pixel in this many, along each side."""

NOT_FINITE = "the model's probabilities for it are not finite"

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Returns probabilities ``(n, num_classes, h, w)`` for uint8 images ``(n, channels, h, w)``."""


class NotFiniteError(Exception):
    """A probability of a tile is not finite."""


@dataclass(frozen=True)
class Canvas:
    """An image at the scale at which the model sees it."""

    pixels: NDArray[np.uint8]
    """``(height, width, channels)``, at least as large as the model's input."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the image; what is outside is padding."""
    size: tuple[int, int]
    """Width and height of the image itself, as displayed."""


def make_canvas(
    image: Image.Image, layout: PixelLayout, view: EvaluationView | None, own_scale: bool
) -> Canvas:
    """Return an image scaled as the model's images are prepared, but with all of it.

    Args:
        layout: that of prepared images. ``crop`` does not cut, so that the canvas is larger.
        view: that of the model, on prepared images.
        own_scale: do not shrink images that are larger than prepared ones.

    Raises:
        BadImage: the canvas would have too many pixels.
    """
    width, height = image.size
    corner, inner = (0, 0), (layout.width, layout.height)
    keeps_scale = own_scale and (width > layout.width or height > layout.height)
    if keeps_scale or layout.resize == "crop":
        covering = max(layout.width / width, layout.height / height)
        scale = max(covering, 1) if keeps_scale else covering
        inner = max(round(width * scale), layout.width), max(round(height * scale), layout.height)
        if inner[0] * inner[1] > MAX_PIXELS:
            reason = f"at the model's scale, {inner[0]} x {inner[1]} pixels; at most {MAX_PIXELS:,}"
            raise BadImage("too large", f"{reason} are predicted")
        scaled = image.resize(inner, Image.Resampling.BILINEAR)
    else:
        if layout.resize == "pad":
            corner, inner = scale_to_fit(image.size, inner)
        scaled = resize(image, layout)
    pixels = np.asarray(scaled).reshape(scaled.height, scaled.width, layout.channels)
    if view is not None and view.crop == "whole":
        high, wide = (
            max(round(side * part / whole), part)
            for side, part, whole in zip(pixels.shape, view.size, layout.shape, strict=False)
        )
        pixels = resampling.resize(pixels[None], (high, wide))[0]
    across, down = pixels.shape[1] / scaled.width, pixels.shape[0] / scaled.height
    left, top, right, bottom = *corner, corner[0] + inner[0], corner[1] + inner[1]
    return Canvas(pixels, (left * across, top * down, right * across, bottom * down), image.size)


def predict_canvas(
    canvas: Canvas, run: Run, input_size: tuple[int, int], batch_size: int
) -> NDArray[np.uint8]:
    """Return the most probable class of each pixel of the image: uint8 ``(height, width)``.

    The probabilities of tiles are averaged where they overlap, and interpolated if the canvas has
    another size than the image. The same image always gives the same mask.

    Args:
        input_size: height and width of a tile.
        batch_size: maximum number of tiles that the model gets at once.

    Raises:
        NotFiniteError: a probability is not finite.
    """
    bands = blended(canvas.pixels, run, input_size, batch_size)
    height, width = canvas.pixels.shape[:2]
    if canvas.size == (width, height) and canvas.box == (0, 0, width, height):
        return np.concatenate([band.argmax(axis=0).astype(np.uint8) for band in bands])
    probabilities = np.concatenate(list(bands), axis=1)
    mask = np.zeros(canvas.size[::-1], np.uint8)
    best = np.full(mask.shape, -1, np.float32)
    for index, plane in enumerate(probabilities):
        image = Image.fromarray(plane).resize(canvas.size, Image.Resampling.BILINEAR, canvas.box)
        values = np.asarray(image)
        mask[values > best] = index
        best = np.maximum(best, values)
    return mask


def blended(
    pixels: NDArray[np.uint8], run: Run, input_size: tuple[int, int], batch_size: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of the rows of an image from the top, ``(num_classes, rows, width)``.

    A tile counts less towards its edges, where the model sees little of what is around.
    """
    rows, columns = (
        tile_weights(length, side) for length, side in zip(pixels.shape[:2], input_size, strict=True)
    )
    rest: NDArray[np.float32] | None = None
    for number, (top, row_weights) in enumerate(rows):
        row = pixels[top : top + input_size[0]].transpose(2, 0, 1)
        tiles = [row[:, :, left : left + input_size[1]] for left, _ in columns]
        parts = (
            np.stack(tiles[start : start + batch_size]) for start in range(0, len(tiles), batch_size)
        )
        outputs = np.concatenate([run(part) for part in parts])
        if not np.isfinite(outputs).all():
            raise NotFiniteError(NOT_FINITE)
        band = np.zeros((outputs.shape[1], input_size[0], pixels.shape[1]), np.float32)
        if rest is not None:
            band[:, : rest.shape[1]] = rest
        for (left, column_weights), output in zip(columns, outputs, strict=True):
            band[:, :, left : left + input_size[1]] += output * (row_weights[:, None] * column_weights)
        is_last = number == len(rows) - 1
        num_done = input_size[0] if is_last else rows[number + 1][0] - top
        yield band[:, :num_done]
        rest = band[:, num_done:]


def tile_weights(length: int, side: int) -> list[tuple[int, NDArray[np.float32]]]:
    """Return the first pixel of each tile along a side of an image, and the weights of its pixels.

    Tiles are evenly spaced and overlap by at least a quarter. The weights of a pixel in all tiles sum to
    1 (rounded to float32).

    Args:
        length: of the image, at least ``side``.
        side: of a tile.
    """
    num_steps = -(-(length - side) // max(side - side // MIN_OVERLAP, 1))
    starts = [step * (length - side) // max(num_steps, 1) for step in range(num_steps + 1)]
    ramp = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1))
    total = np.zeros(length, np.int64)
    for start in starts:
        total[start : start + side] += ramp
    return [(start, (ramp / total[start : start + side]).astype(np.float32)) for start in starts]

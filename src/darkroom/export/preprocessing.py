"""Preprocessing as a module that can be exported: a picture of any size to the input of a model.

It does what ``decoding/decode.py`` does with a decoded image, by tensors alone. Resizing along an axis
is a product with a matrix, whose rows hold the weights of Pillow's antialiased bilinear filter: a
triangle around the centre of each pixel of the result. Pillow rounds the weights to multiples of 2**-22,
and the sums to whole levels after each axis. Such products and sums are exact in float64, so the result
is the same, byte for byte.
"""

import torch
from torch import Tensor, nn

from darkroom.dataset.resampling import WEIGHT_ONE, num_taps, taps
from darkroom.dataset.views import centre_of
from darkroom.models.spec import ModelSpec

GREY = (19595, 38470, 7471)
"""Pillow's weights of red, green and blue in a grey level, in units of 2**-16."""

WEIGHT_BITS = 22
"""Fractional bits of Pillow's weights."""


class Preprocessing(nn.Module):
    """Brings an image to the input size of a model, as ``prepare`` and the model's view do."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.size = spec.prepared_size or spec.input_size

    def forward(self, image: Tensor) -> Tensor:
        """Return the prepared image, uint8 ``(channels, *spec.input_size)``.

        Args:
            image: RGB as displayed, uint8 ``(height, width, 3)``, of any size.
        """
        levels = (_grey(image) if self.spec.channels == 1 else image).permute(2, 0, 1).double()
        pixels = [torch.arange(length, dtype=torch.float64) for length in image.shape[:2]]
        lengths = [one[-1] + 1 for one in pixels]
        edges = self._edges(*lengths)
        rows, columns = map(_weights, pixels, self.size, edges)
        resized = torch.cond(
            _is_vertical_first(*lengths, *(number for *_, number in edges)),
            lambda levels, rows, columns: _rounded(_rounded(rows @ levels) @ columns.T),
            lambda levels, rows, columns: _rounded(rows @ _rounded(levels @ columns.T)),
            (levels, rows, columns),
        )
        return self._viewed(resized).to(torch.uint8)

    def _edges(self, height: Tensor, width: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Return for both axes which part of the image fills which part of the result.

        Returns:
            first and last edge in the image, in pixels; first pixel in the result, and number of them.
        """
        zero = torch.zeros_like(height)
        sizes = [torch.full_like(height, size) for size in self.size]
        match self.spec.resize:
            case "stretch":
                return [(zero, height, zero, sizes[0]), (zero, width, zero, sizes[1])]
            case "pad":
                scale = torch.minimum(sizes[1] / width, sizes[0] / height)
                inner = [(length * scale).round().clamp(min=1) for length in (height, width)]
                first = [((size - part) / 2).round() for size, part in zip(sizes, inner, strict=True)]
                return [(zero, height, first[0], inner[0]), (zero, width, first[1], inner[1])]
            case _:
                ratio = sizes[1] / sizes[0]
                is_wide, is_tall = width / height > ratio, width / height < ratio
                parts = (
                    torch.where(is_tall, width / ratio, height),
                    torch.where(is_wide, ratio * height, width),
                )
                edges = []
                for length, part, size in zip((height, width), parts, sizes, strict=True):
                    begin = (length - part) * 0.5
                    # Pillow takes the edges as float32
                    edges.append((begin.float(), (begin + part).float(), zero, size))
                return edges

    def _viewed(self, image: Tensor) -> Tensor:
        """Return the view of ``EvaluationView``, ``(channels, *spec.input_size)``."""
        view, size = self.spec.evaluate_crop, self.spec.input_size
        if view is None or self.size == size:
            return image
        if view == "centre":
            top, left = centre_of(self.size, size)
            return image[:, top : top + size[0], left : left + size[1]]
        rows, columns = (_whole(length, part) for length, part in zip(self.size, size, strict=True))
        return ((rows @ image @ columns.T) / WEIGHT_ONE**2 + 0.5).floor()


def _grey(image: Tensor) -> Tensor:
    """Return the grey levels of an image, uint8 ``(height, width, 1)``, as Pillow computes them."""
    sums = (image.int() * torch.tensor(GREY, dtype=torch.int32)).sum(dim=2, keepdim=True)
    return ((sums + 2**15) // 2**16).to(torch.uint8)


def _weights(pixels: Tensor, size: int, edges: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return the weights of all pixels along an axis, in units of 2**-22.

    Args:
        pixels: float64 ``(length,)``: 0, 1, ...
        size: the number of pixels of the result.
        edges: as ``Preprocessing._edges`` returns.

    Returns:
        whole numbers as float64 ``(size, length)``; zeros for padding.
    """
    begin, end, first, number = edges
    positions = torch.arange(size, dtype=torch.float64) - first
    scale = (end - begin).double() / number
    reach = scale.clamp(min=1)
    centres = (begin.double() + (positions + 0.5) * scale)[:, None]
    heights = (1 - ((pixels - centres + 0.5) * (1 / reach)).abs()).clamp(min=0)
    is_inside = ((positions >= 0) & (positions < number))[:, None]
    weights = heights / torch.where(is_inside, heights.sum(dim=1, keepdim=True), 1)
    return (0.5 + weights * 2**WEIGHT_BITS).floor() * is_inside


def _is_vertical_first(height: Tensor, width: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return whether Pillow resizes along the columns first, as version 13 does with tall images."""
    return (height > rows) & (height - rows > 2 * (width - columns))


def _rounded(sums: Tensor) -> Tensor:
    return (sums / 2**WEIGHT_BITS + 0.5).floor()


def _whole(length: int, size: int) -> Tensor:
    """Return the weights of ``resampling.resize`` as a matrix, float64 ``(size, length)``."""
    positions, offsets = torch.arange(size)[:, None], torch.arange(num_taps(length, size))
    pixels, weights = taps(torch.tensor([[[length]]]), size, positions, offsets)
    matrix = torch.zeros(size, length, dtype=torch.float64)
    return matrix.scatter_add_(1, pixels[0], weights[0].double())

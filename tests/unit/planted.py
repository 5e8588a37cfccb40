"""Made photographs and drawings, and copies of pictures with the changes that near duplicates show."""

import io

import numpy as np
from PIL import Image


def photographs(num_images: int, size: int, seed: int = 0) -> np.ndarray:
    """Returns uint8 ``(n, size, size, 3)``, 20..235, so that a slight brightening cuts nothing off.

    Noise whose amplitude falls with its frequency, as in photographs.
    """
    rng = np.random.default_rng(seed)
    images = np.empty((num_images, size, size, 3), np.uint8)
    for index in range(num_images):
        image = np.zeros((size, size, 3), np.float32)
        for side in (2, 3, 5, 9, 17, 33, 65):
            coarse = rng.normal(0, 1, (side, side, 3)) * (0.3, 0.2, 0.3) + rng.normal(
                0, 1, (side, side, 1)
            )
            for channel in range(3):
                layer = Image.fromarray(coarse[..., channel].astype(np.float32))
                image[..., channel] += (
                    np.asarray(layer.resize((size, size), Image.Resampling.BICUBIC)) / side
                )
        image = (image - image.mean()) / image.std() * rng.uniform(25, 55) + rng.uniform(90, 160)
        images[index] = np.clip(image, 20, 235)
    return images


def strokes(num_images: int, size: int = 28, seed: int = 0, wobble: float = 0.25) -> np.ndarray:
    """Returns drawings of a single stroke, as those of the digit 1: uint8 ``(n, size, size, 1)``.

    Slant, length, curve, width and softness are random. Of 7,877 drawings of 28 x 28 pixels, as many as
    MNIST has of the digit 1, 3,739 pairs agree in coarse cells; there it is 2,538.

    Args:
        wobble: how much the stroke strays from its curve, in pixels of 28.
    """
    rng = np.random.default_rng(seed)
    images = np.empty((num_images, size, size, 1), np.uint8)
    along = np.linspace(-0.5, 0.5, 33)
    rows, columns = np.mgrid[:size, :size]
    scale = size / 28
    for start in range(0, num_images, 200):
        count = min(200, num_images - start)

        def draw(mean: float, deviation: float, count: int = count) -> np.ndarray:
            return rng.normal(mean, deviation, (count, 1))

        length = 20 - np.abs(draw(0, 0.6))
        across = 0.6 * draw(0.35, 0.35) * length * along + draw(0, 0.8) * (4 * along**2 - 1 / 3)
        down = length * along
        width = np.clip(draw(1.25, 0.45), 0.5, 2.8) * (1 + 2 * draw(0, 0.2) * along)
        for wave in (1, 2, 3):
            phase = rng.uniform(0, 2 * np.pi, (count, 1))
            across = across + draw(0, wobble / wave) * np.sin(2 * np.pi * wave * along + phase)
        x, y = (
            (points - points.mean(axis=1, keepdims=True)) * scale
            + (size - 1) / 2
            + rng.uniform(-0.5, 0.5, (count, 1))
            for points in (across, down)
        )
        distance = np.full((count, size, size), np.inf)
        for point in range(len(along)):
            here = np.hypot(columns - x[:, point, None, None], rows - y[:, point, None, None])
            distance = np.minimum(distance, here - width[:, point, None, None] * scale)
        softness = rng.uniform(1, 1.8, (count, 1, 1)) * scale
        ink = np.clip(0.5 - distance / softness, 0, 1) * rng.uniform(0.93, 1, (count, 1, 1))
        images[start : start + count, ..., 0] = np.round(255 * ink)
    return images


def plant(image: Image.Image, change: str, rng: np.random.Generator) -> Image.Image:
    """Changes a picture as copies in the wild are changed."""
    match change:
        case "jpeg":
            encoded = io.BytesIO()
            image.save(encoded, "JPEG", quality=int(rng.integers(50, 96)))
            return Image.open(encoded).convert(image.mode)
        case "smaller":
            return _rescaled(image, rng.uniform(0.5, 0.9))
        case "larger":
            return _rescaled(image, rng.uniform(1.1, 2))
        case "brightness":
            contrast, shift = rng.uniform(0.95, 1.05), rng.uniform(-12.75, 12.75)
            return _clipped((np.asarray(image) - 127.5) * contrast + 127.5 + shift)
        case "noise":
            return _clipped(np.asarray(image) + rng.normal(0, 2.5, np.asarray(image).shape))
        case _:
            for part in ("brightness", rng.choice(["smaller", "larger"]), "noise", "jpeg"):
                image = plant(image, part, rng)
            return image


def _rescaled(image: Image.Image, factor: float) -> Image.Image:
    kernel = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, kernel[image.width % 3])


def _clipped(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))

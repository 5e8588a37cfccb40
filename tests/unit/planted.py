"""Made photographs, and copies of pictures with the changes that near duplicates show."""

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

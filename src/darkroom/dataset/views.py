"""The view of prepared images that a model is evaluated on, if they are larger than its input."""

from dataclasses import dataclass
from typing import Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.resampling import resize


@dataclass(frozen=True)
class EvaluationView:
    """One deterministic view of each image."""

    size: tuple[int, int]
    """Height and width in pixels, at most those of the images."""
    crop: Literal["centre", "whole"]
    """``centre``: the crop of that size at the centre; ``whole``: the whole image, resized."""

    @classmethod
    def of(cls, size: tuple[int, int], crop: str | None) -> Self | None:
        """Return a model's view by its input size; None if it takes images as they are."""
        return None if crop is None else cls(size, cast(Literal["centre", "whole"], crop))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the view of images.

        Args:
            images: uint8 ``(n, height, width, channels)``.

        Returns:
            uint8 ``(n, *size, channels)``; it may share the memory of ``images``.
        """
        if images.shape[1:3] == self.size:
            return images
        if self.crop == "whole":
            return resize(images, self.size)
        return self._centre(images)

    def of_masks(self, masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the same view of masks; a pixel gets the class of the closest one.

        Args:
            masks: uint8 ``(n, height, width, 1)``.

        Returns:
            uint8 ``(n, *size, 1)``; it may share the memory of ``masks``.
        """
        if masks.shape[1:3] == self.size or self.crop == "centre":
            return self._centre(masks)
        # the pixel whose centre is closest; of two, the second
        rows, columns = (
            (2 * np.arange(part) + 1) * whole // (2 * part)
            for whole, part in zip(masks.shape[1:3], self.size, strict=True)
        )
        return masks[:, rows[:, None], columns]

    def _centre(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        top, left = centre_of(images.shape[1:3], self.size)
        return images[:, top : top + self.size[0], left : left + self.size[1]]


def centre_of(whole: tuple[int, ...], part: tuple[int, int]) -> tuple[int, int]:
    """Return top and left of the part of a size, ``(height, width)``, at the centre of an image.

    They are rounded to the even number, like torchvision's ``center_crop``.
    """
    top, left = (round((length - size) / 2) for length, size in zip(whole, part, strict=True))
    return top, left

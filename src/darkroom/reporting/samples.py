"""Picks images to look at."""

import numpy as np
from numpy.typing import NDArray

from darkroom.data.shards import Shards

MAX_CLASSES = 30


def samples_by_class(
    shards: Shards, class_names: list[str], per_class: int = 12
) -> dict[str, list[NDArray[np.uint8]]]:
    """Returns the first images of each class, of the first 30 classes.

    Returns:
        class -> uint8 ``(height, width, channels)`` images, 0..255.
    """
    return {
        name: list(shards.gather(np.flatnonzero(shards.labels == index)[:per_class]))
        for index, name in enumerate(class_names[:MAX_CLASSES])
    }

"""Rows of tables as small pictures, so that reports show them where they show images."""

import numpy as np
from numpy.typing import NDArray

from darkroom.inputs import Encoding

MAX_BARS = 64
"""Maximum number of values in a picture: the first ones."""
HEIGHT = 48
BAR = 3
"""Width of a bar in pixels; one more separates it from the next."""
MOST_DEVIATIONS = 3.0
"""Standard deviations at which a bar ends."""
_PAPER, _LINE, _INK, _MISSING = 255, 200, 70, 225


def draw_rows(encoding: Encoding, rows: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a picture of each row: one bar per value, up if it is above the mean of train.

    A bar has the height of the standardised number. For a category, it is the position of its code; an
    unknown one has no bar. A missing number is a light column.

    Args:
        rows: float64 ``(n, encoding.size)``: numbers, NaN if missing, then codes.

    Returns:
        uint8 ``(n, 48, width, 1)``, grey.
    """
    means = np.array([number.mean for number in encoding.numbers])
    stds = np.array([number.std for number in encoding.numbers])
    counts = np.array([len(category.values) for category in encoding.categories])
    numbers, codes = np.split(rows, [len(means)], axis=1)
    spread = np.where(codes > 0, (2 * codes - 1) / np.maximum(counts, 1) - 1, 0) * MOST_DEVIATIONS
    heights = np.column_stack([(numbers - means) / stds, spread])[:, :MAX_BARS]
    middle = HEIGHT // 2
    levels = np.clip(np.nan_to_num(heights) / MOST_DEVIATIONS, -1, 1) * (middle - 1)
    ends = middle - np.rint(levels).astype(np.int64)
    pictures = np.full((len(rows), HEIGHT, heights.shape[1] * (BAR + 1) + 1, 1), _PAPER, np.uint8)
    pictures[:, middle] = _LINE
    lines = np.arange(HEIGHT)
    for bar, end in enumerate(ends.T):
        columns = slice(1 + bar * (BAR + 1), 1 + bar * (BAR + 1) + BAR)
        low, high = np.minimum(end, middle)[:, None], np.maximum(end, middle)[:, None]
        is_ink = (lines >= low) & (lines <= high) & (low < high)
        pictures[:, :, columns, 0][is_ink] = _INK
        pictures[:, :, columns, 0][np.isnan(heights[:, bar])] = _MISSING
    return pictures

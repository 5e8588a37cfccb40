"""Refuses what a model computes where it is no number."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError


def check_finite(outputs: NDArray[np.floating], paths: Sequence[str], source: str) -> None:
    """Checks that a model gave a number for every image and class.

    Args:
        outputs: logits or probabilities, ``(n, num_classes)``.
        paths: of the images, for the message.
        source: what gave the outputs, as the subject of the message.

    Raises:
        UserError: an output is NaN or infinite; names the first image and the number of such images.
    """
    is_bad = ~np.isfinite(outputs).all(axis=1)
    if not is_bad.any():
        return
    first = int(is_bad.argmax())
    values = outputs[first]
    value = values[~np.isfinite(values)][0]
    raise UserError(
        f"{source} gives no finite numbers for {int(is_bad.sum()):,} of {len(is_bad):,} images, first "
        f"for {paths[first]} ({value}); its weights have diverged: train again with a lower train.lr "
        "or with train.clip_norm"
    )

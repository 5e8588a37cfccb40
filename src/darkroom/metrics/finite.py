"""Reject model outputs that are NaN or infinite."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError, counted


def check_finite(
    outputs: NDArray[np.floating], paths: Sequence[str], source: str, noun: str = "image"
) -> None:
    """Check that a model's outputs are finite.

    Args:
        outputs: logits or probabilities, ``(n, num_classes)``, or of pixels, ``(n, num_classes, h, w)``.
        paths: the images' files, for the message.
        source: the model, as the subject of the message.
        noun: what the message calls one image.

    Raises:
        UserError: an output is NaN or infinite; the message names the first such image and their number.
    """
    is_bad = ~np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
    if not is_bad.any():
        return
    first = int(is_bad.argmax())
    values = outputs[first]
    value = values[~np.isfinite(values)][0]
    raise UserError(
        f"{source} has outputs that are not finite for {int(is_bad.sum()):,} of "
        f"{counted(len(is_bad), noun)}, the first of them {paths[first]} ({value}); its weights have "
        "diverged: train again with a lower train.lr or with train.clip_norm"
    )

"""The scores of a validation."""

from typing import NamedTuple


class Scores(NamedTuple):
    """The result of a validation."""

    loss: float
    """Cross entropy in nats: the mean over images (and labels, if an image may have several)."""
    accuracy: float
    """Fraction of the images with a correct prediction, 0..1."""
    f1_macro: float
    f1_standard_error: float

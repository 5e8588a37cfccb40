"""The comparison of models that predict masks."""

from darkroom.comparison.predictions import Predictions
from darkroom.errors import UserError


def calibration(predictions: Predictions) -> dict[str, float]:
    """Refuse: the tables of predictions hold no probabilities of pixels."""
    raise UserError("models that predict masks cannot be compared; compare metrics.json of both")

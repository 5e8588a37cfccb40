"""The comparison of models that predict any number of labels per image."""

from darkroom.comparison.predictions import Predictions
from darkroom.metrics.calibration import label_calibration


def calibration(predictions: Predictions) -> dict[str, float]:
    return label_calibration(predictions.targets, predictions.probabilities)

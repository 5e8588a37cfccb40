"""The comparison of models that predict one class per image."""

from darkroom.comparison.predictions import Predictions
from darkroom.metrics.calibration import class_calibration


def calibration(predictions: Predictions) -> dict[str, float]:
    return class_calibration(predictions.targets.argmax(axis=1), predictions.probabilities)

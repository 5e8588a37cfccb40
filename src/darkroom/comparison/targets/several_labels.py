"""The comparison of models that predict any number of labels per image."""

from darkroom.comparison.label_outcomes import LabelComparison
from darkroom.metrics.calibration import label_calibration
from darkroom.targets import WORDS

COMPARISON = LabelComparison(WORDS["several_labels"].columns, label_calibration)

"""What exported models predict for images that have classes: one, or any number of labels."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.dataset.shards import Shards
from darkroom.dataset.targets.interface import stored_target
from darkroom.errors import listed
from darkroom.metrics.counts import averaged_scores, counts_of_labels
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.intervals import named_bounds, score_intervals
from darkroom.metrics.paired import label_units
from darkroom.metrics.resampling import Units
from darkroom.models.spec import ModelSpec
from darkroom.models.targets.interface import model_target
from darkroom.targets import WORDS

BATCH_SIZE = 64


class LabelAnswers:
    """The predicted classes, bool ``(n, num_classes)``."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        none = np.zeros((0, len(spec.class_names)), np.bool_)
        self._expected, self._preds, self._truth = [none], [none], [none]

    def add(
        self, expected: NDArray[np.float32], actual: NDArray[np.float32], truth: NDArray[np.bool_]
    ) -> None:
        decide, thresholds = model_target(self._spec.target).decide, self._spec.thresholds
        self._expected.append(decide(expected, thresholds))
        self._preds.append(decide(actual, thresholds))
        self._truth.append(truth)

    @property
    def agreement(self) -> float:
        expected, preds = np.concatenate(self._expected), np.concatenate(self._preds)
        return float((preds == expected).all(axis=1).mean())

    @property
    def scored(self) -> bytes:
        return np.concatenate(self._preds).tobytes()

    def scores(self, groups: NDArray[np.int64] | None) -> dict[str, Any]:
        """Return ``f1_macro`` and the fraction of correct images, with their intervals."""
        preds, targets = np.concatenate(self._preds), np.concatenate(self._truth)
        counts = counts_of_labels(torch.from_numpy(targets), torch.from_numpy(preds))
        found, score = score_intervals(targets, preds, groups), WORDS[self._spec.target].score
        return {
            "f1_macro": averaged_scores(counts)["f1_macro"],
            score: round(float((targets == preds).all(axis=1).mean()), DIGITS),
            **named_bounds({"f1_macro": found.f1_macro, score: found.right}),
        }

    def units(self, groups: NDArray[np.int64] | None) -> Units:
        targets, expected, preds = map(np.concatenate, (self._truth, self._expected, self._preds))
        return label_units(targets, expected, preds, groups)

    def compared(self, index: int, file: str) -> str:
        expected, pred = (self._named(rows, index) for rows in (self._expected, self._preds))
        return f"the checkpoint predicts {expected}, {file} {pred}"

    def _named(self, batches: list[NDArray[np.bool_]], index: int) -> str:
        present = np.flatnonzero(np.concatenate(batches)[index]).tolist()
        return listed(self._spec.class_names[at] for at in present) or "none"


class ExportedLabels:
    """Exported models that predict one class, or any number of labels, per image."""

    def batch_size(self, spec: ModelSpec) -> int:
        """Return the number of images that each file gets at once."""
        return BATCH_SIZE

    def truth(self, test: Shards, rows: NDArray[np.int64], num_classes: int) -> NDArray[np.bool_]:
        """Return which classes each image has, ``(n, num_classes)``."""
        return stored_target(test.target).indicators(test.labels[rows], num_classes)

    def answers(self, spec: ModelSpec) -> LabelAnswers:
        """Return the answers for no image yet."""
        return LabelAnswers(spec)

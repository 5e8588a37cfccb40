"""From probabilities to decisions, with the thresholds of an export."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError, counted
from darkroom.models.targets.interface import model_target
from darkroom.prediction.description import Description, Limits
from darkroom.prediction.remote import InputFile
from darkroom.prediction.targets.interface import predicted_target

ABSTAINED = "abstain"
"""What is printed instead of a class, unless a class has this name."""


@dataclass(frozen=True)
class Prediction:
    """The predicted classes of one image, the most probable first."""

    path: InputFile
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    possible: tuple[str, ...] = ()
    """The classes of the prediction set, the most probable first; see ``Predictor.has_sets``."""
    unsure: tuple[str, ...] = ()
    """The labels that the model leaves open, the most probable first; see ``Predictor.leaves_open``."""
    unfamiliarity: float | None = None
    """Above 1, the image is unlike the training images; None: the model does not measure it."""
    cells: tuple[str, ...] = ()
    """The cells of a row as they were read; none of an image."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be classified, with the reason."""

    path: InputFile
    reason: str


class Decisions:
    """What an exported model decides, given its probabilities.

    Args:
        description: the file of ``described``, for messages.
        abstains: predict ``abstained`` instead of a class if the probability is below the threshold; if
            an image may have several labels, leave open those of which the model is not sure enough.
        masks: whether masks are wanted.

    Raises:
        UserError: the model has no threshold below which it could abstain, or does not predict what is
            wanted.
    """

    def __init__(
        self, described: Description, description: Path, abstains: bool, masks: bool = False
    ) -> None:
        self.class_names = described.class_names
        self.target = predicted_target(described.target)
        self._decide = partial(model_target(described.target).decide, thresholds=described.thresholds)
        self.target.check(described, description, masks)
        self._limits = self.target.limits(described, description) if abstains else Limits()
        self._set_thresholds = np.array(described.conformal.thresholds if described.conformal else [])
        if self.has_sets and len(self._set_thresholds) != len(self.class_names):
            raise UserError(
                f"{description}: has {counted(len(self._set_thresholds), 'threshold')} of sets for "
                f"{counted(len(self.class_names), 'class')}"
            )
        self.abstained = ABSTAINED
        while self.abstained in self.class_names:
            self.abstained = f"({self.abstained})"

    @property
    def leaves_open(self) -> bool:
        """Whether single labels are left open."""
        return self._limits.yes is not None

    @property
    def has_sets(self) -> bool:
        """Whether predictions have sets of possible classes."""
        return len(self._set_thresholds) > 0

    def prediction(
        self,
        path: InputFile,
        probabilities: NDArray[np.float32],
        unfamiliarity: float | None,
        top_k: int | None,
    ) -> Prediction:
        """Return what the model decides.

        Args:
            probabilities: float32 ``(num_classes,)``.
            top_k: number of classes; None: those that the model decides for.
        """
        order = np.argsort(-probabilities, kind="stable")
        is_open = self._limits.is_open(probabilities)
        decided = (self._decide(probabilities[None])[0] & ~is_open)[order]
        best = order[decided] if top_k is None else order[:top_k]
        classes = tuple(self.class_names[index] for index in best)
        if float(probabilities.max()) < self._limits.threshold:
            classes = (self.abstained, *classes[1:])
        possible = (
            order[probabilities[order].astype(np.float64) >= self._set_thresholds[order]]
            if self.has_sets
            else ()
        )
        return Prediction(
            path,
            classes,
            tuple(float(probabilities[index]) for index in best),
            tuple(self.class_names[index] for index in possible),
            tuple(self.class_names[index] for index in order[is_open[order]]),
            unfamiliarity,
        )

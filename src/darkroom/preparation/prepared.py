"""A data set that was prepared, with everything that its report tells."""

from dataclasses import dataclass

from darkroom.dataset.info import DatasetInfo
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision


@dataclass(frozen=True)
class PreparedData:
    """What was found, what was decided on it, and what was written."""

    candidates: Candidates
    decision: Decision
    info: DatasetInfo

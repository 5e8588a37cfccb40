"""What a kind of input says about trainings on parts of the data: statistics, and how it is read."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shards import Shards
from darkroom.inputs import Input
from darkroom.retraining.inputs import image, row


class RetrainedInput(Protocol):
    """A module for each kind."""

    def fitted(self, info: DatasetInfo, shards: Shards, train_rows: NDArray[np.int64]) -> DatasetInfo:
        """Return the description of the data with the statistics of some training inputs.

        Args:
            info: has the statistics of the prepared train split.
            shards: the train and validation inputs.
            train_rows: positions of the training inputs, ``(n,)``.
        """
        ...

    def opened(
        self, parts: list[Shards], rows: NDArray[np.int64], prepared: DatasetInfo, info: DatasetInfo
    ) -> Shards:
        """Return some inputs as a model takes them.

        Args:
            parts, rows: as for ``Subset``.
            prepared: the description of ``parts``.
            info: as ``fitted`` returns it.
        """
        ...


_INPUTS: dict[Input, RetrainedInput] = {"image": image, "row": row}


def retrained_input(name: Input) -> RetrainedInput:
    """Return the module of a kind of input."""
    return _INPUTS[name]

"""What a kind of input says about preparation: how it is read, stored and reported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from darkroom.collection.collection import Collection
from darkroom.config.prepare import Prepare, PrepareConfig
from darkroom.dataset.info import DatasetInfo
from darkroom.inputs import Input
from darkroom.preparation.inputs import image, row
from darkroom.preparation.prepared import PreparedData
from darkroom.preparation.readings import Readings


class PreparedInput(Protocol):
    """A module for each kind."""

    keeps_conflicts: bool
    """Whether equal inputs with different labels are not a mistake."""

    def read(self, collection: Collection, config: PrepareConfig, cache: Path, workers: int) -> Readings:
        """Return what is known of all entries that are to be read.

        Raises:
            UserError: none can be read, or a column of a table fits no kind.
        """
        ...

    def threshold(self, options: Prepare) -> float | None:
        """Return the threshold of near duplicates; None: only equal inputs are duplicates."""
        ...

    def remarks(self, prepared: PreparedData) -> Iterator[str]:
        """Yield remarks that only this kind has."""
        ...

    def write_report(
        self, prepared: PreparedData, manifest: Path, folder: Path, more_remarks: list[str]
    ) -> list[str]:
        """Write report.html and its pictures into ``folder``, and return all remarks.

        Args:
            manifest: a file of ``write_manifest``.
            more_remarks: those that do not come from the report.
        """
        ...

    def size(self, info: DatasetInfo) -> str:
        """Return what each input consists of, as part of a sentence."""
        ...


_INPUTS: dict[Input, PreparedInput] = {"image": image, "row": row}


def prepared_input(name: Input) -> PreparedInput:
    """Return the module of a kind of input."""
    return _INPUTS[name]

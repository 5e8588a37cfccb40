"""What a kind of input says about exported files: what they take."""

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from darkroom.export.inputs import image, row
from darkroom.inputs import Input
from darkroom.models.classifier import Classifier
from darkroom.models.spec import ModelSpec


class ExportedInput(Protocol):
    """A module for each kind."""

    name: str
    """Of the input while the model is captured."""

    packages: tuple[str, ...]
    """What makes the input of a model from what users have, such as an image file."""

    def example(self, spec: ModelSpec) -> Tensor:
        """Return two blank inputs, from which a model is captured."""
        ...

    def given(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return inputs as exported models take them, from a batch of ``Shards.batches``."""
        ...

    def finish(self, model: ModelProto, spec: ModelSpec) -> None:
        """Change an ONNX model to take what users have."""
        ...

    def write_golden(
        self,
        model: Classifier,
        spec: ModelSpec,
        examples: NDArray[Any],
        tolerance: float,
        folder: Path,
    ) -> list[Path]:
        """Write the folder ``golden`` of an export, and return its files; see ``export/golden.py``.

        Args:
            examples: test inputs as ``Shards.gather`` returns them, without a view.
        """
        ...


_INPUTS: dict[Input, ExportedInput] = {"image": image, "row": row}


def exported_input(name: Input) -> ExportedInput:
    """Return the module of a kind of input."""
    return _INPUTS[name]

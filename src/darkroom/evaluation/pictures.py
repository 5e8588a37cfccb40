"""Pictures of the inputs for the report: images themselves, or drawings of rows."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.shards import Shards
from darkroom.inputs import Encoding
from darkroom.reporting.row_pictures import draw_rows


class Pictures(Protocol):
    """Pictures of the inputs of a split, in their order."""

    @property
    def paths(self) -> list[str]:
        """The file of each image, or the file and line of each row."""
        ...

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Return pictures: uint8 ``(n, height, width, channels)``."""
        ...


@dataclass(frozen=True)
class RowPictures:
    """Drawings of rows; see ``draw_rows``."""

    shards: Shards
    encoding: Encoding

    @property
    def paths(self) -> list[str]:
        return self.shards.paths

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return draw_rows(self.encoding, self.shards.gather(indices).reshape(len(indices), -1))


def pictures_of(shards: Shards, encoding: Encoding | None) -> Pictures:
    """Return pictures of the inputs of a split; without an encoding, these are images."""
    return shards if encoding is None else RowPictures(shards, encoding)

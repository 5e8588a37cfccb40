"""Classifies images with an exported folder alone: ONNX Runtime and Pillow, no torch."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt

from darkroom.collection.system_files import is_hidden
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, Resize, decode
from darkroom.decoding.reading import read_image_file
from darkroom.decoding.watch import name_if_slow
from darkroom.errors import UserError
from darkroom.models.exported import DESCRIPTION, check_exported, load_description
from darkroom.onnx_session import OnnxClassifier

BATCH_SIZE = 64


class _Description(BaseModel):
    """What is needed of model.json."""

    class_names: list[str] = Field(min_length=1)
    input_size: tuple[PositiveInt, PositiveInt]
    channels: Literal[1, 3]
    resize: Resize
    # those of an image with one label are not told of
    multi_label: bool = False
    thresholds: list[Annotated[float, Field(ge=0, le=1)]] | None = None


@dataclass(frozen=True)
class Prediction:
    """The classes of one image that were asked for, the most probable first."""

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """A file that could not be classified, and why."""

    path: Path
    reason: str


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Resolves files, folders (searched to any depth, without files that systems leave
    behind) and globs. Pipes, devices and links that lead nowhere are found too, to be named.

    Raises:
        UserError: a name or pattern matches nothing.
    """
    found: dict[Path, None] = {}  # keeps the order, drops repetitions
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = sorted(
                file
                for file in path.rglob("*")
                if not file.is_dir() and not is_hidden(file.relative_to(path).as_posix())
            )
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(match) for match in sorted(glob(pattern, recursive=True))]
            matches = [match for match in matches if not match.is_dir() and not is_hidden(match.name)]
        if not matches:
            raise UserError(f"{pattern}: no such file, folder with files, or glob with matches")
        found.update(dict.fromkeys(matches))
    return list(found)


class Predictor:
    """A model as ``darkroom`` exported it.

    Args:
        folder: with ``model.onnx`` and ``model.json``, as the export stage writes them.
        tiff: read TIFF files too.

    Raises:
        UserError: the folder lacks one of the files, they are damaged or of several exports, or cannot
            be read.
    """

    def __init__(self, folder: Path, tiff: bool = False) -> None:
        values, digests = load_description(folder)
        description, model = folder / DESCRIPTION, check_exported(folder, digests, "model.onnx")
        try:
            described = _Description.model_validate_json(json.dumps(values), strict=True)
        except ValueError as error:
            problem = str(error).splitlines()
            raise UserError(
                f"{description}: not as darkroom writes it ({' '.join(problem[1:3]) or problem[0]})"
            ) from None
        self.class_names = described.class_names
        self.is_multi_label = described.multi_label
        """Whether an image may have several labels, or none."""
        self._thresholds = np.array(described.thresholds or [], np.float64)
        if self.is_multi_label and len(self._thresholds) != len(self.class_names):
            raise UserError(
                f"{description}: has {len(self._thresholds)} thresholds "
                f"for {len(self.class_names)} labels"
            )
        self._tiff = tiff
        height, width = described.input_size
        self.layout = PixelLayout(height, width, described.channels, described.resize)
        shape = (described.channels, height, width)
        self._classifier = OnnxClassifier(model, shape, len(self.class_names), description)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns float32 ``(n, num_classes)`` for uint8 ``(n, channels, height, width)``."""
        return self._classifier.probabilities(images)

    def predict(self, paths: Sequence[Path], top_k: int | None = None) -> Iterator[Prediction | Failure]:
        """Yields an outcome for every path, in order; bad files do not stop the others.

        Args:
            top_k: how many classes; None: one, or where an image may have several labels, those whose
                probability reaches their threshold.
        """
        remaining = iter(paths)
        with ThreadPoolExecutor() as pool:
            while batch := list(islice(remaining, BATCH_SIZE)):
                decoded = list(pool.map(self._decode, batch))
                images = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
                rows: Iterator[NDArray[np.float32]] = iter(
                    self.probabilities(np.stack(images)) if images else ()
                )
                for path, pixels in zip(batch, decoded, strict=True):
                    if isinstance(pixels, str):
                        yield Failure(path, pixels)
                    elif np.isfinite(row := next(rows)).all():
                        yield self._prediction(path, row, top_k)
                    else:
                        yield Failure(path, "the model gives no finite probabilities for it")

    def _decode(self, path: Path) -> NDArray[np.uint8] | str:
        try:
            with name_if_slow(str(path)):
                _, pixels = decode(read_image_file(path), self.layout, self._tiff)
        except BadImage as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _prediction(
        self, path: Path, probabilities: NDArray[np.float32], top_k: int | None
    ) -> Prediction:
        best = np.argsort(-probabilities, kind="stable")
        if top_k is None and self.is_multi_label:
            # in float32 a threshold would be another number
            best = best[probabilities[best].astype(np.float64) >= self._thresholds[best]]
        else:
            best = best[: top_k or 1]
        return Prediction(
            path,
            tuple(self.class_names[index] for index in best),
            tuple(float(probabilities[index]) for index in best),
        )

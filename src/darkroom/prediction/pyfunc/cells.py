"""From the cells of a table that MLflow passes on to the bytes of image files."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.reading import read_image_file
from darkroom.escape import for_line
from darkroom.prediction.answers import advice_on, from_base64

IMAGE, PATH = "image", "path"
"""The columns of a table of images."""

MAX_NAME = 200
"""Maximum number of characters of a path in an answer."""

_COLUMNS = f"send base64 of a file in the column {IMAGE}, or its path in the column {PATH}"
_PIXELS = "send integers from 0 to 255 as (height, width) or (height, width, 3)"


class Unusable(Exception):
    """An image or a row that gets no prediction.

    Args:
        error: what is wrong.
        what_to_do: in a sentence.
    """

    def __init__(self, error: str, what_to_do: str) -> None:
        super().__init__(error, what_to_do)
        self.error, self.what_to_do = error, what_to_do

    def answer(self) -> dict[str, Any]:
        """Return the entry of an answer that has others."""
        return {"error": self.error, "what_to_do": self.what_to_do}


@dataclass(frozen=True)
class Given:
    """One image of a request."""

    name: str
    """For answers: the path, or the position among the images."""
    column: str
    value: Any


def images_in(table: pd.DataFrame) -> list[Given]:
    """Return the images in the rows of a table with the columns ``image`` or ``path``.

    A cell with a list of texts holds several images: MLflow makes one row of ``{"inputs": {"image":
    ["BASE64", "BASE64"]}}``.

    Raises:
        Unusable: there is none.
    """
    found: list[Given] = []
    for row in table.to_dict("records"):
        column = PATH if is_missing(row.get(IMAGE)) else IMAGE
        for value in _several(row.get(column)):
            is_path = column == PATH and isinstance(value, str | os.PathLike)
            name = for_line(f"{value}"[:MAX_NAME]) if is_path else f"image {len(found) + 1}"
            found.append(Given(name, column, value))
    if not found:
        raise Unusable("the request has no images", _COLUMNS)
    return found


def read(given: Given, paths: bool) -> bytes:
    """Return the bytes of an image file.

    Args:
        paths: read the files that are named.

    Raises:
        Unusable: there is no image, or it cannot be read.
    """
    try:
        if is_missing(given.value) or (isinstance(given.value, list | tuple) and not given.value):
            raise _Problem("nothing was sent", _COLUMNS)
        return _encoded(given.value) if given.column == IMAGE else _content(given.value, paths)
    except BadImage as error:
        raise Unusable(f"{given.name}: {error}", advice_on(error)) from None
    except OSError as error:
        reason = error.strerror or f"{error}"
        raise Unusable(f"{given.name}: {reason}", "name a file that the server can read") from None
    except _Problem as problem:
        raise Unusable(f"{given.name}: {problem}", problem.what_to_do) from None
    except ValueError as error:  # a null character in a path
        raise Unusable(f"{given.name}: {error}", "name a file") from None


class _Problem(Exception):
    def __init__(self, text: str, what_to_do: str) -> None:
        super().__init__(text)
        self.what_to_do = what_to_do


def _content(path: Any, paths: bool) -> bytes:
    if not isinstance(path, str | os.PathLike):
        raise _Problem(f"{type(path).__name__} is not a path", "send the path of a file as text")
    if not paths:
        raise _Problem("paths are switched off", f"send the file as base64 in the column {IMAGE}")
    return read_image_file(Path(path))


def _encoded(value: Any) -> bytes:
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case str():
            try:
                return from_base64("".join(value.split()))
            except ValueError:
                raise _Problem(
                    "not base64",
                    f"encode the bytes of the file as base64; the column {PATH} takes paths",
                ) from None
        case list() | tuple() | np.ndarray():
            return _as_png(value)
    raise _Problem(f"{type(value).__name__} is not an image", f"send base64, bytes or pixels; {_PIXELS}")


def _as_png(pixels: Any) -> bytes:
    """Return pixels as a file without loss, so that all images take the same way."""
    try:
        array = np.asarray(pixels)
    except ValueError:
        raise _Problem("the rows of its pixels have different lengths", _PIXELS) from None
    shape = "x".join(map(str, array.shape))
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))):
        raise _Problem(f"an array of {shape or 'one value'} is not an image", _PIXELS)
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise _Problem("its values are not integers from 0 to 255", _PIXELS)
    file = io.BytesIO()
    plain = array.reshape(array.shape[:2]) if array.shape[2:] == (1,) else array
    Image.fromarray(plain.astype(np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _several(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple | np.ndarray):
        return [value]
    items = list(value)
    return items if items and all(isinstance(item, str | bytes) for item in items) else [value]


def is_missing(value: Any) -> bool:
    """Return whether a cell of a table is empty."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))

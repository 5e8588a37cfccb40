"""Predicted masks as PNG files, and the share of each class in a mask."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.prediction.remote import InputFile, RemoteFile
from darkroom.reporting.palette import palette

if TYPE_CHECKING:
    from PIL.Image import Image


def mask_files(paths: Sequence[InputFile], folder: Path, model: Path, force: bool = False) -> list[Path]:
    """Return the file for the mask of each image: its path below the folder of all images, as PNG.

    The path of an image at an address begins with scheme and bucket.

    Args:
        folder: for the masks.
        model: the exported folder, which only the export stage writes to.
        force: replace files, except the images.

    Raises:
        UserError: a file may not be written, or two images would have the same.
    """
    place = f"--masks {folder}"
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(model)):
        raise UserError(
            f"{place}: is in {model}, which only the export stage writes to; choose another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{place}: not a folder")
    images = [_place(path) for path in paths]
    top = Path(os.path.commonpath([path.parent for path in images]))
    files = [folder / path.relative_to(top).with_suffix(".png") for path in images]
    known: dict[Path, InputFile] = {}
    real = {os.path.realpath(path) for path in paths if isinstance(path, Path)}
    for path, file in zip(paths, files, strict=True):
        if (other := known.setdefault(file, path)) is not path:
            raise UserError(f"{place}: the masks of {other} and {path} would both be {file}")
        if os.path.realpath(file) in real:
            raise UserError(f"{place}: {file} is one of the images; choose another folder")
        if not force and os.path.lexists(file):
            raise UserError(f"{place}: {file} exists; choose another folder, or replace it with --force")
    return files


def _place(path: InputFile) -> Path:
    if isinstance(path, RemoteFile):
        return Path("/", path.scheme, *path.parts)
    return Path(os.path.abspath(path))


def mask_image(mask: NDArray[np.uint8]) -> "Image":
    """Return a mask as an image with the colours of the reports.

    Args:
        mask: uint8 ``(height, width)``, classes by their position in ``class_names``.
    """
    from PIL import Image

    image = Image.fromarray(mask, "L")
    image.putpalette(palette().tobytes())
    return image


def write_mask(mask: NDArray[np.uint8], file: Path) -> None:
    """Write a mask as an indexed PNG; see ``mask_image``.

    Raises:
        UserError: the file cannot be written.
    """
    image = mask_image(mask)
    written = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(written, "PNG")
        written.replace(file)
    except OSError as error:
        with suppress(OSError):
            written.unlink()
        raise UserError(f"--masks: {file} cannot be written ({error.strerror or error})") from None


def class_shares(mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.float64]:
    """Return the fraction of the pixels of each class, float64 ``(num_classes,)``."""
    return np.bincount(mask.ravel(), minlength=num_classes) / mask.size

"""Write HTML pages with a common look, as single files with embedded pictures."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.storage import as_picture
from darkroom.reporting.templates import load_template

LARGEST_LOSSLESS = 64
"""Side in pixels up to which an image is embedded as PNG, so that single pixels stay visible."""


def write_page(template: Path, path: Path, **values: Any) -> None:
    """Render ``template``, which extends ``page.html.j2``, with ``values``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(load_template(template, autoescape=True).render(values), encoding="utf-8")


def embed_png(picture: Path) -> str:
    """Return a PNG file as a data URL."""
    return _address("png", picture.read_bytes())


def embed_image(image: NDArray[np.uint8]) -> str:
    """Return an image as a data URL: PNG if it is small, otherwise JPEG.

    Args:
        image: uint8 ``(height, width, channels)``, 0..255.
    """
    encoded = io.BytesIO()
    picture = as_picture(image)
    if max(picture.size) <= LARGEST_LOSSLESS:
        picture.save(encoded, "PNG")
        return _address("png", encoded.getvalue())
    picture.save(encoded, "JPEG", quality=85)
    return _address("jpeg", encoded.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

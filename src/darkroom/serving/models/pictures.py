"""What models of images share: media types, and reasons why an image is refused."""

from darkroom.collection.entries import Outcome
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import read_header
from darkroom.prediction.answers import advice_on
from darkroom.serving.refusal import Refusal

RAW_TYPES = ("image/*", "application/octet-stream")

_STATUS: dict[Outcome, int] = {"too large": 413, "not an image": 415}


def check_pixels(encoded: bytes, max_pixels: int, tiff: bool) -> None:
    """Check the size that an image announces.

    Raises:
        BadImage: it is not an image, or too large.
    """
    header = read_header(encoded, tiff)
    if header.width * header.height > max_pixels:
        raise BadImage(
            "too large", f"{header.width} x {header.height} pixels; at most {max_pixels:,} are accepted"
        )


def refusal_of(name: str, error: BadImage) -> Refusal:
    """Return the answer to an image that cannot be used."""
    return Refusal(_STATUS.get(error.outcome, 422), f"{name}: {error}", advice_on(error))

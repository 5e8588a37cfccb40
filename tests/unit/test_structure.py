"""Files that ask for too much work are refused before they are decoded; ordinary ones are not."""

import io

import numpy as np
import pytest
from overwork import OVERWORK, Overwork, jpeg, jpeg_with_scans
from PIL import Image
from quick import quick_first

from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, decode, read_header
from darkroom.decoding.structure import MAX_SCANS, TooMuchWork, check_structure

LAYOUT = PixelLayout(8, 8, 3, "stretch")
REFUSED = {name: trick for name, trick in OVERWORK.items() if trick.reason}
HARMLESS = {name: trick for name, trick in OVERWORK.items() if trick.harmless}
CHEAP = {name: trick for name, trick in OVERWORK.items() if not trick.reason}


@pytest.mark.parametrize("trick", REFUSED.values(), ids=REFUSED)
def test_too_much_work_is_refused_with_its_reason(trick: Overwork) -> None:
    with pytest.raises(BadImage) as refused:
        decode(trick.make(trick.much), LAYOUT, tiff=True)
    assert trick.reason in refused.value.reason
    if "Decompressed" not in trick.reason:  # which is Pillow's own bound
        assert refused.value.outcome == "too large"


@pytest.mark.parametrize("name", quick_first([*HARMLESS][::3], HARMLESS))
def test_a_little_less_of_it_is_decoded(name: str) -> None:
    trick = HARMLESS[name]
    assert trick.harmless is not None
    header, pixels = decode(trick.make(trick.harmless), LAYOUT, tiff=True)
    assert pixels.shape == (8, 8, 3)
    assert header.width > 0


@pytest.mark.parametrize("trick", CHEAP.values(), ids=CHEAP)
def test_what_takes_little_time_is_decoded(trick: Overwork) -> None:
    decode(trick.make(trick.much), LAYOUT, tiff=True)


@pytest.mark.parametrize("trick", OVERWORK.values(), ids=OVERWORK)
def test_a_part_of_a_file_is_never_too_much(trick: Overwork) -> None:
    """Headers are read from the beginning of a file, cut wherever that is."""
    content = trick.make(trick.harmless or 1)
    for size in (1, 40, 1_000, 2**16):
        for format in ("JPEG", "PNG", "GIF", "PPM", "TIFF", "AVIF", "BMP", "WEBP"):
            check_structure(format, content[:size])


@pytest.mark.parametrize("name", ["PNG of empty chunks", "JPEG of padding", "AVIF of items"])
def test_headers_are_not_read_of_what_is_refused(name: str) -> None:
    with pytest.raises(BadImage, match="too much work"):
        read_header(OVERWORK[name].make(OVERWORK[name].much), tiff=True)


ORDINARY = {
    "JPEG": {"quality": 95},
    "progressive JPEG": {"progressive": True, "quality": 95},
    "JPEG with restarts": {"restart_marker_blocks": 1, "quality": 100},
    "JPEG with a profile": {"icc_profile": bytes(600_000)},
    "PNG": {},
    "GIF": {},
    "PPM": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True, "method": 0},
    "AVIF": {"icc_profile": bytes(600_000), "speed": 10},
    "BMP": {},
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_of_noise_are_accepted(name: str) -> None:
    """Noise is what compresses worst, and so has the most parts."""
    pixels = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    format = next(word for word in name.split() if word.isupper())
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **ORDINARY[name])
    header, _ = decode(file.getvalue(), LAYOUT, tiff=True)
    assert (header.width, header.height) == (900, 700)


def test_a_thumbnail_or_a_further_picture_has_scans_of_its_own() -> None:
    """As in a phone's photograph, whose EXIF and end hold JPEGs too."""
    scans = jpeg_with_scans(MAX_SCANS, (64, 64))
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x927C] = jpeg_with_scans(80, (8, 8))
    Image.open(io.BytesIO(scans)).save(file, "JPEG", progressive=True, exif=exif)
    decode(file.getvalue() + scans + jpeg(), LAYOUT)
    check_structure("JPEG", scans + scans)
    with pytest.raises(TooMuchWork):
        check_structure("JPEG", scans[:-2] + scans[-200:])

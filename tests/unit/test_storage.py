"""One image on disk: what was packed is what comes back, whatever the storage."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from planted import photographs

from darkroom.dataset.storage import Storage, choose_storage, pack_image, unpack_image

STORAGES: tuple[Storage, ...] = ("decoded", "encoded")


def noise(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def slope(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    return (np.indices(shape).sum(0) * (seed % 7)).astype(np.uint8)


def extremes(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    return 255 * noise(shape, seed) // 255 // 128 * 255


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.sampled_from([noise, slope, extremes]),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    st.integers(0, 99),
)
def test_the_same_pixels_come_back(make: object, shape: tuple[int, int, int], seed: int) -> None:
    pixels = make(shape, seed)  # type: ignore[operator]
    for storage in STORAGES:
        unpacked = unpack_image(pack_image(pixels, storage), shape, storage)
        assert unpacked.dtype == np.uint8
        assert unpacked.shape == shape
        assert np.array_equal(unpacked, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_come_back_and_are_stored_in_less(channels: int) -> None:
    for photograph in photographs(4, 192):
        pixels = np.ascontiguousarray(photograph[..., :channels])
        stored = pack_image(pixels, "encoded")
        assert np.array_equal(unpack_image(stored, pixels.shape, "encoded"), pixels)
        assert len(stored) < 0.75 * pixels.nbytes


def test_what_webp_does_not_shrink_is_stored_as_it_is() -> None:
    for pixels in (noise((192, 192, 3), 0), noise((8, 8, 1), 0), np.zeros((3, 3, 1), np.uint8)):
        assert pack_image(pixels, "encoded") == pixels.tobytes()
    pixels = np.zeros((64, 64, 3), np.uint8)
    assert pack_image(pixels, "encoded")[12:16] == b"VP8L"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 2048, 3), (2048, 1, 1), (2048, 300, 3)])
def test_the_smallest_and_the_largest_come_back(shape: tuple[int, int, int]) -> None:
    pixels = noise(shape, 1)
    for storage in STORAGES:
        assert np.array_equal(unpack_image(pack_image(pixels, storage), shape, storage), pixels)


def test_what_is_stored_can_be_read_without_us() -> None:
    pixels = photographs(1, 64)[0]
    assert pack_image(pixels, "decoded") == pixels.tobytes()
    stored = pack_image(pixels, "encoded")
    assert stored[12:16] == b"VP8L"  # WebP's lossless kind
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.format, image.size) == ("WEBP", (64, 64))
        assert np.array_equal(np.asarray(image), pixels)


def test_any_buffer_can_be_unpacked() -> None:
    pixels = noise((5, 7, 3), 3)
    for storage in STORAGES:
        stored = memoryview(bytearray(pack_image(pixels, storage)))
        assert np.array_equal(unpack_image(stored, pixels.shape, storage), pixels)


def test_what_was_not_packed_is_not_taken() -> None:
    """Neither a lossy image passes for the pixels, nor another format for ours."""
    pixels = photographs(1, 64)[0]
    lossy, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(lossy, "WEBP", quality=95)
    Image.fromarray(pixels).save(png, "PNG")
    assert not np.array_equal(unpack_image(lossy.getvalue(), pixels.shape, "encoded"), pixels)
    with pytest.raises(UnidentifiedImageError):
        unpack_image(png.getvalue(), pixels.shape, "encoded")
    with pytest.raises(ValueError, match="reshape"):
        unpack_image(pixels.tobytes()[:-1], pixels.shape, "decoded")


def test_auto_encodes_above_32_gib() -> None:
    assert choose_storage("auto", (256, 256, 1), 2**19) == "decoded"
    assert choose_storage("auto", (256, 256, 1), 2**19 + 1) == "encoded"
    assert choose_storage("auto", (256, 256, 3), 2**19) == "encoded"
    assert choose_storage("auto", (2048, 2048, 3), 2**50) == "encoded"  # above 2**63 bytes


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_asked_for_is_kept(storage: Storage) -> None:
    assert choose_storage(storage, (8, 8, 1), 10) == storage
    assert choose_storage(storage, (2048, 2048, 3), 10**9) == storage

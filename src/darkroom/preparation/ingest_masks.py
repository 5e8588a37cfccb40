"""What a worker process of ``ingest`` does with the mask of an image; imported by it, so it is small."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.collection.mask_classes import Code, MaskClasses
from darkroom.dataset.storage import Storage, pack_images
from darkroom.decoding.class_files import EncodedMask, decode_class_files
from darkroom.decoding.decode import Header, PixelLayout
from darkroom.decoding.masks import decode_mask
from darkroom.preparation.columns import binaries, fixed, texts
from darkroom.void import VOID


def _decode_one_file(
    files: Sequence[EncodedMask], classes: MaskClasses, image_size: tuple[int, int], layout: PixelLayout
) -> NDArray[np.uint8]:
    [file] = files
    return decode_mask(file.content, classes, image_size, layout)


Decoder = Callable[[Sequence[EncodedMask], MaskClasses, tuple[int, int], PixelLayout], NDArray[np.uint8]]

DECODERS: dict[Code, Decoder] = {
    "index": _decode_one_file,
    "colour": _decode_one_file,
    "file": decode_class_files,
}
"""How the files of a mask are decoded, by what the table of classes says."""


@dataclass(frozen=True)
class Masks:
    """Decodes masks, and describes them as columns of a segment."""

    classes: MaskClasses
    layout: PixelLayout
    storage: Storage

    def key(self, image: bytes, files: Sequence[EncodedMask]) -> bytes:
        """Return a digest of an image and its mask.

        Args:
            image: the SHA-256 of the image's file.
        """
        key = hashlib.sha256(image)
        for file in files:
            key.update(file.value.to_bytes(4) + hashlib.sha256(file.content).digest())
        return key.digest()

    def decode(self, files: Sequence[EncodedMask], header: Header) -> NDArray[np.uint8]:
        """Return the mask of an image: uint8 ``(height, width)``."""
        size = (header.width, header.height)
        return DECODERS[self.classes.code](files, self.classes, size, self.layout)

    def columns(
        self, keys: Sequence[bytes | None], masks: list[NDArray[np.uint8]], is_used: NDArray[np.bool_]
    ) -> dict[str, pa.Array]:
        """Return the columns that ``segments.MASK_SCHEMA`` has beside those of images.

        Args:
            keys: of all rows; None: the image or its mask cannot be read.
            masks: those of the used rows.
        """
        height, width = self.layout.height, self.layout.width
        stacked = np.stack(masks) if masks else np.empty((0, height, width), np.uint8)
        counts = [np.bincount(mask.ravel(), minlength=VOID + 1) for mask in masks]
        labels = iter([self.classes.shown(count[: len(self.classes.names)]) for count in counts])
        digests = b"".join(hashlib.sha256(mask.data).digest() for mask in masks)
        num_void = np.array([count[VOID] for count in counts], np.int32)
        is_read = np.array([key is not None for key in keys])
        return {
            "key": fixed(np.frombuffer(b"".join(filter(None, keys)), "V32"), is_read),
            "label": texts([next(labels) if used else "" for used in is_used], is_used),
            "mask_sha256": fixed(np.frombuffer(digests, "V32"), is_used),
            "num_void": fixed(num_void, is_used),
            "mask": binaries(*pack_images(stacked[..., None], self.storage), is_used),
        }

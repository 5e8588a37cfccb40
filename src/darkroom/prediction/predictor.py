"""Classify images with an exported folder, using ONNX Runtime and Pillow but not PyTorch."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom.dataset.views import EvaluationView
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, decode_whole, resize
from darkroom.decoding.watch import name_if_slow
from darkroom.models.exported import ONNX_FILES
from darkroom.parallel import chunked
from darkroom.prediction.decisions import Decisions, Failure, Prediction
from darkroom.prediction.description import ExportDescription, load_described
from darkroom.prediction.onnx_session import OnnxClassifier
from darkroom.prediction.remote import InputFile, read_input
from darkroom.prediction.tiles import NOT_FINITE, NotFiniteError, make_canvas, predict_canvas

NUM_DECODED = 64
"""Number of images that are decoded before they are classified."""

BATCH_SIZE = 64
"""Maximum number of images that are classified at once."""

MAX_INPUTS = 2**21
"""Maximum number of pixel values in a batch, 13 photographs of 224 x 224: larger batches of them are no
faster on a CPU, and take memory for their activations."""

MAX_OUTPUTS = 2**24
"""Maximum number of probabilities in a batch, 64 MiB, unless those of one image are more."""

NUM_CANVASES = 4
"""Number of images that are decoded at once, if all their pixels are needed."""

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class PredictedMask:
    """The predicted class of each pixel of one image."""

    path: InputFile
    mask: NDArray[np.uint8]
    """``(height, width)`` of the image as displayed; positions in ``class_names``."""


class Predictor(Decisions):
    """An exported model.

    Args:
        folder: a folder with an ONNX file and ``model.json``, as the export stage writes them.
        tiff: also read TIFF files.
        abstains: predict ``abstained`` instead of a class if the probability is below the threshold; if
            an image may have several labels, leave open those of which the model is not sure enough.
        masks: ``predict_masks`` will be called instead of ``predict``.
        format_name: a key of ``ONNX_FILES``.

    Raises:
        UserError: a file is missing, damaged, unreadable, or from another export; or the model has no
            threshold below which it could abstain, or does not predict what is wanted.
    """

    def __init__(
        self,
        folder: Path,
        tiff: bool = False,
        abstains: bool = False,
        masks: bool = False,
        format_name: str = "onnx",
    ) -> None:
        described, description, model = load_described(
            ExportDescription, folder, ONNX_FILES[format_name]
        )
        super().__init__(described, description, abstains, masks)
        self._tiff = tiff
        prepared_size = described.prepared_size or described.input_size
        self.layout = PixelLayout(*prepared_size, described.channels, described.resize)
        self._view = EvaluationView.of(described.input_size, described.evaluate_crop)
        self._input_size = described.input_size
        self.input_shape = (described.channels, *described.input_size)
        """Channels, height and width of what ``probabilities`` takes."""
        output_shape = self.target.output_shape(described)
        most = min(MAX_INPUTS // prod(self.input_shape), MAX_OUTPUTS // prod(output_shape))
        self._batch_size = min(BATCH_SIZE, max(most, 1))
        self._classifier = OnnxClassifier(model, self.input_shape, output_shape, description)

    @property
    def has_unfamiliarity(self) -> bool:
        """Whether predictions have an unfamiliarity."""
        return self._classifier.has_unfamiliarity

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 ``(n, num_classes)`` for uint8 images ``(n, channels, height, width)``."""
        return self._classifier.run(images)[0]

    def predict(
        self, paths: Iterable[InputFile], top_k: int | None = None
    ) -> Iterator[Prediction | Failure]:
        """Yield the outcome of each path in order; a bad file does not stop the others.

        Args:
            top_k: number of classes; None: those that the model decides for.
        """
        for outcome in self._outcomes(paths):
            if isinstance(outcome, Failure):
                yield outcome
            else:
                yield self.prediction(*outcome, top_k)

    def predict_masks(
        self, paths: Iterable[InputFile], own_scale: bool = False
    ) -> Iterator[PredictedMask | Failure]:
        """Yield the outcome of each path in order; a bad file does not stop the others.

        Args:
            own_scale: see ``make_canvas``.
        """
        make = partial(make_canvas, layout=self.layout, view=self._view, own_scale=own_scale)
        for path, canvas in chain.from_iterable(self._decoded(paths, make, NUM_CANVASES)):
            if isinstance(canvas, str):
                yield Failure(path, canvas)
                continue
            try:
                mask = predict_canvas(canvas, self.probabilities, self._input_size, self._batch_size)
            except NotFiniteError as error:
                yield Failure(path, str(error))
            else:
                yield PredictedMask(path, mask)

    def input_of(self, encoded: bytes) -> NDArray[np.uint8]:
        """Return the model's input for the bytes of an image file, uint8 ``input_shape``.

        Raises:
            BadImage: as ``decode_whole``.
        """
        return self._input(decode_whole(encoded, self.layout.channels, self._tiff)[1])

    def outputs(self, images: list[NDArray[np.uint8]]) -> list[tuple[NDArray[np.float32], float | None]]:
        """Return the probabilities and the unfamiliarity of each image, as ``input_of`` returns it.

        They do not depend on the other images.
        """
        return list(self._rows(images))

    def mask_of(self, encoded: bytes, own_scale: bool = False) -> NDArray[np.uint8]:
        """Return the mask of the bytes of an image file, uint8 ``(height, width)`` as displayed.

        Args:
            own_scale: see ``make_canvas``.

        Raises:
            BadImage: as ``decode_whole``, or the image is too large at the model's scale.
            NotFiniteError: a probability is not finite.
        """
        image = decode_whole(encoded, self.layout.channels, self._tiff)[1]
        canvas = make_canvas(image, self.layout, self._view, own_scale)
        return predict_canvas(canvas, self.probabilities, self._input_size, self._batch_size)

    def _outcomes(
        self, paths: Iterable[InputFile]
    ) -> Iterator[tuple[InputFile, NDArray[np.float32], float | None] | Failure]:
        """Yield each path with its probabilities and its unfamiliarity."""
        for batch in self._decoded(paths, self._input, NUM_DECODED):
            rows = self._rows([pixels for _, pixels in batch if isinstance(pixels, np.ndarray)])
            for path, pixels in batch:
                if isinstance(pixels, str):
                    yield Failure(path, pixels)
                elif np.isfinite((row := next(rows))[0]).all():
                    yield path, *row
                else:
                    yield Failure(path, NOT_FINITE)

    def _rows(
        self, images: list[NDArray[np.uint8]]
    ) -> Iterator[tuple[NDArray[np.float32], float | None]]:
        """Yield the probabilities and the unfamiliarity of each image."""
        for batch in chunked(images, self._batch_size):
            probabilities, unfamiliarity = self._classifier.run(np.stack(batch))
            scores = repeat(None) if unfamiliarity is None else unfamiliarity.tolist()
            yield from zip(probabilities, scores, strict=False)

    def _decoded(
        self, paths: Iterable[InputFile], convert: Callable[[Image.Image], Decoded], size: int
    ) -> Iterator[list[tuple[InputFile, Decoded | str]]]:
        """Yield ``size`` paths at a time, with the converted image, or the reason why there is none."""

        def decode(path: InputFile) -> Decoded | str:
            try:
                with name_if_slow(str(path)):
                    _, image = decode_whole(read_input(path), self.layout.channels, self._tiff)
                    return convert(image)
            except BadImage as error:
                return str(error)
            except OSError as error:
                return error.strerror or str(error)

        with ThreadPoolExecutor() as pool:
            for batch in chunked(paths, size):
                yield list(zip(batch, pool.map(decode, batch), strict=True))

    def _input(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the model's input for an image, uint8 ``(channels, height, width)``."""
        pixels = np.frombuffer(resize(image, self.layout).tobytes(), np.uint8)
        pixels = pixels.reshape(self.layout.shape)
        if self._view is not None:
            pixels = self._view(pixels[None])[0]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

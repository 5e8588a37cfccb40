"""Classify images with an exported folder, using ONNX Runtime and Pillow but not PyTorch."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from glob import glob
from itertools import chain, islice, repeat
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom.collection.system_files import is_hidden
from darkroom.dataset.views import EvaluationView
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, decode_whole, resize
from darkroom.decoding.reading import read_image_file
from darkroom.decoding.watch import name_if_slow
from darkroom.errors import UserError, counted
from darkroom.models.exported import DESCRIPTION, ONNX_FILES, check_exported, load_description
from darkroom.models.targets.interface import model_target
from darkroom.prediction.description import ExportDescription, Limits
from darkroom.prediction.onnx_session import OnnxClassifier
from darkroom.prediction.targets.interface import predicted_target
from darkroom.prediction.tiles import NOT_FINITE, NotFiniteError, make_canvas, predict_canvas
from darkroom.targets import from_file

BATCH_SIZE = 64
MAX_OUTPUTS = 2**24
"""Maximum number of probabilities in a batch, 64 MiB, unless those of one image are more."""

NUM_CANVASES = 4
"""Number of images that are decoded at once, if all their pixels are needed."""

Decoded = TypeVar("Decoded")

ABSTAINED = "abstain"
"""What is printed instead of a class, unless a class has this name."""


@dataclass(frozen=True)
class Prediction:
    """The predicted classes of one image, the most probable first."""

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    possible: tuple[str, ...] = ()
    """The classes of the prediction set, the most probable first; see ``Predictor.has_sets``."""
    unsure: tuple[str, ...] = ()
    """The labels that the model leaves open, the most probable first; see ``Predictor.leaves_open``."""
    unfamiliarity: float | None = None
    """Above 1, the image is unlike the training images; None: the model does not measure it."""


@dataclass(frozen=True)
class PredictedMask:
    """The predicted class of each pixel of one image."""

    path: Path
    mask: NDArray[np.uint8]
    """``(height, width)`` of the image as displayed; positions in ``class_names``."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be classified, with the reason."""

    path: Path
    reason: str


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Return the files that names, folders and globs stand for, each once.

    Folders are searched recursively, without hidden and system files. Pipes, devices and broken links
    are included, so that they can be reported.

    Raises:
        UserError: a name or glob matches nothing.
    """
    found: dict[Path, None] = {}  # ordered, without repetitions
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
        values, digests = load_description(folder)
        description = folder / DESCRIPTION
        model = check_exported(folder, digests, ONNX_FILES[format_name])
        try:
            described = ExportDescription.model_validate_json(json.dumps(from_file(values)), strict=True)
        except ValueError as error:
            problem = str(error).splitlines()
            raise UserError(
                f"{description}: not in darkroom's format ({' '.join(problem[1:3]) or problem[0]})"
            ) from None
        self.class_names = described.class_names
        self.target = predicted_target(described.target)
        self._decide = partial(model_target(described.target).decide, thresholds=described.thresholds)
        self.target.check(described, description, masks)
        self._tiff = tiff
        self._limits = self.target.limits(described, description) if abstains else Limits()
        self._set_thresholds = np.array(described.conformal.thresholds if described.conformal else [])
        if self.has_sets and len(self._set_thresholds) != len(self.class_names):
            raise UserError(
                f"{description}: has {counted(len(self._set_thresholds), 'threshold')} of sets for "
                f"{counted(len(self.class_names), 'class')}"
            )
        self.abstained = ABSTAINED
        while self.abstained in self.class_names:
            self.abstained = f"({self.abstained})"
        prepared_size = described.prepared_size or described.input_size
        self.layout = PixelLayout(*prepared_size, described.channels, described.resize)
        self._view = EvaluationView.of(described.input_size, described.evaluate_crop)
        self._input_size = described.input_size
        self.input_shape = (described.channels, *described.input_size)
        """Channels, height and width of what ``probabilities`` takes."""
        output_shape = self.target.output_shape(described)
        self._batch_size = min(BATCH_SIZE, max(MAX_OUTPUTS // prod(output_shape), 1))
        self._classifier = OnnxClassifier(model, self.input_shape, output_shape, description)

    @property
    def leaves_open(self) -> bool:
        """Whether single labels are left open."""
        return self._limits.yes is not None

    @property
    def has_sets(self) -> bool:
        """Whether predictions have sets of possible classes."""
        return len(self._set_thresholds) > 0

    @property
    def has_unfamiliarity(self) -> bool:
        """Whether predictions have an unfamiliarity."""
        return self._classifier.has_unfamiliarity

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 ``(n, num_classes)`` for uint8 images ``(n, channels, height, width)``."""
        return self._classifier.run(images)[0]

    def predict(self, paths: Sequence[Path], top_k: int | None = None) -> Iterator[Prediction | Failure]:
        """Yield the outcome of each path in order; a bad file does not stop the others.

        Args:
            top_k: number of classes; None: those that the model decides for.
        """
        for outcome in self._outcomes(paths):
            if isinstance(outcome, Failure):
                yield outcome
            else:
                yield self._prediction(*outcome, top_k)

    def predict_masks(
        self, paths: Sequence[Path], own_scale: bool = False
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

    def _outcomes(
        self, paths: Sequence[Path]
    ) -> Iterator[tuple[Path, NDArray[np.float32], float | None] | Failure]:
        """Yield each path with its probabilities and its unfamiliarity."""
        for batch in self._decoded(paths, self._input, self._batch_size):
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
        if images:
            probabilities, unfamiliarity = self._classifier.run(np.stack(images))
            scores = repeat(None) if unfamiliarity is None else unfamiliarity.tolist()
            yield from zip(probabilities, scores, strict=False)

    def _decoded(
        self, paths: Sequence[Path], convert: Callable[[Image.Image], Decoded], size: int
    ) -> Iterator[list[tuple[Path, Decoded | str]]]:
        """Yield ``size`` paths at a time, with the converted image, or the reason why there is none."""

        def decode(path: Path) -> Decoded | str:
            try:
                with name_if_slow(str(path)):
                    _, image = decode_whole(read_image_file(path), self.layout.channels, self._tiff)
                    return convert(image)
            except BadImage as error:
                return str(error)
            except OSError as error:
                return error.strerror or str(error)

        with ThreadPoolExecutor() as pool:
            remaining = iter(paths)
            while batch := list(islice(remaining, size)):
                yield list(zip(batch, pool.map(decode, batch), strict=True))

    def _input(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the model's input for an image, uint8 ``(channels, height, width)``."""
        pixels = np.frombuffer(resize(image, self.layout).tobytes(), np.uint8)
        pixels = pixels.reshape(self.layout.shape)
        if self._view is not None:
            pixels = self._view(pixels[None])[0]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _prediction(
        self,
        path: Path,
        probabilities: NDArray[np.float32],
        unfamiliarity: float | None,
        top_k: int | None,
    ) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")
        is_open = self._limits.is_open(probabilities)
        decided = (self._decide(probabilities[None])[0] & ~is_open)[order]
        best = order[decided] if top_k is None else order[:top_k]
        classes = tuple(self.class_names[index] for index in best)
        if float(probabilities.max()) < self._limits.threshold:
            classes = (self.abstained, *classes[1:])
        possible = (
            order[probabilities[order].astype(np.float64) >= self._set_thresholds[order]]
            if self.has_sets
            else ()
        )
        return Prediction(
            path,
            classes,
            tuple(float(probabilities[index]) for index in best),
            tuple(self.class_names[index] for index in possible),
            tuple(self.class_names[index] for index in order[is_open[order]]),
            unfamiliarity,
        )

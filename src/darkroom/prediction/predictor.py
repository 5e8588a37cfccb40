"""Classify images with an exported folder, using ONNX Runtime and Pillow but not PyTorch."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from glob import glob
from itertools import islice, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.system_files import is_hidden
from darkroom.dataset.views import EvaluationView
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, decode
from darkroom.decoding.reading import read_image_file
from darkroom.decoding.watch import name_if_slow
from darkroom.errors import UserError, counted
from darkroom.models.exported import DESCRIPTION, ONNX_FILES, check_exported, load_description
from darkroom.models.targets.interface import model_target
from darkroom.prediction.description import ExportDescription, Limits
from darkroom.prediction.onnx_session import OnnxClassifier
from darkroom.prediction.targets.interface import predicted_target
from darkroom.targets import from_file

BATCH_SIZE = 64


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
        format_name: a key of ``ONNX_FILES``.

    Raises:
        UserError: a file is missing, damaged, unreadable, or from another export; or the model has no
            threshold below which it could abstain.
    """

    def __init__(
        self, folder: Path, tiff: bool = False, abstains: bool = False, format_name: str = "onnx"
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
        self.target.check(described, description)
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
        self.input_shape = (described.channels, *described.input_size)
        """Channels, height and width of what ``probabilities`` takes."""
        self._classifier = OnnxClassifier(model, self.input_shape, len(self.class_names), description)

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
        remaining = iter(paths)
        with ThreadPoolExecutor() as pool:
            while batch := list(islice(remaining, BATCH_SIZE)):
                decoded = list(pool.map(self._decode, batch))
                images = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
                rows = self._rows(images)
                for path, pixels in zip(batch, decoded, strict=True):
                    if isinstance(pixels, str):
                        yield Failure(path, pixels)
                    elif np.isfinite((row := next(rows))[0]).all():
                        yield self._prediction(path, *row, top_k)
                    else:
                        yield Failure(path, "the model's probabilities for it are not finite")

    def _rows(
        self, images: list[NDArray[np.uint8]]
    ) -> Iterator[tuple[NDArray[np.float32], float | None]]:
        """Yield the probabilities and the unfamiliarity of each image."""
        if images:
            probabilities, unfamiliarity = self._classifier.run(np.stack(images))
            scores = repeat(None) if unfamiliarity is None else unfamiliarity.tolist()
            yield from zip(probabilities, scores, strict=False)

    def _decode(self, path: Path) -> NDArray[np.uint8] | str:
        try:
            with name_if_slow(str(path)):
                _, pixels = decode(read_image_file(path), self.layout, self._tiff)
        except BadImage as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)
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

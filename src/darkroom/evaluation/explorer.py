"""The test images as the report's script explores them: columns of numbers, and small pictures.

Everything is bounded in bytes, so that a report of any size opens at once. Images are preferred in the
order of ``most_telling``.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from darkroom.dataset.storage import as_picture
from darkroom.escape import for_line
from darkroom.evaluation import unfamiliarity
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.pictures import Pictures

LIST_BYTES = 1_200_000
"""Approximate size of the columns about images."""
PICTURE_BYTES = 2_400_000
"""Maximum size of all small pictures in base64."""
SIDE = 96
"""Maximum side of a small picture in pixels."""
LOSSLESS_SIDE = 16
"""Side in pixels up to which lossless WebP is as small as lossy WebP."""
NUM_TOP = 5
"""Number of classes whose probabilities are kept per image."""
PARTS = 10_000
"""Probabilities and losses are rounded to this part of 1."""

THRESHOLDS = np.array(
    [0, 0.001, 0.002, 0.005, *(step / 100 for step in range(1, 100)), 0.995, 0.998, 0.999]
)
"""The thresholds that can be tried: hundredths, and finer steps close to 0 and 1."""

Slices = Mapping[str, Sequence[str]]
"""For each way to divide the images, such as ``brightness``, the name of each image's part."""


@dataclass(frozen=True)
class Explorer:
    """What is embedded in the report for its script."""

    columns: dict[str, Any]
    """Values that JSON can represent; one entry per listed image in each list."""
    indices: list[int]
    """The listed images, as indices into the split, the highest loss first."""
    num_images: int
    """The number of images of the split."""

    @property
    def num_pictures(self) -> int:
        """The number of images with a small picture."""
        return sum(map(bool, self.columns["pictures"]))

    def row(self, index: int) -> int | None:
        """Return the row of an image of the split, or None if it is not listed."""
        return self.indices.index(index) if index in self.indices else None

    @property
    def json(self) -> Markup:
        """The columns as JSON that cannot end the ``script`` element around it."""
        text = json.dumps(self.columns, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def explore(evaluation: Evaluation, shards: Pictures, slices: Slices | None = None) -> Explorer:
    """Return the images of a split for the report's script.

    Args:
        shards: the images that were evaluated, in the same order.
        slices: for filters; each sequence has one entry per image.
    """
    order, paths = most_telling(evaluation), shards.paths
    slices = {**(slices or {}), **unfamiliarity.filters(evaluation)}
    own_bytes = 70 + 4 * len(slices)
    sizes = np.cumsum([len(paths[index].encode("utf-8", "replace")) + own_bytes for index in order])
    preferred = order[: max(int(np.searchsorted(sizes, LIST_BYTES, side="right")), 1)]
    truth = evaluation.truth_probabilities.numpy()
    listed = preferred[np.lexsort((preferred, truth[preferred]))]
    pictures = _pictures(preferred, shards)
    rows = listed.tolist()
    true, predicted = evaluation.true_indices, evaluation.predicted_indices
    columns: dict[str, Any] = {
        "names": [for_line(name) for name in evaluation.confused_names],
        "paths": [for_line(paths[index]) for index in rows],
        "true": [true[index] for index in rows],
        "predicted": [predicted[index] for index in rows],
        "confidence": _in_parts(evaluation.confidences.numpy()[listed]),
        "loss": _in_parts(-np.log(np.maximum(truth[listed], np.finfo(np.float64).tiny))),
        "top": _top(evaluation.probabilities.numpy()[listed]),
        "unfamiliarity": unfamiliarity.hundredths(evaluation, listed),
        "pictures": [pictures.get(index, "") for index in rows],
        "slices": {for_line(name): _encoded(parts, rows) for name, parts in slices.items()},
        "thresholds": THRESHOLDS.tolist(),
        "own": evaluation.own_thresholds,
        **_histograms(evaluation),
    }
    return Explorer(columns, rows, len(paths))


def most_telling(evaluation: Evaluation) -> NDArray[np.int64]:
    """Return the indices of all images, the most telling first.

    Mistakes come before correct predictions. Both are spread over the cells of the confusion matrix:
    first the image with the highest loss of every cell, then the second of every cell, and so on.
    """
    num_images = len(evaluation.targets)
    true, predicted = (
        tensor.reshape(num_images, -1).numpy().astype(np.int64)
        for tensor in (evaluation.targets, evaluation.preds)
    )
    cells = np.unique(np.concatenate([true, predicted], axis=1), axis=0, return_inverse=True)[1]
    cells, truth = cells.reshape(-1), evaluation.truth_probabilities.numpy()
    by_cell = np.lexsort((truth, cells))
    starts = np.searchsorted(cells[by_cell], cells[by_cell], side="left")
    ranks = np.empty(num_images, np.int64)
    ranks[by_cell] = np.arange(num_images) - starts
    return np.lexsort((truth, ranks, (true == predicted).all(axis=1)))


def _in_parts(values: NDArray[np.float64]) -> list[int]:
    return np.rint(values * PARTS).astype(np.int64).tolist()


def _encoded(parts: Sequence[str], rows: list[int]) -> dict[str, Any]:
    """Return the different names of parts, and for each row the position of its name."""
    names = sorted({parts[index] for index in rows})
    positions = {name: position for position, name in enumerate(names)}
    return {
        "values": [for_line(name) for name in names],
        "rows": [positions[parts[index]] for index in rows],
    }


def _top(probabilities: NDArray[np.float64]) -> list[list[int]]:
    """Return class, probability, class, probability, ... of each image, the most probable class first.

    Classes after the first are omitted if their probability is under 0.0005.
    """
    rest, rows = probabilities.copy(), np.arange(len(probabilities))
    top: list[list[int]] = [[] for _ in rows]
    for rank in range(min(NUM_TOP, probabilities.shape[1])):
        best = rest.argmax(axis=1)
        parts = _in_parts(rest[rows, best])
        for pairs, name, part in zip(top, best.tolist(), parts, strict=True):
            if rank == 0 or part >= PARTS // 2000:
                pairs += [name, part]
        rest[rows, best] = -1
    return top


def _pictures(preferred: NDArray[np.int64], shards: Pictures) -> dict[int, str]:
    """Return small pictures in base64 by index, until the budget is spent."""
    pictures: dict[int, str] = {}
    room = PICTURE_BYTES
    for start in range(0, len(preferred), 64):
        chunk = preferred[start : start + 64]
        for index, pixels in zip(chunk.tolist(), shards.gather(chunk), strict=True):
            picture = base64.b64encode(_small_webp(pixels)).decode()
            room -= len(picture)
            if room < 0:
                return pictures
            pictures[index] = picture
    return pictures


def _small_webp(pixels: NDArray[np.uint8]) -> bytes:
    picture, encoded = as_picture(pixels), io.BytesIO()
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    lossless = max(picture.size) <= LOSSLESS_SIDE
    picture.save(encoded, "WEBP", lossless=lossless, quality=75, method=2)
    return encoded.getvalue()


def _histograms(evaluation: Evaluation) -> dict[str, list[str]]:
    """Return how many images with and without each class have which probability of it.

    Returns:
        ``positives`` and ``negatives``: for each class, counts separated by commas, without zeros. Count
        ``k`` is that of the probabilities from ``THRESHOLDS[k]`` to below ``THRESHOLDS[k + 1]``. The
        number of predictions at a threshold is the sum of the counts from there on, which is exact.
    """
    targets, num_bins = evaluation.indicators(evaluation.targets).numpy(), len(THRESHOLDS)
    histograms: dict[str, list[str]] = {"positives": [], "negatives": []}
    for label, probabilities in enumerate(evaluation.probabilities.numpy().T):
        bins = np.searchsorted(THRESHOLDS, probabilities, side="right") - 1
        has_it = targets[:, label]
        for name, chosen in (("positives", has_it), ("negatives", ~has_it)):
            counts = np.bincount(bins[chosen], minlength=num_bins).tolist()
            histograms[name].append(",".join(str(count or "") for count in counts))
    return histograms

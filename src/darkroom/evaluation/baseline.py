"""Baselines that any model should beat: the most frequent class, and a logistic regression."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from torch import Tensor

from darkroom.dataset.shards import Shards
from darkroom.evaluation.features import FeatureExtractor
from darkroom.evaluation.regression import (
    STRENGTHS,
    Probabilities,
    make_reduction,
    one_thread,
)
from darkroom.evaluation.targets.interface import EvaluationTarget
from darkroom.inputs import INPUT_WORDS
from darkroom.progress import Bar, progress_bar

MAX_TRAIN_IMAGES, MAX_VAL_IMAGES = 10_000, 2_000
"""Maximum number of images per split, which bounds the time."""
CHUNK_BYTES = 16 * 2**20
"""Size of the images whose features are extracted at a time."""


@dataclass
class Baseline:
    """Both fitted baselines."""

    target: EvaluationTarget
    num_classes: int
    extractor: FeatureExtractor
    most_frequent: Tensor
    """The most frequent class or set of labels: a row of the targets."""
    reduction: Pipeline
    probabilities: Probabilities
    thresholds: list[float] | None
    """The threshold of each label, if predictions need them."""
    strength: float
    num_images: int
    """Number of training images that the regression was fitted on."""
    _preds: list[Tensor] = field(default_factory=list)

    def predict(self, vectors: Tensor) -> Tensor:
        """Return the regression's predictions.

        Args:
            vectors: float32 ``(n, num_features)``, on any device.

        Returns:
            As ``EvaluationTarget.preds`` returns, on the CPU.
        """
        reduced = self.reduction.transform(_as_array(vectors))
        return self.target.preds(torch.from_numpy(self.probabilities(reduced)), self.thresholds)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Also predict every image that the model classifies in the block."""
        self._preds = []
        with (
            one_thread(),
            self.extractor.passed_to(lambda vectors: self._preds.append(self.predict(vectors))),
        ):
            yield

    def scores(self, targets: Tensor) -> dict[str, dict[str, Any]]:
        """Return the scores of the baselines on the watched images, as in metrics.json.

        Args:
            targets: as in ``Batch``, on the CPU, in the same order.
        """
        constant = self.most_frequent.expand(targets.shape)
        return {
            "most_frequent": self.target.brief_scores(targets, constant, self.num_classes),
            "logistic_regression": {
                **self.target.brief_scores(targets, torch.cat(self._preds), self.num_classes),
                "features": self.extractor.name,
                "inverse_regularisation": self.strength,
                "train_images": self.num_images,
            },
        }


def fit_baseline(
    target: EvaluationTarget,
    extractor: FeatureExtractor,
    train: Shards,
    val: Shards,
    num_classes: int,
    device: torch.device,
) -> Baseline:
    """Fit the baselines on training images, and choose the regularisation on validation images.

    The strength with the highest macro F1 is chosen; among equals, the one with the lowest cross
    entropy. At most 10,000 training and 2,000 validation images are used, in which every class keeps
    its proportion. Nothing is random.
    """
    chosen = [
        (split, stratified_sample(target, split.labels, most))
        for split, most in ((train, MAX_TRAIN_IMAGES), (val, MAX_VAL_IMAGES))
    ]
    vectors = _vectors(extractor, chosen, device)
    train_labels, val_labels = (split.labels[rows] for split, rows in chosen)
    val_targets = torch.from_numpy(val_labels)

    with one_thread(), progress_bar("evaluate: baseline", len(STRENGTHS), unit="fits") as bar:
        reduction = make_reduction(extractor.name, vectors[0])
        reduced = [reduction.transform(array) for array in vectors]
        best: tuple[float, float] | None = None
        for strength, probabilities in target.regressions(reduced[0], train_labels, num_classes):
            predicted = torch.from_numpy(probabilities(reduced[1]))
            thresholds = target.thresholds(val_targets, predicted)
            preds = target.preds(predicted, thresholds)
            f1 = target.brief_scores(val_targets, preds, num_classes)["f1_macro"]
            of_truth = target.truth_probabilities(val_targets, predicted)
            quality = (f1 or 0.0, float(np.log(of_truth.clamp(min=1e-12).numpy()).mean()))
            if best is None or quality > best:
                best, kept = quality, (probabilities, thresholds, strength)
            bar.advance(1)
    return Baseline(
        target,
        num_classes,
        extractor,
        most_frequent(train.labels),
        reduction,
        *kept,
        num_images=len(train_labels),
    )


def most_frequent(labels: NDArray[Any]) -> Tensor:
    """Return the most frequent class or set of labels; among equals, the first in class order.

    Args:
        labels: as in ``Shards``.

    Returns:
        A row of the labels.
    """
    values, counts = np.unique(labels, axis=0, return_counts=True)
    return torch.from_numpy(np.asarray(values[counts.argmax()]))


def stratified_sample(target: EvaluationTarget, labels: NDArray[Any], most: int) -> NDArray[np.int64]:
    """Return about ``most`` images, in which each class keeps its proportion and has at least one image.

    The images are at equal distances in the order of classes, or of sets of labels.

    Args:
        labels: as in ``Shards``.

    Returns:
        ascending indices, int64: all images, or ``most`` and at most one more per class.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.lexsort(labels.reshape(len(labels), -1).T[::-1])
    return np.union1d(order[np.arange(most) * len(labels) // most], target.first_of_each(labels))


def _vectors(
    extractor: FeatureExtractor, chosen: Sequence[tuple[Shards, NDArray[np.int64]]], device: torch.device
) -> list[NDArray[np.float64]]:
    """Return the vectors of some images of each split."""
    is_whole = all(len(rows) == len(split) for split, rows in chosen)
    known = extractor.of_splits([split for split, _ in chosen]) if is_whole else None
    if known is not None:
        return [_as_array(torch.tensor(rows)) for rows in known]
    words, num_inputs = INPUT_WORDS[chosen[0][0].input], sum(len(rows) for _, rows in chosen)
    with progress_bar("evaluate: features for the baseline", num_inputs, words.several) as bar:
        return [_extracted(extractor, split, rows, device, bar) for split, rows in chosen]


def _extracted(
    extractor: FeatureExtractor, shards: Shards, rows: NDArray[np.int64], device: torch.device, bar: Bar
) -> NDArray[np.float64]:
    per_chunk = max(CHUNK_BYTES // int(np.prod(shards.shape)), 1)
    vectors = []
    for start in range(0, len(rows), per_chunk):
        images = torch.from_numpy(shards.gather(rows[start : start + per_chunk])).to(device)
        vectors.append(_as_array(extractor.extract(images.permute(0, 3, 1, 2))))
        bar.advance(len(images))
    return np.concatenate(vectors)


def _as_array(vectors: Tensor) -> NDArray[np.float64]:
    return np.nan_to_num(vectors.cpu().double().numpy())

"""Predictions for images by models that were trained on the other folds."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.config.train import TrainConfig
from darkroom.dataset.views import EvaluationView
from darkroom.evaluation.regression import make_reduction, one_thread
from darkroom.evaluation.targets.interface import evaluation_target
from darkroom.features.extractor import Extractor, Wanted
from darkroom.loading.batches import Batches
from darkroom.progress import progress_bar
from darkroom.retraining.parts import LabelledImages
from darkroom.retraining.trainings import Probabilities, of_folds, probabilities_of_each
from darkroom.runtime import Runtime
from darkroom.training.job import make_job

Method = Literal["features", "recipe"]


def choose_method(config: TrainConfig) -> Method:
    """Return ``features`` if the network starts from given weights, or its backbone is frozen."""
    is_given = config.model.weights != "random" or config.train.freezes_backbone
    return "features" if is_given else "recipe"


def predict_out_of_fold(
    method: Method,
    config: TrainConfig,
    runtime: Runtime,
    images: LabelledImages,
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> Probabilities:
    """Return the probabilities of each image by a model that was trained on the other folds.

    - ``features``: a logistic regression on the features of the backbone with its initial weights. The
      regularisation with the lowest cross entropy out of fold is used.
    - ``recipe``: the network, trained as params.yaml says; the same trainings as `darkroom folds`.

    Args:
        folds: int64 ``(n,)``: 0, 1, ...
        groups: as ``load_groups`` returns them.

    Returns:
        float64 ``(n, num_classes)``.

    Raises:
        UserError, OSError: see ``make_job``, ``Extractor.features`` and ``fit``.
    """
    if method == "features":
        return _by_features(config, runtime, images, folds)
    return _by_recipe(config, runtime, images, folds, groups)


def _by_features(
    config: TrainConfig, runtime: Runtime, images: LabelledImages, folds: NDArray[np.int64]
) -> Probabilities:
    job = make_job(config, runtime)
    view = EvaluationView.of(job.spec.input_size, config.train.evaluate_crop)
    extractor = Extractor(job.model, job.spec, job.environment, job.store)
    wanted = [Wanted(Batches(part, job.device, 1, runtime.workers)) for part in images.parts(view)]
    vectors = np.nan_to_num(np.concatenate(extractor.features(wanted, "suspects"))).astype(np.float64)
    labels, num_classes = images.shards.labels, len(images.info.class_names)
    target = evaluation_target(images.info.target)
    found: dict[float, Probabilities] = {}
    with one_thread(), progress_bar("suspects: folds", folds.max() + 1, unit="folds") as bar:
        for fold in range(folds.max() + 1):
            is_out = folds == fold
            reduction = make_reduction("backbone", vectors[~is_out])
            learnt, held_out = (reduction.transform(vectors[part]) for part in (~is_out, is_out))
            for strength, probabilities in target.regressions(learnt, labels[~is_out], num_classes):
                table = found.setdefault(strength, np.zeros((len(labels), num_classes)))
                table[is_out] = probabilities(held_out)
            bar.advance(1)

    def quality(table: Probabilities) -> float:
        of_truth = target.truth_probabilities(torch.from_numpy(labels), torch.from_numpy(table))
        return float(np.log(np.maximum(of_truth.numpy(), 1e-12)).mean())

    return max(found.values(), key=quality)


def _by_recipe(
    config: TrainConfig,
    runtime: Runtime,
    images: LabelledImages,
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> Probabilities:
    trainings = of_folds(config, images, groups, folds)
    probabilities = np.zeros((len(folds), len(images.info.class_names)))
    found = probabilities_of_each(trainings, images, runtime, "suspects")
    for one, of_fold in zip(trainings, found, strict=True):
        probabilities[one.rows] = of_fold
    return probabilities

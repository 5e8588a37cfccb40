"""Predictions for images by models that were trained on the other folds."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.compute.device import select_device
from darkroom.compute.environment import describe_environment, fingerprint
from darkroom.compute.inference import compute_logits
from darkroom.config.train import TrainConfig
from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.prepared import PreparedData
from darkroom.dataset.shards import Shards
from darkroom.dataset.subset import Subset
from darkroom.dataset.targets.interface import stored_target
from darkroom.dataset.views import EvaluationView
from darkroom.digests import code_digest
from darkroom.evaluation.regression import make_reduction, one_thread
from darkroom.evaluation.targets.interface import evaluation_target
from darkroom.features.extractor import ROOMS, Extractor, Wanted
from darkroom.loading.batches import Batches
from darkroom.models.classifier import probabilities_of
from darkroom.paths import CACHE
from darkroom.progress import Bar, progress_bar
from darkroom.runtime import Runtime
from darkroom.suspects.confident import Probabilities
from darkroom.training.checkpoint import scratch_folder
from darkroom.training.engine import fit
from darkroom.training.job import Job, make_job
from darkroom.training.session import settle

Method = Literal["features", "recipe"]


class LabelledImages:
    """The prepared train and validation images as one set, in this order."""

    def __init__(self) -> None:
        self.data = PreparedData()
        self.info = self.data.info
        self.shards = self.open(None)

    def open(self, view: EvaluationView | None) -> Shards:
        parts = self.parts(view)
        return Subset(parts, np.arange(sum(map(len, parts))))

    def parts(self, view: EvaluationView | None) -> list[Shards]:
        return [self.data.open(split, view) for split in ("train", "val")]

    @cached_property
    def splits(self) -> list[str]:
        """The split of each image."""
        return [split for split in ("train", "val") for _ in range(self.info.num_images(split))]


@dataclass(frozen=True)
class FoldData:
    """One fold as validation images, all others as training images; see ``TrainingData``."""

    images: LabelledImages
    is_held_out: NDArray[np.bool_]

    def rows(self, split: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.is_held_out if split == "val" else ~self.is_held_out)

    @cached_property
    def info(self) -> DatasetInfo:
        known = self.images.info
        digest = hashlib.sha256(f"{known.digest} {self.rows('val').tolist()}".encode()).hexdigest()
        counts, sizes = {**known.counts}, {**known.labels_per_image}
        for split in ("train", "val"):
            labels = self.images.shards.labels[self.rows(split)]
            names, count = known.class_names, stored_target(known.target).count
            per_class, sizes[split] = count(labels, len(names))
            counts[split] = dict(zip(names, per_class, strict=True))
        changes = {"counts": counts, "labels_per_image": sizes, "digest": digest, "files": {}}
        return known.model_copy(update=changes)

    def open(self, split: Literal["train", "val"], view: EvaluationView | None) -> Shards:
        return Subset(self.images.parts(view), self.rows(split))


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
) -> Probabilities:
    """Return the probabilities of each image by a model that was trained on the other folds.

    - ``features``: a logistic regression on the features of the backbone with its initial weights. The
      regularisation with the lowest cross entropy out of fold is used.
    - ``recipe``: the network, trained as params.yaml says. The epoch is chosen on the fold itself, which
      hardly matters for the predictions of single images. Finished folds are kept in ``.darkroom/``.

    Args:
        folds: int64 ``(n,)``: 0, 1, ...

    Returns:
        float64 ``(n, num_classes)``.

    Raises:
        UserError, OSError: see ``make_job``, ``Extractor.features`` and ``fit``.
    """
    by_method = {"features": _by_features, "recipe": _by_recipe}
    return by_method[method](config, runtime, images, folds)


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
    config: TrainConfig, runtime: Runtime, images: LabelledImages, folds: NDArray[np.int64]
) -> Probabilities:
    num_folds = int(folds.max()) + 1
    probabilities = np.zeros((len(folds), len(images.info.class_names)))
    scratch = scratch_folder(
        CACHE / "suspects",
        code_digest((*ROOMS, "training", "metrics")),
        config.model_dump_json(),
        images.info.digest,
        hashlib.sha256(folds.astype("<i8").tobytes()).hexdigest(),
        fingerprint(describe_environment(select_device(runtime.device))),
    )
    total = sum(int((folds != fold).sum()) for fold in range(num_folds)) * config.train.epochs
    with progress_bar("suspects: train", total) as bar:
        for fold in range(num_folds):
            data = FoldData(images, folds == fold)
            bar.note(f"fold {fold + 1} of {num_folds}")
            job = make_job(config, runtime, data)
            place = scratch / f"{fold + 1}-{job.weights_sha256[:16] or 'random'}"
            probabilities[data.rows("val")] = _of_fold(job, place, bar)
    return probabilities


def _of_fold(job: Job, scratch: Path, bar: Bar) -> Probabilities:
    """Return the probabilities of one fold's images, from the cache if they are there."""
    known = scratch / "probabilities.npy"
    if known.exists():
        bar.advance(job.train.num_images * job.config.train.epochs)
        return np.load(known)
    scratch.mkdir(parents=True, exist_ok=True)
    probabilities = _trained(job.with_features(), scratch, bar)
    _save(probabilities, known)
    return probabilities


def _trained(job: Job, scratch: Path, bar: Bar) -> Probabilities:
    options, state = settle(job, scratch, lambda: None)
    bar.advance(state.epoch * job.train.num_images)

    def train_batches(epoch: int, step: int) -> Iterator[Any]:
        return bar.count(job.epoch(epoch, step))

    results = fit(
        state,
        train_batches,
        job.validation,
        job.loss,
        options,
        job.config.seed,
        None,
        job.network(state.model),
        job.network,
    )
    kept = [result for result in results if result.is_kept][-1]
    job.trained.load_state_dict(state.kept_weights)
    logits, _ = compute_logits(
        job.validated(job.model), job.validation(kept.epoch - 1), "train.batch_size"
    )
    return probabilities_of(logits.cpu().double(), job.spec).numpy()


def _save(probabilities: Probabilities, path: Path) -> None:
    content = io.BytesIO()
    np.save(content, probabilities)
    part = path.with_suffix(".part")
    part.write_bytes(content.getvalue())
    part.replace(path)

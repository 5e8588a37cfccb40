"""Several trainings as params.yaml says: on all folds but one, or with other seeds."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.config.train import TrainConfig
from darkroom.dataset.views import EvaluationView
from darkroom.errors import UserError
from darkroom.loading.batches import Batches
from darkroom.models.classifier import probabilities_of
from darkroom.progress import Bar, progress_bar
from darkroom.retraining.features import SharedFeatures
from darkroom.retraining.folds import assign_folds
from darkroom.retraining.parts import LabelledImages, Part
from darkroom.retraining.training import folder_of, save_result, train, validation_logits
from darkroom.runtime import Runtime
from darkroom.training.job import Job, make_job

Probabilities = NDArray[np.float64]
"""``(n, num_classes)``, 0..1."""


@dataclass(frozen=True)
class Training:
    """One of several trainings, and the images on which it is tested."""

    name: str
    config: TrainConfig
    part: Part | None
    """The images to train and to validate on; None: the prepared splits."""
    rows: NDArray[np.int64]
    """Positions of the tested images among the train and val images, ``(n,)``."""


def of_folds(
    config: TrainConfig,
    images: LabelledImages,
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> list[Training]:
    """Return a training for each fold of the train and val images, which is tested on that fold.

    The epoch is chosen on validation images that are cut from the other folds, as large a share of all
    images as in the prepared splits.

    Args:
        groups: as ``load_groups`` returns them; a group is on one side of the cut.
        folds: as ``assign_folds`` returns them.

    Raises:
        UserError: there are too few groups.
    """
    strata, num_folds = images.target.strata(images.shards.labels), int(folds.max()) + 1
    wanted = max(2, round(len(folds) / images.info.num_images("val")))
    found = []
    for fold in range(num_folds):
        rest, tested = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        num_cuts = min(wanted, len(np.unique(groups[rest])))
        if num_cuts < 2:
            raise UserError(
                f"{num_folds} folds: without fold {fold + 1}, the {images.words.several} form a single"
                " group, and none are left to validate on; use more folds"
            )
        is_val = assign_folds(strata[rest], groups[rest], num_cuts, config.seed) == 0
        part = Part(images, rest[~is_val], rest[is_val])
        found.append(Training(f"fold {fold + 1} of {num_folds}", config, part, tested))
    return found


def of_seeds(config: TrainConfig, images: LabelledImages, num_seeds: int) -> list[Training]:
    """Return trainings with consecutive seeds on the prepared splits, tested on those to validate on."""
    rows = images.info.num_images("train") + np.arange(images.info.num_images("val"))
    seeds = range(config.seed, config.seed + num_seeds)
    return [
        Training(f"seed {seed}", config.model_copy(update={"seed": seed}), None, rows) for seed in seeds
    ]


def probabilities_of_each(
    trainings: Sequence[Training], images: LabelledImages, runtime: Runtime, title: str
) -> Iterator[Probabilities]:
    """Yield what each training predicts for its tested images, ``(len(rows), num_classes)``.

    Finished trainings are kept in ``.darkroom/``, and one that was killed resumes. The features of a
    frozen backbone are computed once.

    Args:
        title: begins the progress bar.

    Raises:
        UserError, OSError: see ``make_job``, ``Extractor.features`` and ``fit``.
    """
    config = trainings[0].config
    scratch = folder_of("retraining", config, runtime, images.info.digest)
    features = SharedFeatures(config, runtime, images)
    sizes = [(one.part or images.data).info.num_images("train") for one in trainings]
    total = sum(sizes) * config.train.epochs
    with progress_bar(f"{title}: train", total, images.words.several) as bar:
        for one in trainings:
            bar.note(one.name)
            yield _of_training(one, runtime, features, scratch, bar)


def _of_training(
    training: Training, runtime: Runtime, features: SharedFeatures, scratch: Path, bar: Bar
) -> Probabilities:
    """Return the probabilities of one training, from the cache if they are there."""
    config, part = training.config, training.part
    job = make_job(config, runtime, part)
    parts = f"{config.seed} {job.origins} {job.info.digest} {training.rows.tolist()}"
    place = scratch / hashlib.sha256(parts.encode()).hexdigest()[:16]
    known = place / "probabilities.npy"
    if known.exists():
        bar.advance(job.train.num_images * config.train.epochs)
        return np.load(known)
    place.mkdir(parents=True, exist_ok=True)
    job = job.with_features() if part is None else features.of(job, part)
    epoch = train(job, place, bar, runtime.checkpoint_seconds)
    if part is not None:
        job = _tested(job, replace(part, val_rows=training.rows), runtime, features)
    probabilities = probabilities_of(validation_logits(job, epoch), job.spec).numpy()
    save_result(probabilities, known)
    return probabilities


def _tested(job: Job, part: Part, runtime: Runtime, features: SharedFeatures) -> Job:
    """Return the job with the tested images in place of those to validate on."""
    view = EvaluationView.of(job.spec.input_size, job.config.train.evaluate_crop)
    size = -(-job.batch_size // job.config.train.micro_batches)
    val = Batches(part.open("val", view), job.device, size, runtime.workers)
    return features.of(replace(job, val=val), part)

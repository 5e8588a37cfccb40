"""One training per size and repeat, and what each predicts for the validation images."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.config.train import TrainConfig
from darkroom.learning_curve.curve import Curve, OneHot, make_curve
from darkroom.learning_curve.subsets import SizedSubset, nested_subsets
from darkroom.models.targets.interface import model_target
from darkroom.progress import Bar, progress_bar
from darkroom.retraining.parts import LabelledImages, Part
from darkroom.retraining.training import folder_of, save_result, train, validation_logits
from darkroom.runtime import Runtime
from darkroom.training.job import Job, make_job


@dataclass(frozen=True)
class Repeat:
    """The subsets of one repeat, and the parameters that it trains with."""

    config: TrainConfig
    subsets: list[SizedSubset]


def plan_repeats(
    config: TrainConfig,
    images: LabelledImages,
    groups: NDArray[np.int64],
    percents: Sequence[float],
    repeats: int,
) -> tuple[list[Repeat], list[str]]:
    """Return the repeats, and remarks on sizes that are omitted.

    Each repeat has another seed, for the choice of images and for the training. The first has that of
    params.yaml. A size is used only if all repeats have it.

    Args:
        groups: of the training and validation images, as ``load_groups`` returns them.

    Raises:
        UserError: see ``nested_subsets``.
    """
    num_train, names = images.info.num_images("train"), images.info.class_names
    target, labels, groups = images.target, images.shards.labels[:num_train], groups[:num_train]
    strata, indicators = target.strata(labels), target.indicators(labels, len(names))
    remarks: dict[str, None] = {}
    found = []
    wanted = sorted(percents)
    for number in range(repeats):
        seed = config.seed + number
        subsets, left_out = nested_subsets(strata, indicators, groups, names, wanted, seed, images.words)
        remarks |= dict.fromkeys(left_out)
        found.append(Repeat(config.model_copy(update={"seed": seed}), subsets))
        wanted = [percent for percent in wanted if percent in {one.percent for one in subsets}]
    common = set(wanted)
    return [
        Repeat(one.config, [part for part in one.subsets if part.percent in common]) for one in found
    ], [*remarks]


def predict_validation(
    repeats: Sequence[Repeat], images: LabelledImages, runtime: Runtime
) -> list[list[OneHot]]:
    """Train on every subset; return the predictions for the validation images, by repeat and size.

    The network is trained as params.yaml says, with as many epochs for each size. A small subset is
    repeated within the epoch, so that each size gets about as many optimizer steps. Features of a frozen
    backbone are computed once, for all images. Finished trainings are kept in ``.darkroom/``.

    Raises:
        UserError, OSError: see ``make_job``, ``Extractor.features`` and ``fit``.
    """
    scratch = folder_of("learning_curve", repeats[0].config, runtime, images.info.digest)
    total = images.info.num_images("train")
    num_images = sum(
        len(part.repeated(total)) * one.config.train.epochs for one in repeats for part in one.subsets
    )
    features = _Features(repeats[0].config, runtime)
    with progress_bar("learning curve: train", num_images, images.words.several) as bar:
        return [
            [
                _of_subset(part.repeated(total), one.config, images, runtime, features, scratch, bar)
                for part in _announced(one, number, len(repeats), bar)
            ]
            for number, one in enumerate(repeats, 1)
        ]


def _announced(repeat: Repeat, number: int, num_repeats: int, bar: Bar) -> Iterator[SizedSubset]:
    of_repeats = f", repeat {number} of {num_repeats}" if num_repeats > 1 else ""
    for part in repeat.subsets:
        bar.note(f"{part.percent:g} %{of_repeats}")
        yield part


def _of_subset(
    rows: NDArray[np.int64],
    config: TrainConfig,
    images: LabelledImages,
    runtime: Runtime,
    features: "_Features",
    scratch: Path,
    bar: Bar,
) -> OneHot:
    """Return the predictions of one training, from the cache if they are there."""
    num_train, num_val = (images.info.num_images(split) for split in ("train", "val"))
    part = Part(images, rows, num_train + np.arange(num_val))
    job = make_job(config, runtime, part)
    name = hashlib.sha256(f"{config.seed} {job.origins} ".encode() + rows.astype("<i8").tobytes())
    place = scratch / name.hexdigest()[:16]
    known = place / "preds.npy"
    if known.exists():
        bar.advance(len(rows) * config.train.epochs)
        return np.load(known)
    place.mkdir(parents=True, exist_ok=True)
    target, job = model_target(job.spec.target), features.of(job, rows)
    logits = validation_logits(job, train(job, place, bar, runtime.checkpoint_seconds))
    # labels are predicted from 0.5 on, as in the scores of each epoch
    preds = target.decide(target.probabilities(logits).numpy(), [0.5] * logits.shape[1])
    save_result(preds, known)
    return preds


class _Features:
    """The features of all training images, if the backbone is frozen; computed when first needed."""

    def __init__(self, config: TrainConfig, runtime: Runtime) -> None:
        self._config, self._runtime = config, runtime

    @cached_property
    def _whole(self) -> Job:
        return make_job(self._config, self._runtime).with_features()

    def of(self, job: Job, rows: NDArray[np.int64]) -> Job:
        """Return a job on the images at ``rows`` with their features."""
        if self._config.train.num_frozen_epochs == 0 or self._whole.features is None:
            return job
        return replace(job, features=self._whole.features.of_part(job.train, rows))


def curve_of(
    repeats: Sequence[Repeat],
    preds: Sequence[Sequence[OneHot]],
    images: LabelledImages,
    groups: NDArray[np.int64],
    remarks: Sequence[str],
) -> Curve:
    """Return the learning curve of what ``predict_validation`` returned.

    Args:
        groups: as ``plan_repeats`` takes them.
        remarks: as ``plan_repeats`` returns them.
    """
    num_train, names = images.info.num_images("train"), images.info.class_names
    _, of_val, sizes = np.unique(groups[num_train:], return_inverse=True, return_counts=True)
    of_repeats = [[part.num_images for part in one.subsets] for one in repeats]
    return make_curve(
        [part.percent for part in repeats[0].subsets],
        np.rint(np.mean(of_repeats, axis=0)).astype(int).tolist(),
        images.target.indicators(images.shards.labels[num_train:], len(names)),
        preds,
        names,
        of_val if (sizes > 1).any() else None,
        remarks,
        images.words,
    )

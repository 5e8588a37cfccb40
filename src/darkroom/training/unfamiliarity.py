"""Fit the statistics that measure how much an image differs from the training images.

They are fitted once the weights are chosen.

The score is that of Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples
and Adversarial Attacks" (2018): Mahalanobis's distance from the nearest class mean, with one covariance,
which is shrunk as by Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
matrices" (2004), of normalised features, as by Müller and Hein, "Mahalanobis++: Improving OOD Detection
via Feature Normalization" (2025).
"""

from math import ceil
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from darkroom.features.extractor import Extractor, Wanted
from darkroom.loading.batches import Batches
from darkroom.models.classifier import Classifier
from darkroom.models.unfamiliarity import Unfamiliarity
from darkroom.training.job import Job
from darkroom.training.targets.interface import training_target

FALSE_ALARMS = 0.05
"""Share of images like the validation images that are above the threshold."""
MAX_IMAGES = 10_000
"""Maximum number of images per split, which bounds the time."""
MAX_COMPONENTS = 64
"""Maximum number of principal components, which bounds the size of the statistics."""
MIN_PER_CENTRE = 5
"""Minimum number of training images with the same class or labels for a centre of their own."""
LEAST_VARIANCE = 1e-4
"""Variance that a lost direction has at least, as a part of the mean variance of all."""
BATCH_IMAGES = 64


class Fitted(NamedTuple):
    """The statistics, and their description in the model file."""

    module: Unfamiliarity
    description: dict[str, float]


def fit_unfamiliarity(job: Job, epoch: int) -> Fitted | None:
    """Return the statistics for the model of a job, or None if validation images could not tell.

    Args:
        job: its model has the kept weights.
        epoch: from which these are, counted from 0.

    Raises:
        UserError, OSError: see ``Extractor.features``.
    """
    is_measured = training_target(job.info.target).measures_unfamiliarity
    if not is_measured or threshold_rank(job.val.num_images) is None:
        return None
    splits = job.plain_train, job.val
    chosen = [_evenly_spaced(split.num_images) for split in splits]
    is_whole = all(len(rows) == split.num_images for rows, split in zip(chosen, splits, strict=True))
    if is_whole and job.uses_features(epoch):  # evaluate reads the same features for its baseline
        extractor = Extractor(job.model, job.spec, job.environment, job.store)
        found = extractor.features([Wanted(split) for split in splits], "train")
        train, val = (torch.tensor(rows) for rows in found)
    else:
        train, val = (
            _vectors(job.model, split, rows) for rows, split in zip(chosen, splits, strict=True)
        )
    labels = job.plain_train.labels[chosen[0]].numpy()
    return fit(train, labels, val)


def fit(train: Tensor, labels: NDArray[np.integer], val: Tensor) -> Fitted | None:
    """Return the statistics of feature vectors, or None if they do not vary or are too few.

    Args:
        train: float32 ``(n, num_features)``.
        labels: of ``train``, ``(n,)``, or ``(n, num_classes)`` of 0 and 1.
        val: float32 ``(m, num_features)``.
    """
    rank = threshold_rank(len(val))
    vectors = F.normalize(train.double(), dim=1)
    mean = vectors.mean(dim=0)
    variances, axes = principal_components(vectors - mean)
    num_components = min(MAX_COMPONENTS, len(axes), max(len(vectors) // 2, 1))
    if rank is None or not variances[0] > 0:
        return None
    axes = axes[:, :num_components]
    components = (vectors - mean) @ axes
    groups = torch.from_numpy(group_numbers(labels))
    centres = torch.stack([components[groups == number].mean(dim=0) for number in groups.unique()])
    whitening = torch.linalg.inv(
        torch.linalg.cholesky(shrunk_covariance(components - centres[groups]))
    ).T
    module = Unfamiliarity(len(mean), num_components, len(centres))
    module.mean.copy_(mean)
    module.axes.copy_(axes)
    module.whitening.copy_(whitening)
    module.centres.copy_(centres @ whitening)
    lost = variances[num_components:].sum() / max(len(mean) - num_components, 1)
    module.lost_variance.fill_(max(float(lost), LEAST_VARIANCE * float(variances.sum() / len(mean))))
    scores = torch.cat([module(part) for part in val.split(BATCH_IMAGES)])
    module.threshold.fill_(float(scores.sort().values[rank - 1]))
    description = {
        "false_alarms": FALSE_ALARMS,
        "components": num_components,
        "centres": len(centres),
        "train_images": len(train),
        "val_images": len(val),
    }
    return Fitted(module, description)


def threshold_rank(num_images: int) -> int | None:
    """Return which of the ascending scores of validation images is the threshold, counted from 1.

    A further image of the same kind is above it with a probability of at most ``FALSE_ALARMS``. The
    result is None if the images are too few for that.
    """
    rank = ceil(round((num_images + 1) * (1 - FALSE_ALARMS), 9))
    return rank if rank <= num_images else None


def principal_components(offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return descending variances and their axes, float64 ``(k,)`` and ``(d, k)``.

    Args:
        offsets: differences from the mean, float64 ``(n, d)``; ``k`` is the smaller of the two.
    """
    num_rows, size = offsets.shape
    if num_rows < size:  # the covariance would be large, and most of its variances zero
        _, deviations, axes = torch.linalg.svd(offsets, full_matrices=False)
        return deviations.square() / num_rows, axes.T
    variances, axes = torch.linalg.eigh(offsets.T @ offsets / num_rows)
    return variances.flip(0).clamp(min=0), axes.flip(1)


def shrunk_covariance(offsets: Tensor) -> Tensor:
    """Return the covariance of Ledoit and Wolf (2004), float64 ``(d, d)``.

    Args:
        offsets: differences from the means, float64 ``(n, d)``.
    """
    num_rows, size = offsets.shape
    covariance = offsets.T @ offsets / num_rows
    scale = covariance.diagonal().mean()
    distance = covariance.square().sum() - size * scale**2
    noise = (offsets.square().T @ offsets.square()).sum() / num_rows - covariance.square().sum()
    share = (noise / num_rows / distance).clamp(0, 1) if distance > 0 else torch.tensor(0.0)
    identity = torch.eye(size, dtype=offsets.dtype)
    return (1 - share) * covariance + share * scale * identity


def group_numbers(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return a number for each image's class or set of labels, from 0; rare ones share a number."""
    _, numbers, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    numbers = numbers.reshape(-1)
    return np.unique(np.where(counts[numbers] < MIN_PER_CENTRE, -1, numbers), return_inverse=True)[1]


def _evenly_spaced(num_images: int) -> Tensor:
    """Return ascending positions of all images, or of ``MAX_IMAGES`` at equal distances."""
    count = min(num_images, MAX_IMAGES)
    return torch.arange(count) * num_images // count


@torch.inference_mode()
def _vectors(model: Classifier, images: Batches, rows: Tensor) -> Tensor:
    """Return the feature vectors of some images on the CPU."""
    model.eval()
    return torch.cat(
        [model.vectors(part).float().cpu() for part in images.views(rows.split(BATCH_IMAGES), None, 0)]
    )

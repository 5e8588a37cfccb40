"""Train the network, as params.yaml says, on a part of the prepared images."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darkroom.compute.device import select_device
from darkroom.compute.environment import describe_environment, fingerprint
from darkroom.compute.inference import compute_logits
from darkroom.config.train import TrainConfig
from darkroom.digests import code_digest, folder_digest
from darkroom.features.extractor import ROOMS
from darkroom.paths import CACHE, OWN_TRAIN
from darkroom.progress import Bar
from darkroom.runtime import Runtime
from darkroom.training.checkpoint import Checkpoints, scratch_folder
from darkroom.training.course import course_of
from darkroom.training.interruption import Interruption
from darkroom.training.job import Job
from darkroom.training.session import settle
from darkroom.whole_files import save_array


def folder_of(command: str, config: TrainConfig, runtime: Runtime, *parts: str) -> Path:
    """Return the folder for results of a command that depend on code, parameters, machine and parts."""
    return scratch_folder(
        CACHE / command,
        code_digest((*ROOMS, "training", "metrics", "retraining", "tabular")),
        config.model_dump_json(),
        folder_digest(OWN_TRAIN),
        *parts,
        fingerprint(describe_environment(select_device(runtime.device))),
    )


def train(job: Job, scratch: Path, bar: Bar, checkpoint_seconds: float) -> int:
    """Train to the end; return the kept epoch, counted from 0. The model then has its weights.

    A training that was killed resumes from its newest checkpoint.

    Args:
        scratch: for checkpoints, and for what the search of a learning rate and of a weight decay finds.
        bar: counts the images of each epoch.
        checkpoint_seconds: see ``Checkpoints``.

    Raises:
        UserError: see ``fit``.
    """
    with (
        Interruption() as interruption,
        Checkpoints(scratch / "checkpoints", checkpoint_seconds, interruption) as checkpoints,
    ):
        options, state = settle(job, scratch, interruption.check)
        checkpoints.restore(state)
        bar.advance(state.epoch * job.train.num_images + state.num_images)
        kept = course_of(list(job.fit(state, options, bar.count, checkpoints))).kept
    job.trained.load_state_dict(state.kept_weights)
    return kept.epoch - 1


def validation_logits(job: Job, epoch: int) -> Tensor:
    """Return the logits of the validation images.

    Args:
        epoch: whose weights the model has, counted from 0.

    Returns:
        float64 ``(n, num_classes)`` on the CPU.
    """
    logits, _ = compute_logits(job.validated(job.model), job.validation(epoch), "train.batch_size")
    return logits.cpu().double()


def save_result(array: NDArray[np.generic], path: Path) -> None:
    """Write the result of a training, then remove the checkpoints that ``train`` wrote beside it."""
    save_array(array, path)
    shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)

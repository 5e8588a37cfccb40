"""Train the network, as params.yaml says, on a part of the prepared images."""

from pathlib import Path

from torch import Tensor

from darkroom.compute.device import select_device
from darkroom.compute.environment import describe_environment, fingerprint
from darkroom.compute.inference import compute_logits
from darkroom.config.train import TrainConfig
from darkroom.digests import code_digest
from darkroom.features.extractor import ROOMS
from darkroom.paths import CACHE
from darkroom.progress import Bar
from darkroom.runtime import Runtime
from darkroom.training.checkpoint import scratch_folder
from darkroom.training.course import course_of
from darkroom.training.job import Job
from darkroom.training.session import settle


def folder_of(command: str, config: TrainConfig, runtime: Runtime, *parts: str) -> Path:
    """Return the folder for results of a command that depend on code, parameters, machine and parts."""
    return scratch_folder(
        CACHE / command,
        code_digest((*ROOMS, "training", "metrics", "retraining")),
        config.model_dump_json(),
        *parts,
        fingerprint(describe_environment(select_device(runtime.device))),
    )


def validation_logits(job: Job, scratch: Path, bar: Bar) -> Tensor:
    """Train to the end; return the logits of the validation images with the weights of the kept epoch.

    Args:
        scratch: for what the search of a learning rate and of a weight decay finds.
        bar: counts the images of each epoch.

    Returns:
        float64 ``(n, num_classes)`` on the CPU.

    Raises:
        UserError: see ``fit``.
    """
    options, state = settle(job, scratch, lambda: None)
    bar.advance(state.epoch * job.train.num_images)
    kept = course_of(list(job.fit(state, options, bar.count))).kept
    job.trained.load_state_dict(state.kept_weights)
    logits, _ = compute_logits(
        job.validated(job.model), job.validation(kept.epoch - 1), "train.batch_size"
    )
    return logits.cpu().double()

"""The weight decay with the best validation score, for a head that is trained on features alone."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from darkroom.progress import progress_bar
from darkroom.training.course import course_of
from darkroom.training.job import Job
from darkroom.training.settled import load_settled, save_settled
from darkroom.training.state import TrainingState

DECOUPLED = (0.01, 0.1, 1.0, 10.0)
"""Candidates for adamw: in each step, weights shrink by ``lr`` times the decay."""

L2 = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for other optimizers, which add the decay times the weights to the gradient."""


class Trial(NamedTuple):
    """A candidate and the validation scores of its kept epoch."""

    weight_decay: float
    f1_macro: float
    loss: float

    @property
    def rank(self) -> tuple[float, float, float]:
        """Higher is better: the macro F1, then the lower loss, then the stronger decay."""
        return self.f1_macro, -self.loss, self.weight_decay


def try_decays(job: Job, lr: float, num_tried: int = 0) -> Iterator[tuple[Trial, TrainingState]]:
    """Train the head of a job from its initial weights once per candidate; yield scores and final state.

    Each trial is the training that the job would be with this weight decay. The job itself stays as it
    was.

    Args:
        num_tried: number of candidates to skip.

    Raises:
        UserError: see ``fit``.
    """
    candidates = DECOUPLED if job.config.train.optimizer == "adamw" else L2
    left = candidates[num_tried:]
    num_images = len(left) * job.config.train.epochs * job.train.num_images
    with progress_bar("train: weight decay", num_images, job.words.several) as bar:
        for decay in left:
            options = job.settled(lr, weight_decay=decay)
            state = job.new_state(options, copy.deepcopy(job.trained))
            kept = course_of(list(job.fit(state, options, bar.count))).kept
            yield Trial(decay, kept.val_f1_macro, kept.val_loss), state


def settle_weight_decay(
    job: Job, scratch: Path, lr: float, check: Callable[[], None]
) -> tuple[float, TrainingState | None]:
    """Return ``train.weight_decay``, or the best candidate if it is ``auto``.

    Each trial is stored in ``scratch`` for a training that resumes.

    Args:
        check: called after each trial; raises an exception if the process is to end.

    Returns:
        The weight decay, and the final state of the training with it; None if it was not trained here.
    """
    configured = job.config.train.weight_decay
    if configured != "auto":
        return configured, None
    path = scratch / "weight_decay.json"
    trials = [Trial(*trial) for trial in load_settled(path).get("trials", [])]
    best, trained = max(trials, key=lambda trial: trial.rank, default=None), None
    for trial, state in try_decays(job, lr, len(trials)):
        trials.append(trial)
        if best is None or trial.rank > best.rank:
            best, trained = trial, state
        save_settled(path, {"trials": trials})
        check()
    assert best is not None
    shown = ", ".join(f"{trial.weight_decay:g} ({trial.f1_macro:.4f})" for trial in trials)
    print(f"train: weight decay {best.weight_decay:g}; validation macro F1 of each: {shown}")
    return best.weight_decay, trained

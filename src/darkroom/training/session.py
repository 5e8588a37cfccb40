"""One training job as a session: set up or resumed, run epoch by epoch, and cleaned up."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from darkroom.compute.environment import fingerprint
from darkroom.config.train import SettledTrain
from darkroom.loading.batches import TrainBatch
from darkroom.metrics.remarks import on_validation
from darkroom.paths import CACHE
from darkroom.progress import progress_bar
from darkroom.training.checkpoint import Checkpoints, scratch_folder
from darkroom.training.course import EpochResult
from darkroom.training.decay_finder import settle_weight_decay
from darkroom.training.history import History
from darkroom.training.interruption import Interruption
from darkroom.training.job import Job
from darkroom.training.lr_finder import settle_lr
from darkroom.training.state import TrainingState

Watch = Callable[[Iterable[Any], nn.Module], Iterable[Any]]
"""Takes batches of images and the model; yields the batches unchanged."""


class Session:
    """A job with everything that its training changes."""

    def __init__(
        self,
        job: Job,
        options: SettledTrain,
        state: TrainingState,
        checkpoints: Checkpoints,
        watch: Watch,
    ) -> None:
        self.job = job
        self.options = options
        self.state = state
        self.checkpoints = checkpoints
        self.history = History(num_earlier=state.epoch)
        self._watch = watch

    def epochs(self) -> Iterator[EpochResult]:
        """Train to the end; yield the result of each epoch, earlier ones too, once it is in the history.

        Raises:
            UserError: see ``fit``.
        """
        job, state = self.job, self.state
        num_left = (self.options.epochs - state.epoch) * job.train.num_images - state.num_images
        with progress_bar("train", num_left, job.words.several) as bar:

            def watch(batches: Iterable[TrainBatch]) -> Iterable[TrainBatch]:
                return bar.count(self._watch(batches, job.model))

            for result in job.fit(state, self.options, watch, self.checkpoints):
                self.history.add(result)
                bar.note(self.history.last_line())
                yield result


def settle(job: Job, scratch: Path, check: Callable[[], None]) -> tuple[SettledTrain, TrainingState]:
    """Return the options with numbers in place of ``auto``, and the state from which to train.

    If the weight decay was chosen just now, that is the final state of the training with it.

    Args:
        scratch: folder in which choices are stored for a training that resumes.
        check: see ``settle_weight_decay``.
    """
    lr = settle_lr(job, scratch)
    decay, trained = settle_weight_decay(job, scratch, lr, check)
    options = job.settled(lr, weight_decay=decay)
    return options, job.new_state(options) if trained is None else trained


@contextmanager
def open_session(
    job: Job, code: str, checkpoint_seconds: float, watch: Watch = lambda batches, model: batches
) -> Iterator[Session]:
    """Set up the training of a job, or resume it from its newest checkpoint.

    Within the block, SIGTERM and Ctrl-C first save a checkpoint.

    Args:
        code: digest of the code and parameters; checkpoints of other code are not used.
        checkpoint_seconds: see ``Checkpoints``.
        watch: observes all batches of images.
    """
    remarks = (*job.doubts, job.compare_precisions(), *on_validation(job.info.counts["val"], job.words))
    for line in (job.remark, job.train.placement, *remarks):
        if line:
            print(f"train: {line}")
    job = job.with_features()
    if job.features is not None:  # an observer of images would see none
        for _ in watch(islice(job.train.epoch(job.config.seed, 0, job.augmentation), 1), job.model):
            pass
    folder = scratch_folder(
        CACHE / "train",
        code,
        job.info.digest,
        fingerprint(job.environment),
        f"{job.batch_size}",
        job.origins,
    )
    with (
        Interruption() as interruption,
        Checkpoints(folder, checkpoint_seconds, interruption) as checkpoints,
    ):
        options, state = settle(job, folder, interruption.check)
        if checkpoints.restore(state):
            print(f"train: resumes after step {state.step} of epoch {state.epoch + 1}")
        yield Session(job, options, state, checkpoints, watch)

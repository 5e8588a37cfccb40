"""The learning-rate range test (Smith, "Cyclical Learning Rates for Training Neural Networks", 2017)."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from darkroom.config.train import SettledTrain
from darkroom.errors import UserError
from darkroom.loading.batches import TrainBatch
from darkroom.progress import progress_bar
from darkroom.training.engine import TrainBatches, train_step
from darkroom.training.freezing import set_trainable
from darkroom.training.job import Job
from darkroom.training.losses import Loss
from darkroom.training.settled import load_settled, save_settled
from darkroom.training.state import TrainingState

MIN_LR = 1e-6
MAX_LR = 10.0
NUM_STEPS = 100
SMOOTHING = 0.9
"""Weight of the earlier losses in the smoothed loss; the losses of single batches vary a lot."""
DIVERGED = 4.0
"""The test ends when the loss is this many times the lowest one."""
BELOW_MINIMUM = 10.0
"""The suggested rate is that of the lowest loss over this: there the loss still falls steeply."""


@dataclass(frozen=True)
class RangeTest:
    """The losses of steps whose learning rate rises by a constant factor."""

    lrs: list[float]
    losses: list[float]
    """In nats, smoothed over the steps."""

    @property
    def suggestion(self) -> float:
        """A tenth of the learning rate with the lowest loss, to two digits."""
        lowest = min(range(len(self.losses)), key=self.losses.__getitem__)
        return float(f"{self.lrs[lowest] / BELOW_MINIMUM:.1e}")


def range_test(
    state: TrainingState,
    network: nn.Module,
    train_batches: TrainBatches,
    loss: Loss,
    options: SettledTrain,
    num_steps: int = NUM_STEPS,
) -> RangeTest:
    """Train for ``num_steps`` steps, or until the loss diverges.

    Args:
        state: the initial state, with a learning rate of ``MIN_LR``; its model is trained.
        network: computes the model's logits.

    Raises:
        UserError: the loss is not finite from the first step.
    """
    factor = (MAX_LR / MIN_LR) ** (1 / (num_steps - 1))
    state.schedule = LambdaLR(state.optimizer, lambda step: factor**step)
    lrs: list[float] = []
    losses: list[float] = []
    average = 0.0
    state.model.train()
    set_trainable(state.model, 1, options)
    for step, batch in enumerate(islice(_endless(train_batches), num_steps)):
        state.losses.zero_()
        train_step(state, network, batch, loss, options)
        average = SMOOTHING * average + (1 - SMOOTHING) * float(state.losses[0]) / len(batch.targets)
        smoothed = average / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smoothed) or smoothed > DIVERGED * min([*losses, smoothed]):
            break
        lrs.append(MIN_LR * factor**step)
        losses.append(smoothed)
    if not losses:
        raise UserError(
            "train.lr: auto is not possible, because the loss is not finite from the first step"
        )
    return RangeTest(lrs, losses)


def _endless(train_batches: TrainBatches) -> Iterator[TrainBatch]:
    for epoch in count():
        yield from train_batches(epoch, 0)


def find_lr(job: Job) -> RangeTest:
    """Run the range test of a job on a copy of its model; the result depends on the job alone.

    Raises:
        UserError: see ``range_test``.
    """
    options = job.settled(
        MIN_LR,
        weight_decay=0.0 if job.config.train.weight_decay == "auto" else job.config.train.weight_decay,
        schedule="constant",
        warmup_fraction=None,
        decay_epochs=None,
        decay_factor=None,
        ema_decay=None,
    )
    model = copy.deepcopy(job.trained)
    with progress_bar("train: learning rate", NUM_STEPS * job.batch_size, job.words.several) as bar:
        return range_test(
            job.new_state(options, model),
            job.network(model),
            lambda epoch, step: bar.count(job.epoch(epoch, step)),
            job.loss,
            options,
        )


def settle_lr(job: Job, scratch: Path) -> float:
    """Return ``train.lr``, or the rate that the range test suggests if it is ``auto``.

    The suggestion is stored in ``scratch`` for a training that resumes. If the file is damaged, the test
    is run again, with the same result.
    """
    configured = job.config.train.lr
    if configured != "auto":
        return configured
    path = scratch / "lr.json"
    settled = load_settled(path)
    if "lr" not in settled:
        settled = {"lr": find_lr(job).suggestion}
        save_settled(path, settled)
    return float(settled["lr"])

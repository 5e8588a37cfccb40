"""The training loop. ``fit`` yields one result an epoch; what is done with it is the caller's."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from darkroom.data.batches import Batch, TrainBatch
from darkroom.data.philox import words
from darkroom.errors import UserError
from darkroom.metrics.confusion import accuracy, confusion_matrix, macro_f1
from darkroom.training.inference import predict
from darkroom.training.optim import OptimOptions, make_optimizer, make_schedule

DROPOUT_STREAM = 3


class TrainOptions(OptimOptions, Protocol):
    """What is read of the ``train`` section."""

    @property
    def epochs(self) -> int: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def clip_norm(self) -> float | None: ...


@dataclass(frozen=True)
class EpochResult:
    """What an epoch came to. Losses are cross entropy in nats, a mean over images."""

    epoch: int
    """Counted from 1."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: float
    """Of the augmented images, as they were learnt, with label smoothing."""
    val_loss: float
    """Without label smoothing."""
    val_accuracy: float
    val_f1_macro: float
    is_best: bool
    """Whether val_f1_macro is the highest so far; of equals the later, whose rate is lower."""


def fit(
    model: nn.Module,
    train_batches: Callable[[int], Iterable[TrainBatch]],
    num_steps: int,
    val_batches: Iterable[Batch],
    options: TrainOptions,
    seed: int,
) -> Iterator[EpochResult]:
    """Trains ``model`` in place and yields the result of each epoch.

    Args:
        train_batches: takes an epoch, from 0, and returns its ``num_steps`` batches.
        val_batches: the validation images, iterated anew each epoch.
        seed: of dropout; order and augmentation are the batches' own.

    Raises:
        UserError: the loss is no longer a finite number.
    """
    optimizer = make_optimizer(model, options)
    schedule = make_schedule(optimizer, options, options.epochs * num_steps)
    best = 0.0
    for epoch in range(options.epochs):
        batches = zip(train_batches(epoch), _step_seeds(seed, epoch, num_steps), strict=True)
        train_loss, lr = train_one_epoch(model, batches, optimizer, schedule, options)
        val_loss, confusion = evaluate(model, val_batches)
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            raise UserError(
                f"train: in epoch {epoch + 1} the loss became {train_loss} (validation {val_loss});"
                f" lower train.lr ({options.lr:g}) or set train.clip_norm (1.0 is usual)"
            )
        val_f1_macro = macro_f1(confusion)
        yield EpochResult(
            epoch=epoch + 1,
            lr=lr,
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=accuracy(confusion),
            val_f1_macro=val_f1_macro,
            is_best=val_f1_macro >= best,
        )
        best = max(best, val_f1_macro)


def train_one_epoch(
    model: nn.Module,
    batches: Iterable[tuple[TrainBatch, int]],
    optimizer: Optimizer,
    schedule: LRScheduler,
    options: TrainOptions,
) -> tuple[float, float]:
    """Takes one optimizer step a batch.

    Args:
        batches: each with a seed for what the model itself draws (dropout).

    Returns:
        The mean loss over images, and the learning rate of the last step.
    """
    model.train()
    losses = []  # read once, after the epoch: reading one here would wait for the GPU
    num_images = 0
    for (images, targets, weights), step_seed in batches:
        torch.manual_seed(step_seed)
        logits = model(images)
        if weights is None:
            loss = F.cross_entropy(logits, targets, label_smoothing=options.label_smoothing)
        else:
            by_image = F.cross_entropy(
                logits, targets, label_smoothing=options.label_smoothing, reduction="none"
            )
            loss = (by_image * weights).mean()
        optimizer.zero_grad()
        loss.backward()
        if options.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
        losses.append(loss.detach() * len(targets))
        num_images += len(targets)
    return float(torch.stack(losses).cpu().double().sum()) / num_images, lr


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> tuple[float, Tensor]:
    """Returns the mean cross entropy in nats and the confusion matrix."""
    logits, targets = predict(model, batches)
    loss = F.cross_entropy(logits.cpu().double(), targets.cpu())
    confusion = confusion_matrix(targets, logits.argmax(dim=1), logits.shape[1])
    return float(loss), confusion


def _step_seeds(seed: int, epoch: int, num_steps: int) -> list[int]:
    """Returns a seed for each step of an epoch, a function of ``(seed, epoch, step)`` alone."""
    drawn = words(seed, DROPOUT_STREAM, epoch, torch.arange(num_steps))
    return ((drawn[:, 0] << 31) | (drawn[:, 1] >> 1)).tolist()

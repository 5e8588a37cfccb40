"""The training loop. ``fit`` yields one result an epoch; what is done with it is the caller's."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from traceback import clear_frames
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from darkroom.compute.device import is_out_of_memory
from darkroom.compute.inference import compute_logits
from darkroom.errors import UserError
from darkroom.loading.batches import Batch, TrainBatch
from darkroom.loading.philox import join, words
from darkroom.metrics.confusion import accuracy, confusion_matrix, macro_f1
from darkroom.metrics.multi_label import exact_matches, macro_f1_of_labels
from darkroom.models.trainable import LayerOptions, set_trainable
from darkroom.training.batch_size import out_of_memory
from darkroom.training.checkpoint import Checkpoints
from darkroom.training.kept import judge
from darkroom.training.losses import Loss, losses_of
from darkroom.training.optim import add_l1, clip_gradients
from darkroom.training.state import EpochResult, StateOptions, TrainingState
from darkroom.training.uncertainty import macro_f1_standard_error

DROPOUT_STREAM = 3

LOOK_EVERY_STEPS = 50
"""Reading a loss waits for the GPU, so the losses are looked at now and then only."""


class TrainOptions(StateOptions, LayerOptions, Protocol):
    """What is read of the ``train`` section."""

    @property
    def micro_batches(self) -> int: ...
    @property
    def l1(self) -> float: ...
    @property
    def clip_value(self) -> float | None: ...
    @property
    def patience(self) -> int | None: ...


TrainBatches = Callable[[int, int], Iterable[TrainBatch]]
"""Takes an epoch and a step, both from 0, and returns the epoch's batches from that step on."""


def fit(
    state: TrainingState,
    train_batches: TrainBatches,
    val_batches: Iterable[Batch],
    loss: Loss,
    options: TrainOptions,
    seed: int,
    checkpoints: Checkpoints | None = None,
    network: nn.Module | None = None,
    validated: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Iterator[EpochResult]:
    """Trains from where ``state`` stands, and yields the result of each epoch, earlier ones too.

    Args:
        val_batches: the validation images, iterated anew each epoch.
        seed: of dropout and of the bootstrap; order and augmentation are the batches' own.
        checkpoints: saves the state now and then.
        network: what computes the model's logits in training, if not the model itself: the model
            compiled, or its head if the batches hold features.
        validated: returns what computes the logits of ``val_batches`` for a model: the model itself, or
            its head.

    Raises:
        UserError: the loss is no longer a finite number.
    """
    if network is None:  # a compiled model has no truth value
        network = state.model
    yield from state.results
    while state.epoch < options.epochs and not _is_out_of_patience(state, options):
        train_one_epoch(state, network, train_batches, loss, options, seed, checkpoints)
        watched = _watched(val_batches, lambda: _save_if_due(state, options, checkpoints))
        scores = evaluate(validated(state.evaluated_model), watched, seed)
        verdict = judge(scores.f1_macro, state.best)
        result = EpochResult(
            epoch=state.epoch + 1,
            lr=state.lr,
            train_loss=state.mean_loss(),
            grad_norm=state.mean_grad_norm(),
            val_loss=scores.loss,
            val_accuracy=scores.accuracy,
            val_f1_macro=scores.f1_macro,
            val_f1_standard_error=scores.f1_standard_error,
            is_best=verdict.is_best,
            is_kept=verdict.is_kept,
        )
        if not math.isfinite(scores.loss):
            what = f"validation loss of epoch {result.epoch}"
            raise UserError(_advice(what, scores.loss, options, checkpoints))
        state.finish_epoch(result)
        _save_if_due(state, options, checkpoints, epoch_ended=True)
        yield result


def train_one_epoch(
    state: TrainingState,
    network: nn.Module,
    train_batches: TrainBatches,
    loss: Loss,
    options: TrainOptions,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Takes one optimizer step a batch, from ``state.step`` to the epoch's end."""
    state.model.train()
    set_trainable(state.model, state.epoch + 1, options)
    seeds = _step_seeds(seed, state.epoch, state.num_steps)[state.step :]
    batches = train_batches(state.epoch, state.step)
    for batch, step_seed in zip(batches, seeds, strict=True):
        _seed_dropout(step_seed, state.losses.device)
        try:
            train_step(state, network, batch, loss, options)
        except RuntimeError as error:
            if is_out_of_memory(error):
                clear_frames(error.__traceback__)  # of what the step held
                raise out_of_memory(state.model, batch.images, options.micro_batches) from None
            raise
        if state.step % LOOK_EVERY_STEPS == 0 or state.step == state.num_steps:
            _check_losses(state, options, checkpoints)
        _save_if_due(state, options, checkpoints)


def train_step(
    state: TrainingState, network: nn.Module, batch: TrainBatch, loss: Loss, options: TrainOptions
) -> None:
    """Learns from one batch."""
    state.optimizer.zero_grad()
    for part in _micro_batches(batch, options.micro_batches):
        with _autocast(part.images.device, options.precision):
            logits = network(part.images)
            total = losses_of(logits, part, loss).sum()
        state.scaler.scale(total / len(batch.targets)).backward()
        state.losses[state.step] += total.detach()
    if options.l1 > 0 or options.clip_norm is not None or options.clip_value is not None:
        state.scaler.unscale_(state.optimizer)
        add_l1(state.optimizer, options.l1)
        grad_norm = clip_gradients(state.model.parameters(), options.clip_norm, options.clip_value)
        if grad_norm is not None and state.grad_norms is not None:
            state.grad_norms[state.step] = grad_norm
    state.finish_step(len(batch.targets))


class Scores(NamedTuple):
    """What a validation came to."""

    loss: float
    """Cross entropy in nats, a mean over images (and labels, where an image may have several)."""
    accuracy: float
    f1_macro: float
    f1_standard_error: float


def evaluate(model: nn.Module, batches: Iterable[Batch], seed: int) -> Scores:
    """Measures a model, without label smoothing or weights.

    Where an image may have several labels, those whose probability is at least a half are predicted, and
    an image counts as right where all of them are.

    Args:
        seed: of the bootstrap that estimates the standard error.
    """
    logits, targets = compute_logits(model, batches, "train.batch_size")
    if targets.ndim == 2:
        loss = F.binary_cross_entropy_with_logits(logits.cpu().double(), targets.cpu().double())
        preds = logits >= 0
        right, f1 = exact_matches(targets, preds), macro_f1_of_labels(targets, preds)
    else:
        loss = F.cross_entropy(logits.cpu().double(), targets.cpu())
        preds = logits.argmax(dim=1)
        confusion = confusion_matrix(targets, preds, logits.shape[1])
        right, f1 = accuracy(confusion), macro_f1(confusion)
    error = macro_f1_standard_error(targets, preds, logits.shape[1], seed)
    return Scores(float(loss), right, f1, error)


def _micro_batches(batch: TrainBatch, count: int) -> Iterator[TrainBatch]:
    if count == 1:
        yield batch
        return
    count = min(count, len(batch.targets))
    fields = [[None] * count if field is None else field.tensor_split(count) for field in batch]
    yield from map(TrainBatch, *fields)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def _watched(batches: Iterable[Batch], after_each: Callable[[], None]) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        after_each()


def _save_if_due(
    state: TrainingState,
    options: TrainOptions,
    checkpoints: Checkpoints | None,
    epoch_ended: bool = False,
) -> None:
    if checkpoints is not None and checkpoints.is_due(epoch_ended):
        _check_losses(state, options, checkpoints)  # what is no number is not worth keeping
        checkpoints.save(state)


def _check_losses(state: TrainingState, options: TrainOptions, checkpoints: Checkpoints | None) -> None:
    step = state.first_bad_step()
    if step is not None:
        what = f"loss of step {step + 1} of {state.num_steps} in epoch {state.epoch + 1}"
        raise UserError(_advice(what, float(state.losses[step]), options, checkpoints))


def _advice(what: str, loss: float, options: TrainOptions, checkpoints: Checkpoints | None) -> str:
    tips = [f"lower train.lr ({options.lr:g})"]
    if options.clip_norm is None:
        tips.append("set train.clip_norm (1.0 is usual)")
    if options.precision == "float16":
        tips.append("set train.precision to bfloat16 or float32")
    newest = checkpoints.newest if checkpoints else None
    return f"train: the {what} became {loss}; {', or '.join(tips)}" + (
        f". The last good state is {newest}" if newest else ""
    )


def _is_out_of_patience(state: TrainingState, options: TrainOptions) -> bool:
    if options.patience is None or state.best is None:
        return False
    return state.epoch - state.best.epoch >= options.patience


def _seed_dropout(seed: int, device: torch.device) -> None:
    # torch.manual_seed also looks for all other kinds of devices, which takes 0.1 ms
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _step_seeds(seed: int, epoch: int, num_steps: int) -> list[int]:
    """Returns a seed for each step of an epoch, a function of ``(seed, epoch, step)`` alone."""
    drawn = words(seed, DROPOUT_STREAM, epoch, torch.arange(num_steps))
    return join(drawn).tolist()

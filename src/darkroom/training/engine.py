"""The training loop: ``fit`` yields one result per epoch and leaves to the caller what to do with it."""

import math
from collections.abc import Callable, Iterable, Iterator
from traceback import clear_frames
from typing import TYPE_CHECKING

import torch
from torch import nn

from darkroom.compute.device import is_out_of_memory
from darkroom.compute.inference import logits_by_batch
from darkroom.compute.precision import Precision, autocast
from darkroom.errors import UserError
from darkroom.loading.batches import Batch, TrainBatch
from darkroom.loading.philox import join, words
from darkroom.training.batch_size import out_of_memory
from darkroom.training.checkpoint import Checkpoints
from darkroom.training.course import EpochResult, judge
from darkroom.training.freezing import set_trainable
from darkroom.training.losses import Loss, losses_of
from darkroom.training.optim import add_l1
from darkroom.training.scores import Scores
from darkroom.training.state import TrainingState

if TYPE_CHECKING:
    from darkroom.config.train import SettledTrain

DROPOUT_STREAM = 3

CHECK_EVERY_STEPS = 50
"""Reading a loss waits for the GPU, so losses are checked only now and then."""

TrainBatches = Callable[[int, int], Iterable[TrainBatch]]
"""Takes an epoch and a step, both counted from 0; returns the epoch's batches from that step on."""

ValidationBatches = Callable[[int], Iterable[Batch]]
"""Takes an epoch, counted from 0; returns all validation batches."""


def fit(
    state: TrainingState,
    train_batches: TrainBatches,
    val_batches: ValidationBatches,
    loss: Loss,
    options: "SettledTrain",
    seed: int,
    checkpoints: Checkpoints | None = None,
    network: nn.Module | None = None,
    validated: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Iterator[EpochResult]:
    """Train from the position of ``state`` to the end; yield each epoch's result, earlier ones too.

    Args:
        seed: of dropout and of the bootstrap; the batches have their own for order and augmentation.
        checkpoints: saves the state from time to time.
        network: computes the logits in training; by default the model. It may be the compiled model, or
            a model that also takes features.
        validated: takes a model and returns the module that computes the logits of
            ``val_batches``; called once.

    Raises:
        UserError: the loss is not finite, or a batch does not fit into memory.
    """
    if network is None:  # not `or`: the truth value of a compiled model is not defined
        network = state.model
    validation_network = validated(state.evaluated_model)
    yield from state.results
    while state.epoch < options.epochs and not _is_out_of_patience(state, options):
        train_one_epoch(state, network, train_batches, loss, options, seed, checkpoints)
        batches = _with_checkpoints(
            val_batches(state.epoch), lambda: _save_if_due(state, options, checkpoints)
        )
        scores = evaluate(validation_network, batches, loss, seed, options.precision)
        verdict = judge(scores.f1_macro, state.best)
        result = EpochResult(
            epoch=state.epoch + 1,
            lr=state.lr,
            train_loss=state.mean_loss(),
            grad_norm=None if options.clip_norm is None else state.mean_grad_norm(),
            val_loss=scores.loss,
            val_accuracy=scores.accuracy,
            val_f1_macro=scores.f1_macro,
            val_f1_standard_error=scores.f1_standard_error,
            is_best=verdict.is_best,
            is_kept=verdict.is_kept,
            **state.gradient_ends(),
        )
        if not math.isfinite(scores.loss):
            what = f"validation loss of epoch {result.epoch}"
            raise _not_finite(what, scores.loss, options, checkpoints)
        if state.plateau is not None:
            state.plateau.step(result.val_loss)
        state.finish_epoch(result)
        _save_if_due(state, options, checkpoints, epoch_ended=True)
        yield result


def train_one_epoch(
    state: TrainingState,
    network: nn.Module,
    train_batches: TrainBatches,
    loss: Loss,
    options: "SettledTrain",
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Take one optimizer step per batch, from ``state.step`` to the end of the epoch."""
    state.model.train()
    set_trainable(state.model, state.epoch + 1, options)
    seeds = _step_seeds(seed, state.epoch, state.num_steps)[state.step :]
    batches = train_batches(state.epoch, state.step)
    for batch, step_seed in zip(batches, seeds, strict=True):
        _seed_dropout(step_seed, state.losses.device)
        state.lr = max(group["lr"] for group in state.optimizer.param_groups)
        try:
            train_step(state, network, batch, loss, options)
        except RuntimeError as error:
            if is_out_of_memory(error):
                clear_frames(error.__traceback__)  # they hold the tensors of the step
                raise out_of_memory(
                    state.model, batch.images, options.micro_batches, options.precision
                ) from None
            raise
        state.step += 1
        state.num_images += len(batch.targets)
        if state.step % CHECK_EVERY_STEPS == 0 or state.step == state.num_steps:
            _check_losses(state, options, checkpoints)
        _save_if_due(state, options, checkpoints)


def train_step(
    state: TrainingState, network: nn.Module, batch: TrainBatch, loss: Loss, options: "SettledTrain"
) -> None:
    """Take one optimizer step on one batch."""
    # forward and backward, in parts whose gradients add up
    state.optimizer.zero_grad()
    for part in _micro_batches(batch, options.micro_batches):
        with autocast(part.images.device, options.precision):
            logits = network(part.images)
            loss_sum = losses_of(logits, part, loss).sum()
        state.scaler.scale(loss_sum / len(batch.targets)).backward()
        state.losses[state.step] += loss_sum.detach()

    # gradients
    state.scaler.unscale_(state.optimizer)
    if state.gradients is not None:
        state.gradients.add_step()
    add_l1(state.optimizer, options.l1)
    if options.clip_value is not None:
        nn.utils.clip_grad_value_(state.model.parameters(), options.clip_value)
    if options.clip_norm is not None:
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), options.clip_norm)
        state.grad_norms[state.step] = norm

    # update
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    if state.averaged is not None:
        state.averaged.update()


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    seed: int,
    precision: Precision = "float32",
) -> Scores:
    """Return the scores of a model, without label smoothing or weights.

    Args:
        loss: says which kind of target is scored.
        seed: of the bootstrap that estimates the standard error.
    """
    return loss.target.scores(logits_by_batch(model, batches, "train.batch_size", precision), seed)


def _micro_batches(batch: TrainBatch, count: int) -> Iterator[TrainBatch]:
    if count == 1:
        yield batch
        return
    count = min(count, len(batch.targets))
    fields = [[None] * count if field is None else field.tensor_split(count) for field in batch]
    yield from map(TrainBatch, *fields)


def _with_checkpoints(batches: Iterable[Batch], save_if_due: Callable[[], None]) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        save_if_due()


def _save_if_due(
    state: TrainingState,
    options: "SettledTrain",
    checkpoints: Checkpoints | None,
    epoch_ended: bool = False,
) -> None:
    if checkpoints is not None and checkpoints.is_due(epoch_ended):
        _check_losses(state, options, checkpoints)  # a state with such a loss is not worth saving
        checkpoints.save(state)


def _check_losses(
    state: TrainingState, options: "SettledTrain", checkpoints: Checkpoints | None
) -> None:
    step = state.first_bad_step()
    if step is not None:
        what = f"loss of step {step + 1} of {state.num_steps} in epoch {state.epoch + 1}"
        raise _not_finite(what, float(state.losses[step]), options, checkpoints)


def _not_finite(
    what: str, loss: float, options: "SettledTrain", checkpoints: Checkpoints | None
) -> UserError:
    tips = [f"lower train.lr ({options.lr:g})"]
    if options.clip_norm is None:
        tips.append("set train.clip_norm (1.0 is usual)")
    if options.precision == "float16":
        tips.append("set train.precision to bfloat16 or float32")
    newest = checkpoints.newest if checkpoints else None
    last_good = f". The last good state is {newest}" if newest else ""
    return UserError(f"train: the {what} became {loss}; {', or '.join(tips)}{last_good}")


def _is_out_of_patience(state: TrainingState, options: "SettledTrain") -> bool:
    if options.patience is None or state.best is None:
        return False
    return state.epoch - state.best.epoch >= options.patience


def _seed_dropout(seed: int, device: torch.device) -> None:
    # torch.manual_seed also looks for every other kind of device, which takes 0.1 ms
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _step_seeds(seed: int, epoch: int, num_steps: int) -> list[int]:
    """Return a seed for each step of an epoch; each is a function of ``(seed, epoch, step)``."""
    return join(words(seed, DROPOUT_STREAM, epoch, torch.arange(num_steps))).tolist()

"""Everything that changes while a model is trained: saved, and restored, as one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.swa_utils import AveragedModel

from darkroom.training.optim import OptimOptions, make_optimizer
from darkroom.training.schedule import ScheduleOptions, make_schedule

Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class EpochResult:
    """What an epoch came to. Losses are in nats, a mean over images."""

    epoch: int
    """Counted from 1."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: float
    """Of the augmented images, as they were learnt: with label smoothing, weights and mixing."""
    grad_norm: float | None
    """Mean norm of the gradients before they were clipped; None where they are not clipped by norm."""
    val_loss: float
    """Without label smoothing."""
    val_accuracy: float
    """Share of the images that are right; of several labels all must be."""
    val_f1_macro: float
    val_f1_standard_error: float
    """Of val_f1_macro, by the bootstrap over images."""
    is_best: bool
    """Whether val_f1_macro is higher than in all earlier epochs."""
    is_kept: bool
    """Whether the weights were kept: the latest within one standard error of the best so far."""


class StateOptions(OptimOptions, ScheduleOptions, Protocol):
    """What is read of the ``train`` section."""

    @property
    def clip_norm(self) -> float | None: ...
    @property
    def ema_decay(self) -> float | None: ...
    @property
    def precision(self) -> str: ...


class RisingAverage:
    """Moves averages of weights on: at first by more, else a short training keeps its first weights.

    As TensorFlow's ``ExponentialMovingAverage`` does with ``num_updates``.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self.num_updates = 0
        """Of earlier steps: known here, while the count that torch keeps is on the device."""

    @torch.no_grad()
    def __call__(self, averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        decay = min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(averaged, current, 1 - decay)


class TrainingState:
    """A model on its way.

    Order, augmentation and dropout are functions of (seed, epoch, image or step), so two numbers say
    where a training stands, and no generator has a state to keep.

    Args:
        model: on its device; trained in place.
        num_steps: optimizer steps of an epoch.
        layers: the backbone's, from the image on, as names of parameters; for ``layer_decay`` alone.
    """

    def __init__(
        self,
        model: nn.Module,
        options: StateOptions,
        num_steps: int,
        layers: Sequence[Sequence[str]] = (),
    ) -> None:
        device = next(model.parameters()).device
        self.model = model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(model, options, layers)
        self.schedule = make_schedule(self.optimizer, options, num_steps)
        self.scaler = GradScaler(device.type, enabled=options.precision == "float16")
        self.averaged: AveragedModel | None = None
        self._average = RisingAverage(options.ema_decay or 0.0)
        if options.ema_decay is not None:
            self.averaged = AveragedModel(model, multi_avg_fn=self._average)  # buffers as the model's
        self.epoch = 0
        """Epochs that are done."""
        self.step = 0
        """Steps of the current epoch that are done."""
        self.num_images = 0
        """Images of those steps."""
        self.lr = 0.0
        """Learning rate of the last step, of the groups' the largest."""
        self.losses = torch.zeros(num_steps, device=device)
        """float32 ``(num_steps,)``, the sum over the images of each step. On the device, because
        reading waits for it."""
        self.grad_norms = None if options.clip_norm is None else torch.zeros_like(self.losses)
        """float32 ``(num_steps,)``, before clipping; None where they are not clipped by norm."""
        self.results: list[EpochResult] = []
        self.kept_weights: dict[str, Tensor] = {}
        """The kept epoch's, on the CPU; empty before the first epoch's end."""

    @property
    def num_steps(self) -> int:
        return len(self.losses)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.model if self.averaged is None else self.averaged.module

    @property
    def best(self) -> EpochResult | None:
        """The first epoch with the highest macro F1; None before the first epoch's end."""
        return next((result for result in reversed(self.results) if result.is_best), None)

    @property
    def kept(self) -> EpochResult | None:
        """The epoch whose weights are kept; None before the first epoch's end."""
        return next((result for result in reversed(self.results) if result.is_kept), None)

    def mean_loss(self) -> float:
        """Returns the mean loss over the images of the epoch so far."""
        return float(self.losses.cpu().double().sum()) / self.num_images

    def mean_grad_norm(self) -> float | None:
        """Returns the mean over the epoch's steps so far, or None where gradients are not clipped."""
        return None if self.grad_norms is None else float(self.grad_norms[: self.step].cpu().mean())

    def first_bad_step(self) -> int | None:
        """Returns the first step of the epoch, from 0, whose loss is no finite number."""
        is_bad = ~self.losses[: self.step].isfinite().cpu()
        return int(is_bad.nonzero()[0]) if is_bad.any() else None

    def finish_step(self, num_images: int) -> None:
        """Takes the optimizer step that the gradients ask for."""
        self.lr = max(group["lr"] for group in self.optimizer.param_groups)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.averaged is not None:
            self._average.num_updates = self.epoch * self.num_steps + self.step
            self.averaged.update_parameters(self.model)
        self.step += 1
        self.num_images += num_images

    def finish_epoch(self, result: EpochResult) -> None:
        """Moves on to the next epoch."""
        self.results.append(result)
        if result.is_kept:
            weights = self.evaluated_model.state_dict()
            self.kept_weights = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}
        self.schedule.finish_epoch(result.val_loss)
        self.epoch += 1
        self.step = 0
        self.num_images = 0
        self.losses.zero_()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values and tensors; the tensors are the state's own, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "num_images": self.num_images,
            "lr": self.lr,
            "losses": self.losses,
            "grad_norms": self.grad_norms,
            "results": [asdict(result) for result in self.results],
            "kept_weights": self.kept_weights,
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Takes back what ``to_dict`` returned."""
        self.model.load_state_dict(values["model"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        self.scaler.load_state_dict(values["scaler"])
        if self.averaged is not None:
            self.averaged.load_state_dict(values["averaged"])
        self.epoch = values["epoch"]
        self.step = values["step"]
        self.num_images = values["num_images"]
        self.lr = values["lr"]
        self.losses.copy_(values["losses"])
        if self.grad_norms is not None:
            self.grad_norms.copy_(values["grad_norms"])
        self.results = [EpochResult(**result) for result in values["results"]]
        self.kept_weights = values["kept_weights"]

"""Everything that changes while a model is trained, saved and restored as a whole."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from darkroom.training.course import EpochResult
from darkroom.training.gradients import GradientNorms, ends_of
from darkroom.training.moving_average import MovingAverage
from darkroom.training.optim import make_optimizer
from darkroom.training.schedule import make_plateau, make_schedule

if TYPE_CHECKING:
    from darkroom.config.train import SettledTrain


class TrainingState:
    """A model, its optimizer, and the position of its training.

    Order, augmentation and dropout are functions of the seed, the epoch and the image or step. The
    position is therefore two numbers, and there is no state of random generators to save.

    Args:
        model: on its device; trained in place.
        num_steps: optimizer steps per epoch.
        layers: parameter names of each layer of the backbone, the layer closest to the image first;
            only for ``layer_decay``.
    """

    def __init__(
        self,
        model: nn.Module,
        options: "SettledTrain",
        num_steps: int,
        layers: Sequence[Sequence[str]] = (),
    ) -> None:
        device = next(model.parameters()).device
        self.model = model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(model, options, layers)
        self.schedule = make_schedule(self.optimizer, options, num_steps)
        self.plateau = make_plateau(self.optimizer, options)
        self.scaler = GradScaler(device.type, enabled=options.precision == "float16")
        decay = options.ema_decay
        self.averaged = None if decay is None else MovingAverage(model, decay)
        self.epoch = 0
        """Number of finished epochs."""
        self.step = 0
        """Number of finished steps of the current epoch."""
        self.num_images = 0
        """Number of images in those steps."""
        self.lr = 0.0
        """Learning rate of the last step; the maximum over the optimizer's groups."""
        self.losses = torch.zeros(num_steps, device=device)
        """float32 ``(num_steps,)``: the sum over the images of each step. On the device, because
        reading a value waits for the device."""
        self.grad_norms = torch.zeros_like(self.losses)
        """float32 ``(num_steps,)``: before clipping; zeros if gradients are not clipped by norm."""
        self.gradients = GradientNorms(model) if options.gradient_norms else None
        self.results: list[EpochResult] = []
        self.kept_weights: dict[str, Tensor] = {}
        """Weights of the kept epoch, on the CPU; empty during the first epoch."""

    @property
    def num_steps(self) -> int:
        return len(self.losses)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.model if self.averaged is None else self.averaged.module

    @property
    def best(self) -> EpochResult | None:
        """The first epoch with the highest macro F1; None during the first epoch."""
        return next((result for result in reversed(self.results) if result.is_best), None)

    @property
    def kept(self) -> EpochResult | None:
        """The epoch whose weights are kept; None during the first epoch."""
        return next((result for result in reversed(self.results) if result.is_kept), None)

    def mean_loss(self) -> float:
        """Return the mean training loss over the images of the epoch so far."""
        return float(self.losses.cpu().double().sum()) / self.num_images

    def mean_grad_norm(self) -> float:
        """Return the mean gradient norm over the steps of the epoch so far."""
        return float(self.grad_norms[: self.step].cpu().mean())

    def gradient_ends(self) -> dict[str, float | None]:
        """Return the norms of the first and the last layer in the epoch so far, if they are measured."""
        if self.gradients is None:
            return {}
        ends = ends_of(self.gradients.of_epoch(self.epoch + 1))
        if ends is None:
            return {}
        return {
            "grad_norm_first_layer": ends[0].grad_norm,
            "grad_norm_last_layer": ends[1].grad_norm,
        }

    def first_bad_step(self) -> int | None:
        """Return the first step of the epoch, from 0, whose loss is not a finite number."""
        is_bad = ~self.losses[: self.step].isfinite().cpu()
        return int(is_bad.nonzero()[0]) if is_bad.any() else None

    def finish_epoch(self, result: EpochResult) -> None:
        """Record an epoch's result, store the weights of a kept epoch, and start the next epoch."""
        self.results.append(result)
        if result.is_kept:
            weights = self.evaluated_model.state_dict()
            self.kept_weights = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}
        self.epoch += 1
        if self.gradients is not None:
            self.gradients.finish_epoch(self.epoch)
        self.step = 0
        self.num_images = 0
        self.losses.zero_()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values and tensors; the tensors are the state's own, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "plateau": None if self.plateau is None else self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "num_images": self.num_images,
            "lr": self.lr,
            "losses": self.losses,
            "grad_norms": self.grad_norms,
            "gradients": None if self.gradients is None else self.gradients.state_dict(),
            "results": [asdict(result) for result in self.results],
            "kept_weights": self.kept_weights,
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Restore what ``to_dict`` returned."""
        self.model.load_state_dict(values["model"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        if self.plateau is not None:
            self.plateau.load_state_dict(values["plateau"])
        self.scaler.load_state_dict(values["scaler"])
        if self.averaged is not None:
            self.averaged.load_state_dict(values["averaged"])
        self.epoch = values["epoch"]
        self.step = values["step"]
        self.num_images = values["num_images"]
        self.lr = values["lr"]
        self.losses.copy_(values["losses"])
        self.grad_norms.copy_(values["grad_norms"])
        if self.gradients is not None:
            self.gradients.load_state_dict(values["gradients"])
        self.results = [EpochResult(**result) for result in values["results"]]
        self.kept_weights = values["kept_weights"]

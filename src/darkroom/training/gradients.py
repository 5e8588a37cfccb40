"""The gradient of each layer, epoch by epoch: its L2 norm, and the units that no gradient reaches.

In deep networks, gradients are products of many factors, so that they can vanish or explode on the way
from the loss to the first layers (Glorot and Bengio, "Understanding the difficulty of training deep
feedforward neural networks", 2010). A unit whose ReLU is 0 for all images gets no gradient and does not
recover: it is dead.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.models.trainable import parameters_by_name

VANISHING, EXPLODING = 1e-3, 1e3
"""Ratio of the first layer's norm to the last one's below or above which a remark is made."""

MANY_DEAD = 0.25
"""Minimum share of dead units in a layer for a remark."""

MAX_NAMED = 3
"""Maximum number of layers that are named."""

VANISHING_ADVICE = (
    "the first layers hardly learn; fewer layers, shortcuts around them (resnet, vit), or model.init:"
    " kaiming help"
)

EXPLODING_ADVICE = (
    "the first layers move too far; fewer layers, shortcuts around them (resnet, vit), a lower train.lr"
    " or train.clip_norm help"
)

DEAD_ADVICE = (
    "nothing in the last epoch gave them a gradient; a lower train.lr helps, or, in darkroom's own"
    " networks, leaky_relu, gelu or silu as model.activation"
)


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of a layer in an epoch."""

    epoch: int
    """Counted from 1."""
    layer: str
    """Name of the layer's matrix, as ``darkroom summary`` shows it."""
    grad_norm: float | None
    """Mean L2 norm over the steps; None if the layer was frozen."""
    num_units: int
    """Number of units or channels that the layer computes; 0 for embeddings and the like."""
    num_dead: int
    """Number of them that no step of the epoch gave a gradient."""


class GradientNorms:
    """Measure the gradients of a model's layers after each backward pass.

    A layer is a matrix (of a convolution, a linear layer, an embedding) with the vectors that follow it:
    biases and norms. The squares of the norms of all layers sum to that of the whole gradient. Gradients
    are read and never changed, and values stay on the device until the end of an epoch.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = layers_of(model)
        device = next(model.parameters()).device
        self._sums = torch.zeros(len(self._layers), device=device)
        self._num_steps = torch.zeros_like(self._sums)
        self._is_alive = [
            torch.zeros(_num_units(matrix), dtype=torch.bool, device=device)
            for matrix, *_ in self._layers.values()
        ]
        self.results: list[LayerGradient] = []
        """Of all finished epochs; the layers of each from the first to the last."""

    @torch.no_grad()
    def add_step(self) -> None:
        """Measure the gradients, which must be unscaled, and those of the loss alone."""
        for index, parameters in enumerate(self._layers.values()):
            grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if not grads:
                continue
            norm = nn.utils.get_total_norm(grads)
            is_finite = norm.isfinite()  # float16 skips steps whose gradients overflow
            self._sums[index] += torch.where(is_finite, norm, 0.0)
            self._num_steps[index] += is_finite
            if len(self._is_alive[index]) and parameters[0].grad is not None:
                self._is_alive[index] |= parameters[0].grad.flatten(1).any(dim=1)

    def of_epoch(self, epoch: int) -> list[LayerGradient]:
        """Return the gradients since the last ``finish_epoch``; the epoch counts from 1."""
        sums, num_steps = self._sums.tolist(), self._num_steps.tolist()
        return [
            LayerGradient(
                epoch,
                layer,
                total / count if count else None,
                len(is_alive),
                len(is_alive) - int(is_alive.sum()) if count else 0,
            )
            for layer, total, count, is_alive in zip(
                self._layers, sums, num_steps, self._is_alive, strict=True
            )
        ]

    def finish_epoch(self, epoch: int) -> None:
        """Add the epoch to the results and start the next one."""
        self.results += self.of_epoch(epoch)
        for values in (self._sums, self._num_steps, *self._is_alive):
            values.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors; the tensors are the object's own, not copies."""
        return {
            "sums": self._sums,
            "num_steps": self._num_steps,
            "is_alive": self._is_alive,
            "results": [asdict(result) for result in self.results],
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        own = [self._sums, self._num_steps, *self._is_alive]
        saved = [values["sums"], values["num_steps"], *values["is_alive"]]
        for tensor, other in zip(own, saved, strict=True):
            tensor.copy_(other)
        self.results = [LayerGradient(**result) for result in values["results"]]


def layers_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each layer, the matrix first, by the name of the matrix."""
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in parameters_by_name(model).items():
        if parameter.ndim > 1 or not layers:
            layers[name.removesuffix(".weight")] = []
        next(reversed(layers.values())).append(parameter)
    return layers


def ends_of(gradients: Sequence[LayerGradient]) -> tuple[LayerGradient, LayerGradient] | None:
    """Return the first and the last layer that were trained in an epoch; None if there is only one.

    Args:
        gradients: of one epoch. Layers without units, such as position embeddings, do not count.
    """
    trained = [each for each in gradients if each.grad_norm is not None and each.num_units]
    return (trained[0], trained[-1]) if len(trained) > 1 else None


def remarks_on_gradients(results: Sequence[LayerGradient]) -> list[str]:
    """Return a sentence each if gradients vanish or explode, or if many units are dead.

    The ratio of the first layer's norm to the last one's is judged by its median over the epochs, dead
    units by the last epoch.
    """
    by_epoch = [list(group) for _, group in groupby(results, key=attrgetter("epoch"))]
    ends = [pair for pair in map(ends_of, by_epoch) if pair is not None and pair[1].grad_norm]
    remarks = [_remark_on_ratio(ends)] if ends else []
    dead = [
        each for each in by_epoch[-1] if each.num_dead and each.num_dead >= MANY_DEAD * each.num_units
    ]
    if dead:
        names = ", ".join(
            f"{each.num_dead} of {each.num_units} in {each.layer}" for each in dead[:MAX_NAMED]
        )
        more = f" and in {len(dead) - MAX_NAMED} more layers" if len(dead) > MAX_NAMED else ""
        remarks.append(f"many units are dead ({names}{more}): {DEAD_ADVICE}")
    return [remark for remark in remarks if remark]


def _remark_on_ratio(ends: Sequence[tuple[LayerGradient, LayerGradient]]) -> str:
    ratio = statistics.median((first.grad_norm or 0.0) / (last.grad_norm or 1.0) for first, last in ends)
    if VANISHING <= ratio <= EXPLODING:
        return ""
    first, last = ends[-1]
    what, advice = ("vanish", VANISHING_ADVICE) if ratio < VANISHING else ("explode", EXPLODING_ADVICE)
    return (
        f"the gradients {what}: the norm in {first.layer}, the first layer, is {ratio:.1g} times that in"
        f" {last.layer}, the last one: {advice}"
    )


def write_gradients(results: Sequence[LayerGradient], folder: Path) -> None:
    """Write gradients.csv, with one row per epoch and layer, and gradients.png."""
    import pandas as pd  # takes a second

    from darkroom.reporting.figures import draw_gradients

    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([asdict(result) for result in results])
    table.to_csv(folder / "gradients.csv", index=False, lineterminator="\n")
    norms = table.pivot(index="layer", columns="epoch", values="grad_norm")
    norms = norms.loc[table["layer"].unique()]
    draw_gradients(
        list(norms.index), list(norms.columns), norms.to_numpy(float), folder / "gradients.png"
    )


def _num_units(parameter: Tensor) -> int:
    """Return the number of outputs of a linear layer or a convolution; 0 for other parameters."""
    return len(parameter) if parameter.ndim in (2, 4) else 0

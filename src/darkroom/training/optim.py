"""Optimizers by name, their groups of parameters, and the L1 penalty."""

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from darkroom.errors import UserError
from darkroom.models.square_root import SquareRoots
from darkroom.models.trainable import in_head, matching, parameters_by_name

if TYPE_CHECKING:
    from darkroom.config.train import SettledTrain

FUSED = {
    "cpu": {"sgd", "adam", "adamw", "adagrad", "muon"},
    "cuda": {"sgd", "adam", "adamw", "muon"},  # adagrad only from PyTorch 2.12 on (pytorch#177672)
}
"""Optimizers for which torch has one kernel for all parameters of a group, by type of device."""

POSITIONS = ("*.position*", "*.pos_embed*", "*.relative_position*", "*.class_token", "*.cls_token")
"""Names of position embeddings and tokens, which are added to features instead of multiplying them."""


def make_optimizer(
    model: nn.Module, options: "SettledTrain", layers: Sequence[Sequence[str]] = ()
) -> Optimizer:
    """Return the optimizer of all parameters, including those that are frozen at first.

    Parameters with the same learning rate and decay form a group. Its ``is_decayed`` says whether they
    are decayed: norms and biases (parameters with one dimension) and positions are not.

    Args:
        layers: parameter names of each layer of the backbone, the layer closest to the image first;
            only for ``layer_decay``.

    Raises:
        UserError: a pattern of ``lr_factors`` matches nothing, or the network does not suit muon.
    """
    fused = all(
        options.optimizer in FUSED.get(parameter.device.type, ()) for parameter in model.parameters()
    )
    if options.optimizer == "muon":
        matrices = _backbone_matrices(model)
        groups = _groups(model, options, layers, lambda name: name in matrices)
        others = _groups(model, options, layers, lambda name: name not in matrices)
        return _make_muon(groups, others, options.momentum or 0.0, fused)
    groups = _groups(model, options, layers)
    return MAKERS[options.optimizer](groups, options, fused)


def lr_factors(
    names: Collection[str], options: "SettledTrain", layers: Sequence[Sequence[str]] = ()
) -> dict[str, float]:
    """Return the factor of the learning rate of each of ``names``.

    With ``layer_decay``, the factor is 1 for the head, ``decay`` for the last of ``layers``, its
    square for the layer before it, and so on (Clark et al., "ELECTRA", 2020). A parameter outside all
    layers has the factor of the first layer. The factor is multiplied by that of the last pattern of
    ``lr_factors`` that matches.

    Raises:
        UserError: a pattern matches nothing.
    """
    factors = dict.fromkeys(names, 1.0)
    if options.layer_decay is not None:
        assert layers, "layer_decay needs the layers"
        depths = {name: depth for depth, layer in enumerate(layers) for name in layer}
        for name in names:
            if not in_head(name):
                factors[name] = options.layer_decay ** (len(layers) - depths.get(name, 0))
    by_pattern: dict[str, float] = {}
    for pattern, factor in options.lr_factors.items():
        by_pattern |= dict.fromkeys(matching(pattern, names, "train.lr_factors"), factor)
    return {name: factor * by_pattern.get(name, 1.0) for name, factor in factors.items()}


@torch.no_grad()
def add_l1(optimizer: Optimizer, l1: float) -> None:
    """Add the gradient of ``l1`` times the sum of the absolute values of all decayed parameters.

    The lasso (Tibshirani, 1996); at zero, the subgradient is 0. The gradients must be unscaled, and not
    yet clipped.
    """
    if l1 == 0:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if group["is_decayed"] and parameter.grad is not None:
                parameter.grad.add_(parameter.sign(), alpha=l1)


def _groups(
    model: nn.Module,
    options: "SettledTrain",
    layers: Sequence[Sequence[str]],
    is_included: Callable[[str], bool] = lambda name: True,
) -> list[dict[str, Any]]:
    """Return groups, as torch takes them, of the parameters whose names are included."""
    named = parameters_by_name(model)
    factors = lr_factors(named, options, layers)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name in filter(is_included, named):
        is_decayed = named[name].ndim > 1 and not _is_position(name)
        groups.setdefault((factors[name], is_decayed), []).append(named[name])
    return [
        {
            "params": parameters,
            "lr": options.lr * factor,
            "weight_decay": options.weight_decay if is_decayed else 0.0,
            "is_decayed": is_decayed,
        }
        for (factor, is_decayed), parameters in groups.items()
    ]


def _is_position(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in POSITIONS)


def _backbone_matrices(model: nn.Module) -> set[str]:
    """Return the names of the parameters for ``muon``: matrices other than embeddings and the head."""
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    return {
        name
        for name, parameter in parameters_by_name(model).items()
        if parameter.ndim == 2
        and parameter not in embeddings
        and not in_head(name)
        and not _is_position(name)
    }


class _OfEveryCPU(Optimizer):
    """An optimizer for which torch has no fused kernel: its roots are those of every CPU."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step."""
        with SquareRoots():
            return super().step(closure)


class _Adadelta(_OfEveryCPU, Adadelta):
    pass


class _RMSprop(_OfEveryCPU, RMSprop):
    pass


def _make_sgd(groups: list[dict[str, Any]], options: "SettledTrain", fused: bool) -> Optimizer:
    momentum = options.momentum or 0.0
    nesterov = bool(options.nesterov) and momentum > 0
    sgd = SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused, foreach=not fused)
    if momentum > 0:
        # torch's fused kernel fails on a group in which only some parameters have a velocity, such as
        # after unfreezing, and leaves it unset if it skips the first step (float16). 0 has no effect.
        for group in groups:
            for parameter in group["params"]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


MAKERS: dict[str, Callable[[list[dict[str, Any]], "SettledTrain", bool], Optimizer]] = {
    "sgd": _make_sgd,
    "adam": lambda groups, _, fused: Adam(groups, fused=fused, foreach=not fused),
    "adamw": lambda groups, _, fused: AdamW(groups, fused=fused, foreach=not fused),
    "adagrad": lambda groups, _, fused: Adagrad(groups, fused=fused, foreach=not fused),
    "adadelta": lambda groups, _, fused: _Adadelta(groups, foreach=not fused),
    "rmsprop": lambda groups, options, fused: _RMSprop(
        groups, momentum=options.momentum or 0.0, foreach=not fused
    ),
}


def _make_muon(
    matrices: list[dict[str, Any]], others: list[dict[str, Any]], momentum: float, fused: bool
) -> Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"train.optimizer: PyTorch {torch.__version__} has no muon; use adamw")
    if not matrices:
        raise UserError(
            "train.optimizer: muon optimizes matrices, and this network's backbone has none; use adamw"
        )
    return MuonAndAdamW(
        # scales the rate so that a matrix moves as far as with adamw (Liu et al., "Muon is Scalable for
        # LLM Training", 2025); one train.lr then suits both
        torch.optim.Muon(matrices, momentum=momentum, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, fused=fused, foreach=not fused),
    )


class MuonAndAdamW(Optimizer):
    """Muon for the first groups and AdamW for the others, as one optimizer.

    Muon makes all singular values of a matrix's step nearly 1 (Jordan, "Muon: An optimizer for hidden
    layers in neural networks", 2024), with Nesterov momentum. The documentation of ``torch.optim.Muon``
    recommends AdamW for everything except hidden matrices.
    """

    def __init__(self, muon: Optimizer, adamw: Optimizer) -> None:
        self._parts = (muon, adamw)
        self._num_matrix_groups = len(muon.param_groups)
        super().__init__([*muon.param_groups, *adamw.param_groups], defaults={})
        self._share()

    def _share(self) -> None:
        """Let both use the groups and the state of this optimizer, which are saved and scheduled."""
        muon, adamw = self._parts
        muon.state = adamw.state = self.state
        muon.param_groups = self.param_groups[: self._num_matrix_groups]
        adamw.param_groups = self.param_groups[self._num_matrix_groups :]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with both."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

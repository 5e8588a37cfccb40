"""Optimizers by name, their groups of parameters, and what is done to gradients before a step."""

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from darkroom.config.train import SettledTrain
from darkroom.errors import UserError
from darkroom.models.trainable import in_head, matching, parameters_by_name

FUSED = {"sgd", "adam", "adamw", "adagrad", "muon"}
"""Those of which torch has one kernel for all parameters of a group, on CPU and CUDA."""

POSITIONS = ("*.position*", "*.pos_embed*", "*.relative_position*", "*.class_token", "*.cls_token")
"""Names of what says where a patch lies: it is added to features, and no factor of them."""


def make_optimizer(
    model: nn.Module, options: SettledTrain, layers: Sequence[Sequence[str]] = ()
) -> Optimizer:
    """Makes the optimizer of all parameters, also of those that are frozen for now.

    Parameters with the same learning rate and decay are one group, which says under ``is_decayed``
    whether they are decayed: norms and biases (parameters with one dimension) and positions are not.

    Args:
        layers: the backbone's, from the image on, as names of parameters; for ``layer_decay`` alone.

    Raises:
        UserError: a pattern of ``lr_factors`` matches nothing, or the optimizer does not fit.
    """
    fused = options.optimizer in FUSED and all(
        parameter.device.type in ("cpu", "cuda") for parameter in model.parameters()
    )
    if options.optimizer == "muon":
        matrices = _backbone_matrices(model)
        groups = _groups(model, options, layers, lambda name: name in matrices)
        others = _groups(model, options, layers, lambda name: name not in matrices)
        return _make_muon(groups, others, options.momentum or 0.0, fused)
    groups = _groups(model, options, layers)
    return MAKERS[options.optimizer](groups, options, fused)


def lr_factors(
    names: Collection[str], options: SettledTrain, layers: Sequence[Sequence[str]] = ()
) -> dict[str, float]:
    """Returns the factor of the learning rate of each of ``names``.

    ``layer_decay``: 1 for the head, ``decay`` for the last of ``layers``, ``decay ** 2`` for the one
    before it, and so on (Clark et al., "ELECTRA", 2020); what is in none of them goes with the first.
    Times that of ``lr_factors``, of whose matching patterns the last counts.

    Raises:
        UserError: a pattern matches nothing.
    """
    factors = dict.fromkeys(names, 1.0)
    if options.layer_decay is not None:
        assert layers, "layer_decay goes by the order of layers"
        heights = {name: height for height, of in enumerate(layers) for name in of}
        for name in names:
            if not in_head(name):
                factors[name] = options.layer_decay ** (len(layers) - heights.get(name, 0))
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
    options: SettledTrain,
    layers: Sequence[Sequence[str]],
    is_taken: Callable[[str], bool] = lambda name: True,
) -> list[dict[str, Any]]:
    """Returns groups as torch takes them, of the parameters whose names are taken."""
    named = parameters_by_name(model)
    factors = lr_factors(named, options, layers)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name in filter(is_taken, named):
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
    """Names what ``muon`` is for: factors of features, between the embeddings and the head."""
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    return {
        name
        for name, parameter in parameters_by_name(model).items()
        if parameter.ndim == 2
        and parameter not in embeddings
        and not in_head(name)
        and not _is_position(name)
    }


def _make_sgd(groups: list[dict[str, Any]], options: SettledTrain, fused: bool) -> Optimizer:
    momentum = options.momentum or 0.0
    nesterov = bool(options.nesterov) and momentum > 0
    sgd = SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused, foreach=not fused)
    if momentum > 0:
        # torch's kernel takes no group of which only some have a velocity, as where a layer joins in
        # later, and leaves it unset where it skips the first step (float16). At rest is the same.
        for group in groups:
            for parameter in group["params"]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


MAKERS: dict[str, Callable[[list[dict[str, Any]], SettledTrain, bool], Optimizer]] = {
    "sgd": _make_sgd,
    "adam": lambda groups, _, fused: Adam(groups, fused=fused, foreach=not fused),
    "adamw": lambda groups, _, fused: AdamW(groups, fused=fused, foreach=not fused),
    "adagrad": lambda groups, _, fused: Adagrad(groups, fused=fused, foreach=not fused),
    "adadelta": lambda groups, _, fused: Adadelta(groups, foreach=not fused),
    "rmsprop": lambda groups, options, fused: RMSprop(
        groups, momentum=options.momentum or 0.0, foreach=not fused
    ),
}


def _make_muon(
    matrices: list[dict[str, Any]], others: list[dict[str, Any]], momentum: float, fused: bool
) -> Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"train.optimizer: PyTorch {torch.__version__} has no muon; take adamw")
    if not matrices:
        raise UserError(
            "train.optimizer: muon is for matrices, and this network's backbone has none; take adamw"
        )
    return MuonAndAdamW(
        # the rate that makes a matrix move as far as adamw would (Liu et al., "Muon is Scalable for LLM
        # Training", 2025), so that one train.lr does for both
        torch.optim.Muon(matrices, momentum=momentum, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, fused=fused, foreach=not fused),
    )


class MuonAndAdamW(Optimizer):
    """Two optimizers as one, of whose groups the first are Muon's.

    Muon makes all singular values of a matrix's step nearly 1 (Jordan, "Muon: An optimizer for hidden
    layers in neural networks", 2024), with Nesterov's momentum; torch's documentation of
    ``torch.optim.Muon`` says to leave all that is no hidden matrix to AdamW.
    """

    def __init__(self, muon: Optimizer, adamw: Optimizer) -> None:
        self._parts = (muon, adamw)
        self._num_matrix_groups = len(muon.param_groups)
        super().__init__([*muon.param_groups, *adamw.param_groups], defaults={})
        self._share()

    def _share(self) -> None:
        """Lets both work on the groups and the state of this one, which are saved and scheduled."""
        muon, adamw = self._parts
        muon.state = adamw.state = self.state
        muon.param_groups = self.param_groups[: self._num_matrix_groups]
        adamw.param_groups = self.param_groups[self._num_matrix_groups :]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes a step with each."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

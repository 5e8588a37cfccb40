"""Layers by patterns of their names, and which of them learn in an epoch."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from torch import nn

from darkroom.errors import UserError, did_you_mean


class UnfreezeEntry(Protocol):
    """Layers that learn from an epoch on."""

    @property
    def epoch(self) -> int: ...
    @property
    def layers(self) -> str: ...


class LayerOptions(Protocol):
    """What is read of the ``train`` section; its descriptions say what each means."""

    @property
    def freeze(self) -> str | Sequence[str]: ...
    @property
    def unfreeze(self) -> Sequence[UnfreezeEntry]: ...


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters by name, without the ``network.`` before each of a ``Classifier``'s."""
    return {name.removeprefix("network."): parameter for name, parameter in model.named_parameters()}


def in_head(name: str) -> bool:
    """Whether a parameter is the head's; all else is the backbone's."""
    return name.startswith("head.")


def matching(pattern: str, names: Collection[str], option: str) -> set[str]:
    """Returns those of ``names`` that ``pattern`` matches, or that lie in a layer that it matches.

    Args:
        names: of parameters, such as ``backbone.layer1.0.weight``.
        option: the parameter of ours that holds the pattern, for the message.

    Raises:
        UserError: there are none.
    """
    found = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")}
    if not found:
        near = did_you_mean(pattern.removesuffix(".*"), _layers_of(names))
        raise UserError(
            f"{option}: {pattern} matches no layer{near or '; `darkroom summary` shows their names'}"
        )
    return found


def trainable_in(
    epoch: int,
    names: Collection[str],
    freeze: str | Sequence[str],
    unfreeze: Iterable[tuple[int, str]],
) -> set[str]:
    """Returns those of ``names`` that learn in ``epoch``, which counts from 1.

    Layers that join in one after the other, the head first, keep more of what the backbone has learnt
    elsewhere (Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018).

    Args:
        unfreeze: pairs of an epoch and a pattern of the layers that learn from it on.

    Raises:
        UserError: a pattern, also one of a later epoch, matches nothing; or nothing learns.
    """
    learning = set(names)
    if freeze == "backbone":
        learning = {name for name in names if in_head(name)}
    elif not isinstance(freeze, str):
        for pattern in freeze:
            learning -= matching(pattern, names, "train.freeze")
    for first_epoch, pattern in unfreeze:
        layers = matching(pattern, names, "train.unfreeze")
        if epoch >= first_epoch:
            learning |= layers
    if not learning:
        raise UserError(f"train.freeze: leaves no layer that learns in epoch {epoch}; freeze fewer")
    return learning


def set_trainable(model: nn.Module, epoch: int, options: LayerOptions) -> None:
    """Lets only those parameters learn that are to in ``epoch``, which counts from 1.

    To be called after ``model.train()``: normalisation whose own parameters are all frozen also keeps
    its running statistics, and normalises by them, as it will when the model is used. A backbone that
    is frozen as a whole computes the same features as it will then: without dropout, and with all of
    its residual blocks.

    Raises:
        UserError: as ``trainable_in``.
    """
    named = parameters_by_name(model)
    unfreeze = [(entry.epoch, entry.layers) for entry in options.unfreeze]
    learning = trainable_in(epoch, named, options.freeze, unfreeze)
    for name, parameter in named.items():
        parameter.requires_grad_(name in learning)
        if name not in learning:
            parameter.grad = None  # optimizers decay, and move on by momentum, what has a gradient
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if _has_running_statistics(module) and own and not any(p.requires_grad for p in own):
            module.eval()
    backbone = getattr(getattr(model, "network", model), "backbone", None)
    if backbone is not None and not any(p.requires_grad for p in backbone.parameters()):
        backbone.eval()


def _has_running_statistics(module: nn.Module) -> bool:
    return any(name == "running_var" for name, _ in module.named_buffers(recurse=False))


def _layers_of(names: Iterable[str]) -> list[str]:
    """Returns names of parameters and of all layers around them, the outermost first."""
    parts = [name.split(".") for name in names]
    layers = (".".join(of[:depth]) for of in parts for depth in range(1, len(of) + 1))
    return list(dict.fromkeys(layers))

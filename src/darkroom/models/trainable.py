"""Layers selected by patterns of their names, and which of them are trained in an epoch."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from darkroom.errors import UserError, did_you_mean


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters by name, without the prefix ``network.`` of a ``Classifier``."""
    return {name.removeprefix("network."): parameter for name, parameter in model.named_parameters()}


def in_head(name: str) -> bool:
    """Return whether a parameter belongs to the head; all others belong to the backbone."""
    return name.startswith("head.")


def matching(pattern: str, names: Collection[str], option: str) -> set[str]:
    """Return the parameter names that ``pattern`` matches, itself or by their layer.

    Args:
        names: names of parameters, such as ``backbone.layer1.0.weight``.
        option: name of the option that holds the pattern, for the message.

    Raises:
        UserError: the pattern matches nothing.
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
    """Return the parameters that are trained in ``epoch``, counted from 1.

    Gradual unfreezing, the head first, preserves more of what the backbone has learned elsewhere (Howard
    and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018).

    Args:
        names: names of all parameters.
        unfreeze: pairs of an epoch and a pattern of the layers that are trained from that epoch on.

    Raises:
        UserError: a pattern, even one for a later epoch, matches nothing; or all parameters are frozen.
    """
    trainable = set(names)
    if freeze == "backbone":
        trainable = {name for name in names if in_head(name)}
    elif not isinstance(freeze, str):
        for pattern in freeze:
            trainable -= matching(pattern, names, "train.freeze")
    for first_epoch, pattern in unfreeze:
        layers = matching(pattern, names, "train.unfreeze")
        if epoch >= first_epoch:
            trainable |= layers
    if not trainable:
        raise UserError(f"train.freeze: all layers are frozen in epoch {epoch}; freeze fewer")
    return trainable


def _layers_of(names: Iterable[str]) -> list[str]:
    """Return the names of parameters and of all layers that contain them, the outermost first."""
    parts = [name.split(".") for name in names]
    layers = (".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1))
    return list(dict.fromkeys(layers))

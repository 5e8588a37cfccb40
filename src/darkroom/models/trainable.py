"""Layers by patterns of their names, and which of them learn in an epoch."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from darkroom.errors import UserError, did_you_mean


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


def _layers_of(names: Iterable[str]) -> list[str]:
    """Returns names of parameters and of all layers around them, the outermost first."""
    parts = [name.split(".") for name in names]
    layers = (".".join(of[:depth]) for of in parts for depth in range(1, len(of) + 1))
    return list(dict.fromkeys(layers))

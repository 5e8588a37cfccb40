"""What is wrong with the user's Python files that params.yaml names, found without running them."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from darkroom.config.section import Mistakes
from darkroom.own_files import look_at
from darkroom.own_names import (
    TRAIN_PATTERN,
    Arguments,
    Broken,
    OwnName,
    is_own_file,
    mistakes_of_backbone,
    mistakes_of_loss,
    mistakes_of_source,
)

if TYPE_CHECKING:
    from darkroom.config.params import Params

Check = Callable[[OwnName, Arguments, Mapping[str, Any]], Mistakes]


def mistakes_of_own_files(params: "Params") -> Mistakes:
    """Yield what is wrong with each file, in the order of the sections."""
    for name in filter(is_own_file, params.data.fetch):
        yield from _mistakes("data.fetch", name, lambda own, taken, _: mistakes_of_source(own, taken))
    for name in params.augment.own_files:
        if re.fullmatch(TRAIN_PATTERN, name):
            yield from _mistakes("augment.transforms", name)
    if is_own_file(params.model.name):
        yield from _mistakes("model.name", params.model.name, mistakes_of_backbone, dict(params.model))
    if is_own_file(params.train.loss):
        yield from _mistakes("train.loss", params.train.loss, mistakes_of_loss, dict(params.train))


def _mistakes(
    parameter: str, value: str, check: Check | None = None, section: Mapping[str, Any] | None = None
) -> Mistakes:
    try:
        arguments = look_at(value)
    except Broken as error:
        yield parameter, f"{error}"
        return
    if check is not None and arguments is not None:  # else the stage tells
        yield from check(OwnName.parse(value), arguments, section or {})

"""Transforms from a Python file of the user: ``- file:own/train/noise.py:Noise: {strength: 8}``.

What is named is called with its arguments. It returns a callable from uint8 ``(channels, height,
width)`` to the same, which draws from torch's global generator: that is seeded for each image.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from darkroom.errors import UserError
from darkroom.own_files import load

OPTION = "augment.transforms"


class OwnTransform:
    """A transform of the user. It is pickled by its name, so that worker processes load its file.

    Args:
        value: ``file:PATH:NAME``.
        arguments: of what is named.

    Raises:
        UserError: the file cannot be used, or what is named rejects the arguments.
    """

    def __init__(self, value: str, arguments: Mapping[str, Any]) -> None:
        self._value, self._arguments = value, dict(arguments)
        with torch.random.fork_rng(devices=[]):
            self._own = load(OPTION, value)
            try:
                made = self._own.value(**arguments)
            except Exception as error:
                raise UserError(
                    f"{OPTION}: {self._own.place(error)}, for the arguments {self._arguments}"
                ) from None
        if not callable(made):
            raise UserError(
                f"{OPTION}: {self._own.name} makes a {type(made).__name__}; it must make a function or"
                " an object that takes and returns an image, uint8 of shape (channels, height, width)"
            )
        self._transform: Callable[[Tensor], Tensor] = made
        self._repeats = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, (self._value, json.dumps(self._arguments), self._own.sha256)

    def __call__(self, image: Tensor) -> Tensor:
        """Return what the transform makes of an image; the image stays as it is.

        Raises:
            UserError: the transform raises an exception, or the first image is not changed in the same
                way twice.
        """
        state = torch.get_rng_state()
        changed = self._changed(image)
        if not self._repeats:
            torch.set_rng_state(state)
            again = self._changed(image)
            if isinstance(changed, Tensor) and not torch.equal(changed, again):
                raise UserError(
                    f"{OPTION}: {self._own.name} changes an image in another way when it is called again"
                    " with the same seed; draw with torch, which darkroom seeds for each image"
                )
            self._repeats = True
        return changed

    def _changed(self, image: Tensor) -> Tensor:
        try:
            return self._transform(image.clone())
        except Exception as error:
            shape = f"a uint8 image of shape {tuple(image.shape)}"
            raise UserError(f"{OPTION}: {self._own.place(error)}, for {shape}") from None


@lru_cache(maxsize=32)
def _loaded(value: str, arguments: str, sha256: str) -> OwnTransform:
    """Load a transform in a worker process.

    Raises:
        UserError: the file was edited since the training began.
    """
    transform = OwnTransform(value, json.loads(arguments))
    if transform._own.sha256 != sha256:
        raise UserError(
            f"{transform._own.name.path} was edited while it was used; run `dvc repro` again"
        )
    return transform

"""What a server needs of a model: answers for the files of a request."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from darkroom.serving.refusal import Refusal
from darkroom.serving.uploads import Upload


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is loaded and asked; see ``Predictor``."""

    format_name: str = "onnx"
    tiff: bool = False
    abstain: bool = False
    tile: bool = False


@dataclass(frozen=True)
class Info:
    """What the server tells clients about a model."""

    name: str
    version: str
    """Number in the registry, empty without one."""
    sha256: str
    """Of the ONNX file."""
    content_sha256: str
    """Of model.json, which names all files; the same for the same export."""
    description: dict[str, Any]
    """Classes, input, metrics and so on, for JSON."""

    @property
    def short(self) -> dict[str, str]:
        """What every answer says about the model."""
        version = {"version": self.version} if self.version else {}
        return {"name": self.name, **version, "sha256": self.sha256}


class ServedModel(Protocol):
    """A loaded model. One class for each kind of answer."""

    info: Info
    raw_types: tuple[str, ...]
    """Media types of a body that is one file."""
    shown: str
    """What the page asks for: ``classes``, ``mask`` or ``rows``."""
    names_classes: bool
    """Whether each answer names classes, which a log counts."""

    def warm_up(self) -> None:
        """Classify something in the sizes of batches that will come."""
        ...

    async def answers(self, uploads: Sequence[Upload], top_k: int) -> list[dict[str, Any]]:
        """Return an answer for each image or row; a bad one has ``error`` and ``what_to_do``.

        Args:
            top_k: number of the most probable classes to name beside those that the model decides for.

        Raises:
            Refusal: nothing can be answered.
        """
        ...


async def gathered(parts: Sequence[Awaitable[dict[str, Any] | Refusal]]) -> list[dict[str, Any]]:
    """Return answers; a refusal of one file is its answer if another one has a better answer.

    Raises:
        Refusal: all files are refused; that of the first.
    """
    found = await asyncio.gather(*parts)
    refusals = [one for one in found if isinstance(one, Refusal)]
    if len(refusals) == len(found):
        raise refusals[0]
    return [one.content() if isinstance(one, Refusal) else one for one in found]


@dataclass(frozen=True)
class Exported:
    """An export on disk, before its files are checked."""

    folder: Path
    name: str
    version: str = ""

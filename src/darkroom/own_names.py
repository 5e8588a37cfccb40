"""Functions and classes in Python files of the user, by name: ``file:own/train/tiny.py:Tiny``.

A file is in ``own/STAGE/``, which is a dep of that stage. It is checked without running it when
params.yaml is read, and run when a stage needs it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from darkroom.errors import UserError, listed

PREFIX = "file:"

TRAIN_PATTERN = r"file:own/train/[A-Za-z0-9_]+\.py:[A-Za-z0-9_]+"
"""A regular expression for a function or a class in a file that train runs."""

FETCH_PATTERN = r"file:own/fetch/[A-Za-z0-9_]+\.py:[A-Za-z_][A-Za-z0-9_]*"
"""A regular expression for a function in a file that fetch runs."""

MAX_NAMES = 8
"""Maximum number of names in a message."""

Mistakes = Iterator[tuple[str, str]]
"""(full name of a parameter, what is wrong)"""

BACKBONE_ARGUMENTS = ("channels", "input_size")
"""What a backbone gets if it takes it: a number, and ``(height, width)`` in pixels."""

BACKBONE_OPTIONS = ("width", "depth")
"""Parameters of ``model`` that a backbone gets if it takes them."""

LOSS_ARGUMENTS = ("logits", "targets")

LOSS_OPTIONS = {"focal_gamma": None, "label_smoothing": 0.0, "class_weights": None}
"""Parameters of ``train`` that a loss gets if it takes them, with the value that switches them off."""

SOURCE_ARGUMENTS = ("folder", "progress")
"""What a data source gets if it takes it: an empty folder, and a progress bar."""


class Broken(Exception):
    """A file or a name in it cannot be used; the message says where and why."""


class Arguments(NamedTuple):
    """The arguments of a function or of a class in a file."""

    taken: frozenset[str]
    required: frozenset[str]


@dataclass(frozen=True)
class OwnName:
    """A function or a class in a file of the user."""

    path: Path
    """Relative to the project."""
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"

    @classmethod
    def parse(cls, value: str) -> Self:
        """Return what ``file:PATH:NAME`` means."""
        path, _, name = value.removeprefix(PREFIX).rpartition(":")
        return cls(Path(path), name)

    def content(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            Broken: there is no such file, it cannot be read, or it is a link: DVC would not see where
                that leads.
        """
        for place in (self.path, *self.path.parents):
            if place.is_symlink():
                raise Broken(f"{place} is a link; put the file itself there")
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            folder = self.path.parent
            held = listed(sorted(path.name for path in folder.glob("*.py")), MAX_NAMES) or "none"
            raise Broken(f"there is no file {self.path}; {folder}/ holds {held}") from None
        except OSError as error:
            raise Broken(f"{self.path} cannot be read ({error.strerror or error})") from None

    def sha256(self) -> str:
        """Return the SHA-256 of the file, in hexadecimal digits.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return hashlib.sha256(self.content()).hexdigest()
        except Broken as error:
            raise UserError(f"{error}") from None


def is_own_file(value: object) -> bool:
    """Return whether a value of params.yaml names a function or a class in a file of the user."""
    return isinstance(value, str) and value.startswith(PREFIX)


def set_name(item: str) -> str:
    """Return the name of the folder in data/fetched of an entry of ``data.fetch``."""
    return OwnName.parse(item).name if is_own_file(item) else item


def mistakes_of_source(own: OwnName, arguments: Arguments) -> Mistakes:
    """Yield what is wrong with the arguments of a data source."""
    if "folder" not in arguments.taken:
        yield "data.fetch", f"{own} does not take folder, which is where it must write its files"
    yield from _mistakes("data.fetch", own, arguments, SOURCE_ARGUMENTS, {})


def mistakes_of_backbone(own: OwnName, arguments: Arguments, model: Mapping[str, object]) -> Mistakes:
    """Yield what is wrong with a backbone's arguments, and parameters of ``model`` that do not fit."""
    options = {name: _Option(f"model.{name}", model[name]) for name in BACKBONE_OPTIONS}
    yield from _mistakes("model.name", own, arguments, BACKBONE_ARGUMENTS, options)
    for name, option in options.items():
        if option.value is None and name in arguments.required:
            yield option.parameter, f"null is not allowed when {own} requires {name}"


def mistakes_of_loss(own: OwnName, arguments: Arguments, train: Mapping[str, object]) -> Mistakes:
    """Yield what is wrong with a loss's arguments, and parameters of ``train`` that do not fit."""
    options = {name: _Option(f"train.{name}", train[name], off) for name, off in LOSS_OPTIONS.items()}
    if lacking := [name for name in LOSS_ARGUMENTS if name not in arguments.taken]:
        yield "train.loss", f"{own} does not take {lacking[0]}; a loss takes {listed(LOSS_ARGUMENTS)}"
    yield from _mistakes("train.loss", own, arguments, LOSS_ARGUMENTS, options)


class _Option(NamedTuple):
    """A parameter that is passed as an argument, if that is taken."""

    parameter: str
    value: object
    off: object = None


def _mistakes(
    parameter: str,
    own: OwnName,
    arguments: Arguments,
    passed: Sequence[str],
    options: Mapping[str, _Option],
) -> Mistakes:
    """Yield an argument that nothing is passed for, and options that are set but not taken.

    Args:
        parameter: which names the function.
        passed: names of arguments that are not options.
    """
    if other := sorted(arguments.required - {*passed, *options}):
        yield (
            parameter,
            f"{own.path}: {own.name} requires the argument {other[0]}, which darkroom does not pass; it"
            f" can take {listed([*passed, *options])}",
        )
    for name, option in options.items():
        if option.value != option.off and name not in arguments.taken:
            off = "null" if option.off is None else f"{option.off:g}"
            yield (
                option.parameter,
                f"{option.value} has no effect when {own} does not take {name}; it must be {off}",
            )

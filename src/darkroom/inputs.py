"""The kinds of input: what a model predicts from, an image or a row of a table; how rows become numbers.

Code that differs by kind is in modules with these names, in the package ``inputs`` of each room. Other
code passes the name on, or looks up a module or a word by it (docs/decisions/0042-tables.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

Input = Literal["image", "row"]


@dataclass(frozen=True, kw_only=True)
class InputWords:
    """How messages and reports name what differs by kind of input."""

    one: str
    several: str
    a: str
    """``one`` with its article."""
    content: str
    """What two of them share if they are duplicates."""


INPUT_WORDS: dict[Input, InputWords] = {
    "image": InputWords(one="image", several="images", a="an image", content="pixels"),
    "row": InputWords(one="row", several="rows", a="a row", content="values"),
}

ColumnKind = Literal["number", "category", "boolean", "date", "ignored"]
"""What a column of a table holds."""


OUTPUTS = ("logits", "probabilities", "unfamiliarity")
"""The outputs of exported models; a column of a table cannot have these names."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number that a model takes: a column of numbers, or one part of a date."""

    name: str
    """The column, for a part of a date followed by a point and the part: ``joined.month``."""
    median: float
    """Replaces a missing number; of the train split, like ``mean`` and ``std``."""
    mean: float
    std: float
    """Of the numbers after missing ones are replaced; 1 if they are all equal."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """A category that a model takes."""

    name: str
    values: tuple[str, ...]
    """The categories of the train split, sorted: the first has code 1. Empty text: missing."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the rows of a table become numbers and codes. It is the same for all splits."""

    columns: Mapping[str, ColumnKind]
    """The columns from which a model predicts."""
    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]

    @property
    def size(self) -> int:
        """The number of values of an encoded row."""
        return len(self.numbers) + len(self.categories)

    @property
    def names(self) -> list[str]:
        """The names of the values of an encoded row, in order."""
        return [n.name for n in self.numbers] + [c.name for c in self.categories]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the encoding from what ``dataclasses.asdict`` returned, before or after JSON."""
        return cls(
            columns=values["columns"],
            numbers=tuple(Number(**number) for number in values["numbers"]),
            categories=tuple(
                Category(name=category["name"], values=tuple(category["values"]))
                for category in values["categories"]
            ),
        )


def words_of_metrics(metrics: Mapping[str, Any]) -> InputWords:
    """Return the words for the inputs that scores in metrics.json are about; see ``mark_of``."""
    return INPUT_WORDS[metrics.get("input", "image")]


def mark_of(name: Input) -> dict[str, str]:
    """Return what files with scores say of the kind of input; nothing for images, the first kind."""
    return {} if name == "image" else {"input": name}


def input_of(encoding: Encoding | None) -> Input:
    """Return the kind of input that files with this encoding, or with none, are about."""
    return "image" if encoding is None else "row"

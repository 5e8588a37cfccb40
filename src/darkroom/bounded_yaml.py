"""Reads YAML 1.2 as DVC does (ruamel.yaml), and limits the work that a file can cause."""

import copy
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from darkroom.errors import UserError
from darkroom.regular_files import NotRegular, open_regular

MAX_BYTES = 2**20
"""Maximum size of a file. The project's own params.yaml and dvc.lock have 2 and 20 kB."""

MAX_DEPTH = 100
"""Maximum depth of lists and maps inside each other."""

MAX_NODES = 100_000
"""Maximum number of values after each alias (``*name``) is replaced by its value."""

MAX_BITS = 1_024
"""Maximum size of an integer in bits."""

_BRACKETS = re.compile(r"[\[\]{}]")

_MAY_BE_ALIAS = re.compile(r"(?<![\w.])\*")
"""A star that may begin an alias. After a letter, a digit or a dot it continues a text: ``layer4.*``."""


class BadYaml(Exception):
    """A text is not YAML, or takes too much work.

    Args:
        problem: the reason, in a few words.
        line: counted from 1; None if not known.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem, line)
        self.problem = problem
        self.line = line

    def __str__(self) -> str:
        return self.problem


def read_text(path: Path) -> str:
    """Return the text of a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is not a regular file, larger than ``MAX_BYTES``, not UTF-8, or cannot be
            read.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except NotRegular as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return decode_text(content)
    except BadYaml as error:
        raise UserError(f"{path}: {error}") from None


def decode_text(content: bytes) -> str:
    """Return the text of a YAML file's bytes.

    Raises:
        BadYaml: more than ``MAX_BYTES``, or not UTF-8.
    """
    if len(content) > MAX_BYTES:
        raise BadYaml(f"over {MAX_BYTES:,} bytes, the maximum of a YAML file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadYaml(f"not UTF-8 text ({error})") from None


def load_yaml(text: str, kind: Literal["safe", "rt"] = "safe") -> Any:
    """Return the value of a YAML text.

    Args:
        kind: "safe": plain Python values; "rt" (round trip): ruamel's values, which know their lines and
            comments.

    Raises:
        BadYaml: the text is not YAML, has a duplicate key, or exceeds one of the maximums above.
    """
    if len(text) > MAX_BYTES:
        raise BadYaml(f"over {MAX_BYTES:,} characters, the maximum of a YAML file")
    # parsing takes 20 ms per 4 kB, a copy a fraction of it; ruamel's own values are not worth keeping
    return copy.deepcopy(_load_safe(text)) if kind == "safe" else _load(text, kind)


def _load(text: str, kind: Literal["safe", "rt"]) -> Any:
    try:
        _check_depth(text)
        if _MAY_BE_ALIAS.search(text):
            _check_aliases(YAML(typ="safe", pure=True).parse(text))
        values = YAML(typ=kind, pure=True).load(text)
        _check_numbers(values)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "not YAML").split("\n")[0]
        if problem.startswith("but ") and error.context:
            problem = f"{error.context} {problem}"
        raise BadYaml(problem, mark.line + 1 if mark else 1) from None
    except RecursionError:
        raise BadYaml(_TOO_DEEP) from None
    # not only YAMLError: ruamel passes on Python's errors, for example about an impossible date
    except (YAMLError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise BadYaml(f"not YAML: {error}".splitlines()[0]) from None
    return values


@lru_cache(maxsize=16)
def _load_safe(text: str) -> Any:
    """Return the values of a text; the same files are read again and again, such as old ``dvc.lock``."""
    return _load(text, "safe")


_TOO_DEEP = f"lists and maps nested more than {MAX_DEPTH} deep"


def _check_depth(text: str) -> None:
    """Reject deeply nested brackets, for which ruamel needs quadratic time.

    Brackets inside quotes count, too; no real file has a hundred unclosed ones.
    """
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise BadYaml(_TOO_DEEP, text.count("\n", 0, bracket.start()) + 1)
        depth = max(depth, 0)


def _check_aliases(events: Iterator[Event]) -> None:
    """Count the values that the text has without aliases, and never build them."""
    sizes: dict[str, int | None] = {}
    """Number of values of each anchor (``&name``); None until it is complete."""
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in events:
        if isinstance(event, MappingEndEvent | SequenceEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
            continue
        if not isinstance(event, NodeEvent):
            continue
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            size = sizes.get(event.anchor, 0)  # ruamel reports unknown anchors
            if size is None:
                raise BadYaml(f"*{event.anchor} refers to a value that contains itself", line)
            total += size
        elif isinstance(event, ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
            if event.anchor:
                sizes[event.anchor] = None
            if len(open_nodes) > MAX_DEPTH:
                raise BadYaml(_TOO_DEEP, line)
        if total > MAX_NODES:
            raise BadYaml(f"over {MAX_NODES:,} values where aliases are replaced", line)


def _check_numbers(value: Any, depth: int = 0) -> None:
    """Reject integers that are too large for Python to print."""
    if depth > MAX_DEPTH:
        raise BadYaml(_TOO_DEEP)
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise BadYaml(f"an integer of {value.bit_length():,} bits; the maximum is {MAX_BITS:,}")
    if isinstance(value, dict):
        for key, part in value.items():
            _check_numbers(key, depth + 1)
            _check_numbers(part, depth + 1)
    elif isinstance(value, list | tuple | set):
        for part in value:
            _check_numbers(part, depth + 1)

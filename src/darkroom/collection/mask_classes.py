"""The classes of masks: which value or colour of a mask's pixels means which class."""

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import Files
from darkroom.collection.names import is_blank, look_alike_key, quoted
from darkroom.collection.rows import Rows, read_rows
from darkroom.errors import UserError, did_you_mean, listed
from darkroom.void import VOID

Code = Literal["index", "colour", "file"]

MAX_CLASSES = VOID
"""Class indices are 0..254; 255 is void."""

MAX_TABLE_BYTES = 2**20
"""Maximum size of a table of classes."""

SEPARATOR = "|"
"""Separator of the classes that a mask shows, in the text of its label."""

_LAYOUTS: dict[tuple[str, ...], Code] = {
    ("index", "name"): "index",
    ("colour", "name"): "colour",
    ("color", "name"): "colour",
    ("r", "g", "b", "name"): "colour",
    ("red", "green", "blue", "name"): "colour",
    ("file", "layer", "name"): "file",
    ("file", "name"): "file",
}
"""The columns that a table of classes can have, in any order; others are ignored."""

_HEX_COLOUR = re.compile(r"#?([0-9a-fA-F]{6})")
_WHOLE = re.compile(r"[0-9]{1,3}")


class ClassFile(NamedTuple):
    """A file that each mask has for one class."""

    text: str
    """What its path says: the name of a folder, or the end of the file's name; empty: there is no file,
    since the class is that of the pixels that no file marks."""
    layer: int
    """0..255; where files overlap, the class of the highest layer counts."""


@dataclass(frozen=True)
class MaskClasses:
    """The classes of masks."""

    names: tuple[str, ...]
    """The classes, void excluded, in the order of their indices, or of the rows."""
    code: Code
    """Whether pixels have indices, as in grey and indexed PNG, or colours, or each class has a file."""
    values: dict[int, int]
    """The index in ``names``, or ``VOID``, of each value: 0..255, or a colour as 0xRRGGBB, or an index
    in ``files``."""
    table: str | None = None
    """The path of the table; None: there is none."""
    files: tuple[ClassFile, ...] = ()
    """The files of each mask, in the order of the rows, if each class has one."""

    def shown(self, counts: NDArray[np.int64]) -> str:
        """Return the classes that a mask shows as text, as ``labels.split_labels`` takes it.

        Args:
            counts: the pixels of each class, ``(num_classes,)``.
        """
        return SEPARATOR.join(self.names[code] for code in np.flatnonzero(counts).tolist())

    def describe(self, value: int) -> str:
        """Return a value as the table writes it."""
        if self.files:
            return self.files[value].text
        return f"#{value:06x}" if self.code == "colour" else str(value)


def binary_classes() -> MaskClasses:
    """Return the classes of masks without a table: 0 is background, 1 or 255 is the object."""
    values = {0: 0, 1: 1, 255: 1}
    return MaskClasses(("background", "object"), "index", values)


def load_mask_classes(files: Files, table: str | None, void: str) -> MaskClasses:
    """Return the classes of the masks in a collection.

    Args:
        table: path in ``files`` of a CSV; None: the masks are binary.
        void: as in ``read_mask_classes``.

    Raises:
        UserError: the table is not there, cannot be read, or is mistaken; see ``read_mask_classes``.
    """
    if table is None:
        return binary_classes()
    wanted = posixpath.normpath(table)
    if posixpath.splitext(wanted)[1].lower() not in (".csv", ".tsv", ".txt"):
        raise UserError(f"data.classes_file: the suffix of {table} is not one of .csv, .tsv, .txt")
    tables = []
    for entry in files.entries():
        if entry.path == wanted:
            break
        if entry.path.lower().endswith((".csv", ".tsv", ".txt")):
            tables.append(entry.path)
    else:
        hint = did_you_mean(table, tables)
        raise UserError(f"data.classes_file: {files.name} does not contain {table}{hint}")
    if entry.outcome:
        raise UserError(f"data.classes_file: {table} cannot be used: {entry.reason or entry.outcome}")
    if entry.size > MAX_TABLE_BYTES:
        raise UserError(
            f"data.classes_file: {table} has {entry.size:,} bytes; at most {MAX_TABLE_BYTES:,} are read"
        )
    try:
        content = files.read(entry.path, entry.offset, entry.size)
    except OSError as error:
        raise UserError(f"data.classes_file: {table} cannot be read ({error})") from None
    name = f"data.classes_file: {posixpath.join(files.name, table)}"
    return replace(read_mask_classes(name, content, void), table=wanted)


def read_mask_classes(name: str, content: bytes, void: str = "void") -> MaskClasses:
    """Read the table of classes, a CSV with a row per class.

    Its columns are ``index`` (0..255) and ``name``; or ``colour`` (``#rrggbb``) and ``name``; or ``r``,
    ``g``, ``b`` (0..255 each) and ``name``; or, if each class has a file of its own, ``file``, ``name``
    and optionally ``layer`` (0..255, 0 if there is no such column).

    Args:
        name: name of the file, for messages.
        content: its bytes.
        void: the name of the rows whose pixels are ignored, in any case; the table need not have one.

    Raises:
        UserError: the table is damaged or lacks columns, a value or name is missing, mistaken or
            repeated, or there are fewer than two classes or more than 255.
    """
    columns = _find_columns(name, content)
    code = _LAYOUTS[tuple(columns)]
    files: list[ClassFile] = []
    readers: dict[Code, Callable[[list[str]], int]] = {
        "index": _read_index,
        "colour": _read_colour,
        "file": partial(_read_file, files),
    }
    rows = read_rows(name, content, columns)
    given = _values_and_names(name, rows, readers[code], void.lower())
    if code == "index":
        given = dict(sorted(given.items()))
    names = tuple(known for known in given.values() if known.lower() != void.lower())
    if len(names) < 2:
        found = listed(names) if names else "none"
        raise UserError(f"{name}: at least two classes are needed besides {void}, but it has {found}")
    if len(names) > MAX_CLASSES:
        raise UserError(f"{name}: {len(names)} classes; at most {MAX_CLASSES} are possible")
    positions = {known: position for position, known in enumerate(names)}
    values = {value: positions.get(known, VOID) for value, known in given.items()}
    return MaskClasses(names, code, values, name, tuple(files))


def _find_columns(name: str, content: bytes) -> dict[str, str]:
    """Return the columns of one layout, by their names in lower case."""
    first = content[:4096].decode("utf-8-sig", errors="replace").partition("\n")[0]
    columns = [part.strip().strip('"') for part in re.split(r"[,;\t]", first)]
    header = {column.lower(): column for column in columns}
    for layout in _LAYOUTS:
        if all(column in header for column in layout):
            return {column: header[column] for column in layout}
    raise UserError(
        f"{name}: the columns are {listed(columns)}; needed are index and name, or colour"
        " (#rrggbb) and name, or r, g, b and name, or file and name"
    )


def _values_and_names(
    name: str, rows: Rows, read_value: Callable[[list[str]], int], void: str
) -> dict[int, str]:
    given: dict[int, str] = {}
    seen: dict[str, str] = {}
    for line, (*parts, class_name) in rows:
        where = f"{name}: line {line}"
        class_name = class_name.strip()
        if is_blank(class_name):
            raise UserError(f"{where}: the name is empty")
        if SEPARATOR in class_name:
            raise UserError(f"{where}: the name {quoted(class_name)} contains {SEPARATOR}; rename it")
        try:
            value = read_value([part.strip() for part in parts])
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        if value in given:
            raise UserError(f"{where}: {', '.join(parts)} is already {quoted(given[value])}")
        key = look_alike_key(class_name)
        if key in seen and class_name.lower() != void:
            raise UserError(
                f"{where}: {quoted(class_name)} is the same name as {quoted(seen[key])}, in a row above"
            )
        given[value], seen[key] = class_name, class_name
    return given


def _read_index(parts: list[str]) -> int:
    [text] = parts
    return _read_byte(text, "an index")


def _read_colour(parts: list[str]) -> int:
    if len(parts) == 3:
        red, green, blue = (_read_byte(part, "a level") for part in parts)
        return red << 16 | green << 8 | blue
    match = _HEX_COLOUR.fullmatch(parts[0])
    if match is None:
        raise ValueError(f"{quoted(parts[0])} is not a colour; write six hexadecimal digits, as #ff8000")
    return int(match[1], 16)


def _read_file(files: list[ClassFile], parts: list[str]) -> int:
    """Append a file to ``files`` and return its index."""
    text, layer = (*parts, "0")[:2]
    if "/" in text or "\\" in text:
        raise ValueError(f"{quoted(text)} is a path; write the name of one folder, or the end of a name")
    if any(text == file.text for file in files):
        raise ValueError(
            f"the file {quoted(text)} is in a row above"
            if text
            else "two rows without a file; the pixels that no file marks have one class"
        )
    files.append(ClassFile(text, _read_byte(layer, "a layer")))
    return len(files) - 1


def _read_byte(text: str, noun: str) -> int:
    if not _WHOLE.fullmatch(text) or int(text) > 255:
        raise ValueError(f"{quoted(text)} is not {noun}; it must be a whole number from 0 to 255")
    return int(text)

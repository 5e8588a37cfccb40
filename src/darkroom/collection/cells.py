"""Reads the cells of a manifest: labels, splits, weights and paths."""

import math
import posixpath
import re
from collections.abc import Callable
from typing import Any

from darkroom.collection.entries import SPLIT_NAMES, Split, split_called
from darkroom.collection.labels import join_labels

_NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DRIVE = re.compile(r"[A-Za-z]:/")


def cell_text(value: Any, role: str) -> str:
    """Return a value as text; raise ValueError if it is of another type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and role == "weight"):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"has the {role} {value!r}, a {type(value).__name__}; write it as text")
    if role == "path" and not value:
        raise ValueError("has no path")
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"has the {role} {value!r}, which is not valid Unicode") from None
    return value or ""


def cell_label(text: str, rename: Callable[[str], str]) -> str:
    """Return the class of a label, empty if there is none; raise ValueError if it is invisible."""
    try:
        return rename(text) if text.strip() else ""
    except ValueError as error:
        raise ValueError(f"has the label {text!r}, which {error}") from None


def cell_labels(value: Any, separator: str, rename: Callable[[str], str]) -> str:
    """Return a set of labels as text of ``join_labels``; raise ValueError if that is impossible."""
    if isinstance(value, list):
        labels = [cell_text(label, "label") for label in value]
    else:
        text = cell_text(value, "label").strip()
        labels = text.split(separator) if text else []
    labels = [cell_label(label, rename) for label in labels]
    try:
        return join_labels(labels, separator)
    except ValueError as error:
        raise ValueError(f"has the label {value!r}, {error}") from None


def cell_split(text: str) -> Split | None:
    """Return the split of a cell, None if it is empty; raise ValueError if it is unknown."""
    split = split_called(text)
    if split is None and text.strip():
        raise ValueError(f"has the split {text!r}; allowed are {', '.join(SPLIT_NAMES)}")
    return split


def cell_weight(text: str) -> float | None:
    """Return the weight of a cell, None if it is empty; raise ValueError if it is not positive."""
    if not text:
        return None
    weight = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < weight < math.inf:
        raise ValueError(f"has the weight {text!r}; it must be a number above 0, or empty for 1")
    return weight


def path_in_collection(folder: str, path: str, keep: frozenset[str]) -> str | None:
    """Return a listed path relative to the collection, or None if it leads out of ``folder``.

    Args:
        keep: paths of files whose names contain backslashes.
    """
    normal = posixpath.normpath(path)
    if "\\" in path and posixpath.join(folder, normal) not in keep:
        normal = posixpath.normpath(path.replace("\\", "/"))
        if _DRIVE.match(normal):
            return None
    if normal.startswith("/") or normal.split("/")[0] == "..":
        return None
    return posixpath.join(folder, normal)

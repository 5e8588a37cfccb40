"""Sentences on what changed: parameters, code and data."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from darkroom.errors import counted, listed
from darkroom.installed import ENDING
from darkroom.params import shown

CODE = "src/darkroom/"

NUM_NAMED = 3
"""Number of files or folders that a sentence names."""


def param_reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence per parameter that differs: ``train.lr 0.05 -> 0.02``."""
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            yield f"{name} is no longer a parameter of it"
        elif name not in old:
            yield f"{name} is new: {shown(new[name])}"
        elif old[name] != new[name]:
            yield f"{name} {shown(old[name])} -> {shown(new[name])}"


def code_reason(paths: list[str]) -> str:
    """Return a sentence on changed deps under src/ or stages/; folders are called rooms."""
    return f"code changed: {listed(map(_code_name, paths))}"


def data_reason(path: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> str:
    """Return a sentence on a changed file or folder.

    Args:
        old: the MD5 of each file by its path in the folder; None if ``path`` is a file, or if unknown.
        new: the same as it is now.
    """
    if old is None or new is None:
        return f"{path} changed"
    added, removed = new.keys() - old.keys(), old.keys() - new.keys()
    moved = _moved({name: new[name] for name in added}, {name: old[name] for name in removed})
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    parts = [
        f"{counted(len(names), 'file')} {verb} {_where(names)}"
        for verb, names in (
            ("added", added - moved.keys()),
            ("removed", removed - set(moved.values())),
            ("changed", changed),
        )
        if names
    ]
    if len(moved) == 1:
        parts += [f"1 file moved ({old_name} -> {name})" for name, old_name in moved.items()]
    elif moved:
        parts.append(f"{counted(len(moved), 'file')} moved to {_where(set(moved)).removeprefix('in ')}")
    return f"{path}: {', '.join(parts)}"


def _moved(added: Mapping[str, str], removed: Mapping[str, str]) -> dict[str, str]:
    """Return the earlier path of each added file that has the bytes of a removed one."""
    sources: dict[str, list[str]] = {}
    for name in sorted(removed, reverse=True):
        sources.setdefault(removed[name], []).append(name)
    return {name: sources[added[name]].pop() for name in sorted(added) if sources.get(added[name])}


def _where(names: set[str]) -> str:
    """Return the folders of files, those with most of them first; a single file is named itself."""
    if len(names) == 1:
        return f"({listed(names)})"
    folders = Counter(f"{PurePosixPath(name).parent}" for name in names)
    most = sorted(folders, key=lambda folder: (-folders[folder], folder))
    if most == ["."]:
        return f"({listed(sorted(names), NUM_NAMED)})"
    return f"in {listed(most, NUM_NAMED)}"


def _code_name(path: str) -> str:
    if path.endswith(ENDING):  # of a project made by `darkroom init`
        return "the installed darkroom"
    name = path.removeprefix(CODE)
    return name if name.endswith(".py") else f"{name}/"

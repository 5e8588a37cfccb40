"""Lists the images that names, folders, globs, addresses and lists stand for, one at a time."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from glob import has_magic
from heapq import merge
from pathlib import Path

from darkroom.collection.system_files import is_hidden
from darkroom.errors import UserError
from darkroom.prediction.remote import InputFile, RemoteFile, file_of


def list_images(patterns: Sequence[str]) -> Iterator[InputFile]:
    """Return an iterator of the files that names, folders, globs and addresses stand for, each once.

    Folders are searched recursively, without hidden and system files, in the order of names. Pipes,
    devices, broken links and folders that cannot be read are included, so that they can be reported. In
    memory are the names in one folder at a time, however many files there are.

    Raises:
        UserError: a name or glob matches nothing, or an address cannot be used.
    """
    names: dict[InputFile, int] = {}
    trees: list[tuple[int, _Tree]] = []
    for position, pattern in enumerate(patterns):
        path = file_of(pattern)
        if path.is_dir():
            trees.append((position, _Tree(path, ("**",))))
        elif path.exists() if isinstance(path, RemoteFile) else os.path.lexists(path):
            names.setdefault(path, position)
            continue
        else:
            trees.append((position, _Tree.of_glob(path)))
        if next(iter(trees[-1][1]), None) is None:
            raise UserError(f"{pattern}: no such file, folder with files, or glob with matches")
    return _each_once(names, trees)


def _each_once(names: dict[InputFile, int], trees: list[tuple[int, "_Tree"]]) -> Iterator[InputFile]:
    """Yield names and the files of trees by their positions, without those of an earlier position."""
    sources: list[tuple[int, Iterable[InputFile]]] = [(at, [name]) for name, at in names.items()]
    for position, paths in sorted([*sources, *trees], key=lambda source: source[0]):
        earlier = [tree for at, tree in trees if at < position]
        for path in paths:
            is_named = names.get(path, position) < position
            if not is_named and not any(path in tree for tree in earlier):
                yield path


def read_list(lines: Iterable[bytes]) -> Iterator[InputFile]:
    """Yield the path or address in each line that is not empty. What is listed twice is given twice."""
    for line in lines:
        if name := line.rstrip(b"\r\n"):
            yield file_of(os.fsdecode(name))


def _scan(folder: Path) -> tuple[list[str], dict[str, bool]]:
    """Return the names of the files in a folder, and of the folders with whether each is a link."""
    files: list[str] = []  # less memory than the entries
    folders: dict[str, bool] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                folders[entry.name] = entry.is_symlink()
            else:
                files.append(entry.name)
    return files, folders


@dataclass(frozen=True)
class _Tree:
    """The files below a folder whose path matches a pattern."""

    top: InputFile
    parts: tuple[str, ...]
    """A pattern per part of the path below ``top``; ``**`` stands for any number of parts.

    Only a part without wildcards matches a hidden file or folder, and ``**`` does not follow links to
    folders.
    """

    @classmethod
    def of_glob(cls, pattern: InputFile) -> "_Tree":
        parts = pattern.parts
        num_fixed = next((at for at, part in enumerate(parts) if has_magic(part)), len(parts))
        fixed, rest = parts[:num_fixed], parts[num_fixed:]
        if isinstance(pattern, RemoteFile):
            return cls(RemoteFile(pattern.scheme, "/".join(fixed)), rest)
        return cls(Path(*fixed), rest)

    def __iter__(self) -> Iterator[InputFile]:
        """Yield the files, those of a folder in the order of their names."""
        return self._below(self.top, self._start)

    def __contains__(self, path: InputFile) -> bool:
        try:
            *folders, name = path.relative_to(self.top).parts
        except ValueError:
            return False
        folder, reached = self.top, self._start
        for inner in folders:
            folder = folder / inner
            reached = self._after(reached, inner, folder.is_symlink())
        return bool(reached) and len(self.parts) in self._after(reached, name)

    @cached_property
    def _start(self) -> frozenset[int]:
        return self._with_none([0])

    def _below(self, folder: InputFile, reached: frozenset[int]) -> Iterator[InputFile]:
        try:
            files, folders = folder.scan() if isinstance(folder, RemoteFile) else _scan(folder)
        except OSError:
            if folder.is_dir():
                yield folder  # its error is reported in place of its files
            return
        for name, is_folder in merge(
            ((name, False) for name in sorted(files)), ((name, True) for name in sorted(folders))
        ):
            after = self._after(reached, name, is_folder and folders[name])
            if not is_folder:
                if len(self.parts) in after:
                    yield folder / name
            elif any(position < len(self.parts) for position in after):
                yield from self._below(folder / name, after)

    def _after(
        self, reached: frozenset[int], name: str, is_linked_folder: bool = False
    ) -> frozenset[int]:
        """Return the positions in ``parts`` that are reached after a further file or folder."""
        found = []
        hidden = is_hidden(name)
        for position in reached:
            part = self.parts[position] if position < len(self.parts) else ""
            if part == "**":
                found += [position] if not (hidden or is_linked_folder) else []
            elif name == part or (not hidden and fnmatchcase(name, part)):
                found.append(position + 1)
        return self._with_none(found)

    def _with_none(self, reached: Iterable[int]) -> frozenset[int]:
        """Return positions with those after a ``**`` that stands for nothing."""
        found = set()
        for start in reached:
            position = start
            found.add(position)
            while position < len(self.parts) and self.parts[position] == "**":
                position += 1
                found.add(position)
        return frozenset(found)

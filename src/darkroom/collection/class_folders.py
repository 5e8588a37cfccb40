"""Labels and splits from the names of folders: ``CLASS/**`` or ``{train,val,test}/CLASS/**``."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa

from darkroom.collection.entries import Entry, Files, Split, split_called
from darkroom.collection.entry_table import unpack
from darkroom.collection.folder import LINKED_FOLDER, FolderFiles, as_text
from darkroom.collection.names import Renaming, is_blank, quoted
from darkroom.collection.system_files import is_hidden
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.errors import UserError


def class_of(label: str, files: Files, rename: Renaming) -> str:
    """Return the class of a label.

    Raises:
        UserError: the label has no visible character.
    """
    if is_blank(label):
        raise UserError(
            f"data.path: {files.name} has a class whose name {quoted(label)} consists only of blanks"
            " or invisible characters; rename it"
        )
    return rename(label)


def label_by_folders(
    files: Files, found: pa.Table, class_name: str, rename: Renaming, troubles: Troubles
) -> Iterator[Entry]:
    """Yield entries with label and split taken from the folders that contain the file.

    Args:
        found: the entries of ``files``, without labels; see ``entry_table``.
        class_name: ``data.class_name``.
        troubles: gets empty class folders.

    Raises:
        UserError: a class folder has a blank name or is a link that leaves the collection, or split
            folders are mixed with other folders.
    """
    tops = {e.path.split("/")[0] for e in unpack(found) if "/" in e.path and e.outcome != "hidden"}
    tops -= {"", ".."}  # from archive members outside of the archive's root
    splits = _split_folders(files.name, sorted(tops | _subfolders(files, "")))
    empty = set()
    for parent in splits or [""]:
        empty |= _subfolders(files, parent)
    for entry in unpack(found):
        folders = entry.path.split("/")[:-1]
        split = splits.get(folders[0]) if folders else None
        classes = [name.strip() for name in (folders[1:] if split else folders)]
        if entry.reason == LINKED_FOLDER:
            _refuse_linked_folder(files, entry.path, splits)
        if entry.outcome == "hidden":
            yield entry
        elif entry.outcome and (not classes or folders[0] in ("", "..")):
            yield entry  # for example a link to a file elsewhere
        elif not classes:
            yield replace(entry, outcome="unlisted", reason="outside of the class folders")
        else:
            used = {"top": classes[:1], "leaf": classes[-1:], "path": classes}[class_name]
            for name in filter(is_blank, used):
                class_of(name, files, rename)
            label = rename("/".join(used))
            empty.discard("/".join(folders[: 2 if split else 1]))
            yield replace(entry, label=label, split=split)
    if empty:
        names = ", ".join(f"{files.name}/{name}" for name in sorted(empty))
        message = f"data.path: empty class folders: {names}; fill or remove them"
        troubles.add(Trouble("Empty class folders", message))


def _refuse_linked_folder(files: Files, path: str, splits: Mapping[str, Split]) -> None:
    """Refuse a link in place of a class or split folder, because all of its images would be missing."""
    parent, _, name = path.rpartition("/")
    if parent and parent not in splits:
        return  # inside a class folder
    kind = "split" if not parent and split_called(name) else "class"
    raise UserError(
        f"data.path: the {kind} folder {path} is a link that leads out of {files.name}, and DVC would"
        f" not notice changes there; copy the folder into {files.name}, or set data.path to a folder"
        " that contains both"
    )


def _subfolders(files: Files, parent: str) -> set[str]:
    """Return the folders in ``parent``, without links that leave; none in an archive."""
    if not isinstance(files, FolderFiles):
        return set()
    root = files.root.resolve()
    folders = (path for path in (files.root / parent).iterdir() if path.is_dir())
    inside = (path for path in folders if path.resolve().is_relative_to(root))
    paths = (as_text(path.relative_to(files.root).as_posix()) for path in inside)
    return {path for path in paths if not is_hidden(path)}


def _split_folders(name: str, tops: list[str]) -> dict[str, Split]:
    """Return the split of each split folder; empty if the top folders are classes."""
    splits = {top: split for top in tops if (split := split_called(top))}
    given = set(splits.values())
    if "train" not in given or (len(given) == 1 and len(tops) > 1):
        return {}  # a class may be called train
    if len(splits) < len(tops) or len(given) < len(splits):
        raise UserError(
            f"data.path: {name} contains {', '.join(tops)}; it must contain either one folder per class,"
            " or one folder for train and at most one each for val and test, with class folders inside"
        )
    return splits

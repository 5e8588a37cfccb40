"""The record ``darkroom.json`` of a project: digests of the files that ``darkroom init`` has written."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from darkroom.bounded_json import load_json
from darkroom.errors import UserError

RECORD = Path("darkroom.json")


@dataclass(frozen=True)
class Record:
    """What was written, and by which version."""

    name: str
    """The name of the project: that of its folder when it was made."""
    version: str
    """The version of darkroom that last wrote files."""
    files: Mapping[str, str]
    """The SHA-256 of each file as it was written, by path in the project."""

    @classmethod
    def of(cls, name: str, version: str, files: Mapping[str, str]) -> Self:
        """Return the record of written files, given as texts by path."""
        return cls(name, version, {path: text_sha256(text) for path, text in files.items()})

    @classmethod
    def load(cls, root: Path) -> Self:
        """Load the record of the project in ``root``.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = root / RECORD
        try:
            document = load_json(path)
            name, version = f"{document['project']}", f"{document['darkroom']}"
            files = dict(document["files"])
        except FileNotFoundError:
            raise UserError(
                f"{path}: the file does not exist; --upgrade needs a project made by `darkroom init`"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{path}: damaged; restore it from git, or copy the one of a new `darkroom init`"
            ) from None
        if bad := [file for file in files if not _is_inside(file)]:
            raise UserError(f"{path}: {bad[0]!r} is not a path in the project")
        return cls(name, version, files)

    def text(self) -> str:
        """Return the record as it is kept."""
        document = {
            "project": self.name,
            "darkroom": self.version,
            "files": dict(sorted(self.files.items())),
        }
        return json.dumps(document, indent=2) + "\n"


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts

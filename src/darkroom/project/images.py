"""Copies a folder of images into a new project; the originals are only read."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from darkroom.errors import UserError, counted

MAX_OPENED = 25
"""Number of images that are opened to see how large they are."""

COPIES = 2
"""Copies that a project has of its data: in the project, and in DVC's cache."""


@dataclass(frozen=True)
class Source:
    """Files to copy."""

    path: Path
    """A folder, or a tar archive."""
    files: dict[Path, int]
    """Size of each file in bytes, by path relative to the folder; of an archive, by an empty path."""

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    @property
    def target(self) -> Path:
        """The place in the project."""
        return Path("data/mine" if self.path.is_dir() else "data/mine.tar")

    def describe(self) -> str:
        return f"{counted(len(self.files), 'file')} ({_readable(self.num_bytes)})"


def find_images(path: Path, project: Path) -> Source:
    """Return the files in the folder or tar archive ``path``.

    Links are followed, and what they lead to is copied.

    Raises:
        UserError: there are no files, the project would be inside, or the disk has too little space.
    """
    if not path.exists():
        raise UserError(f"--images {path}: the folder does not exist")
    if project.resolve().is_relative_to(path.resolve()):
        raise UserError(f"--images {path}: the project {project} would be inside; choose another place")
    if path.is_dir():
        source = Source(path, dict(_walk(path, path, ())))
        if not source.files:
            raise UserError(f"--images {path}: the folder contains no files")
    elif path.suffix == ".tar":
        source = Source(path, {Path(): path.stat().st_size})
    else:
        raise UserError(f"--images {path}: choose a folder, or a .tar archive")
    needed, free = COPIES * source.num_bytes, shutil.disk_usage(_existing(project)).free
    if needed > free:
        raise UserError(
            f"--images {path}: {_readable(source.num_bytes)} are copied into the project and into DVC's "
            f"cache, which needs {_readable(needed)}, but only {_readable(free)} are free; use a larger "
            "disk, or make the project without --images"
        )
    return source


def copy_images(source: Source, project: Path, advance: Callable[[int], None]) -> None:
    """Copy the files into the project.

    Args:
        advance: called with the number of files copied since the last call.
    """
    for name in source.files:
        target = project / source.target / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / name, target)
        advance(1)


def median_side(source: Source) -> int | None:
    """Return the median of the shorter sides of a few images in pixels.

    None if none can be opened, or if the images have masks.
    """
    from PIL import Image

    if not source.path.is_dir() or any("masks" in name.parts for name in source.files):
        return None
    step = max(1, len(source.files) // MAX_OPENED)
    sides = []
    for name in list(source.files)[::step][:MAX_OPENED]:
        try:
            with Image.open(source.path / name) as image:
                sides.append(min(image.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # `prepare` says what is wrong with it
    return int(median(sides)) if sides else None


def _walk(folder: Path, top: Path, inside: tuple[Path, ...]) -> "list[tuple[Path, int]]":
    """Return path, relative to ``top``, and size of each file.

    Args:
        inside: the real paths of the folders around it, to notice a link that leads back.
    """
    here = folder.resolve()
    if here in inside:
        raise UserError(f"--images {top}: {folder} is a link to a folder that contains it; remove it")
    found: list[tuple[Path, int]] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_dir():
                found += _walk(path, top, (*inside, here))
            elif entry.is_file():
                found.append((path.relative_to(top), entry.stat().st_size))
            else:
                raise UserError(
                    f"--images {top}: {path} is neither a file nor a folder, or a broken link; remove it"
                )
    return found


def _existing(path: Path) -> Path:
    """Return the closest folder around ``path`` that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _readable(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:,.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"

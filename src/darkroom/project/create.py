"""Makes a new project: its files, its images, git and DVC."""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.errors import UserError, brief, counted, listed
from darkroom.installed import version
from darkroom.project.content import project_files, shipped_params
from darkroom.project.images import Source, copy_images, median_side
from darkroom.project.record import RECORD, Record
from darkroom.recipes import find_recipe, use_recipe, with_values
from darkroom.tracking.git import Repository

PHOTOGRAPHS = 64
"""Shorter side, in pixels, from which images are taken for photographs."""

ALLOWED = frozenset({".git", ".venv"})
"""What a folder may contain that becomes a project."""


@dataclass(frozen=True)
class Wish:
    """What a new project is to be."""

    folder: Path
    recipe: str | None
    """A name, or the path of a YAML file."""
    images: Source | None
    with_git: bool
    hosting: str | None
    """For which a workflow is written."""


def check_place(folder: Path, with_git: bool) -> None:
    """Check that a project can be made in ``folder``.

    Raises:
        UserError: it is a file, it has content, or git would not work there.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; name a new folder")
    if (folder / RECORD).is_file():
        raise UserError(f"{folder}: already a project; `darkroom init --upgrade {folder}` upgrades it")
    others = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others := [name for name in others if name not in ALLOWED]:
        raise UserError(f"{folder}: the folder is not empty ({listed(others, 3)}); name a new folder")
    if not with_git:
        return
    if shutil.which("git") is None:
        raise UserError("git is not installed; install it, or choose --no-git")
    around = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    repository = Repository.around(around)
    if repository is not None and not (folder / ".git").exists():
        raise UserError(
            f"{folder}: inside another git repository; choose a place outside of it, or --no-git"
        )


def create(wish: Wish, advance: Callable[[int], None]) -> list[str]:
    """Make a project; after a failure, nothing of it is left.

    Args:
        advance: called with the number of bytes of images copied since the last call.

    Returns:
        The paths of the files that were written, without images.

    Raises:
        UserError: the recipe is unknown or does not fit, or git or DVC fails.
    """
    folder = wish.folder
    params = _params(wish)
    name = folder.resolve().name
    files = project_files(name, wish.hosting)
    record = Record.of(name, version(), files)
    files |= {"params.yaml": params, RECORD.as_posix(): record.text()}
    is_new = not folder.exists()
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if wish.images is not None:
            copy_images(wish.images, folder, advance)
        _start_versions(wish)
    except BaseException:
        _remove(folder, is_new)
        raise
    return sorted(files)


def _params(wish: Wish) -> str:
    """Return the project's params.yaml."""
    with tempfile.TemporaryDirectory(prefix="darkroom-init-") as scratch:
        path = Path(scratch, "params.yaml")
        path.write_text(shipped_params(), encoding="utf-8")
        made_for: dict[str, Any] = {}
        if wish.recipe is not None:
            used = use_recipe(*find_recipe(wish.recipe), path)
            made_for = {name: value for name, _, value in used.made_for}
        values = (
            {"data.fetch": [], "data.path": wish.images.target.as_posix()} if wish.images else made_for
        )
        text = path.read_text(encoding="utf-8")
        return with_values(text, values) if values else text


def _start_versions(wish: Wish) -> None:
    """Begin a git repository and DVC's, and add the images to DVC."""
    folder = wish.folder
    if wish.with_git and not (folder / ".git").exists():
        _git(folder, "init", "--quiet")
    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo  # 0.4 s
    from scmrepo.exceptions import SCMError

    try:
        with (
            set_loggers_level(logging.WARNING),
            Repo.init(str(folder), no_scm=not wish.with_git) as repo,
        ):
            with repo.config.edit("repo") as config:
                config["core"]["analytics"] = False
            if wish.images is not None:
                repo.add(str(folder / wish.images.target))
    except (DvcException, SCMError) as error:
        raise UserError(f"{folder}: DVC failed: {brief(error)}") from None
    if wish.with_git:
        _git(folder, "add", "--all")


def _git(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{folder}: git {arguments[0]} failed: {brief(done.stderr)}")


def _remove(folder: Path, is_new: bool) -> None:
    if is_new:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.name in ALLOWED:
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def describe(wish: Wish, written: list[str]) -> list[str]:
    """Return lines on what was made, and what to do next."""
    lines = [f"{wish.folder}: {counted(len(written), 'file')} written, by darkroom {version()}"]
    if wish.images is not None:
        lines.append(
            f"{wish.images.describe()} copied from {wish.images.path} to {wish.images.target} and added "
            "to DVC; the originals are unchanged"
        )
        side = median_side(wish.images)
        if wish.recipe is None and side is not None and side >= PHOTOGRAPHS:
            lines.append(
                f"the images look like photographs (shorter side {side} pixels): `darkroom use"
                " finetune-small` starts from a network that was trained on other photographs, not from"
                " random weights"
            )
    return lines

"""What the installed darkroom holds for projects: files to begin with, and digests of its code.

A project made by ``darkroom init`` contains none of darkroom's code, on which DVC could depend. Instead
it has a file ``stages/STAGE.sha256`` per stage, with the digest of each file of the installed package
that the stage reaches. A stage refuses to run with other code.
"""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from darkroom.bounded_yaml import load_yaml, read_text
from darkroom.digests import file_sha256
from darkroom.errors import UserError, listed

PACKAGE = Path(__file__).parent

SHIPPED = PACKAGE / "shipped"
"""The files that a project begins with. In a clone, links to those of darkroom itself."""

RECIPES = SHIPPED / "recipes"

ENDING = ".sha256"
"""The end of the name of a file with the digests of a stage's code."""

_SOURCE = "src/darkroom/"


def version() -> str:
    """Return the version of the installed darkroom."""
    return version_of("darkroom")


@cache
def shipped_pipeline() -> dict[str, Any]:
    """Return darkroom's own dvc.yaml, whose deps name the code of each stage."""
    return dict(load_yaml(read_text(SHIPPED / "pipeline.yaml")))


def is_own_code(dep: str) -> bool:
    """Return whether a dep in darkroom's own dvc.yaml is a part of the package."""
    return dep.startswith(_SOURCE)


def recorded_code(stage: str) -> Path:
    """Return the file of a project that records the code of ``stage``, as dvc.yaml names it."""
    return Path("stages", f"{stage}{ENDING}")


def code_digests(stage: str) -> str:
    """Return the digest of each installed file that ``stage`` reaches, in the format of ``sha256sum``.

    Paths begin with ``darkroom/``. One of them is the script of the stage as darkroom has it.
    """
    return "".join(f"{digest}  darkroom/{path}\n" for path, digest in _installed(stage).items())


def other_code(stage: str) -> list[str]:
    """Return the installed files that differ from those recorded in the project in the working folder.

    Returns:
        Paths in the package; empty if nothing is recorded, as in a clone of darkroom.
    """
    try:
        text = recorded_code(stage).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    recorded = dict(_parsed(text))
    installed = _installed(stage)
    return sorted(path for path in {*recorded, *installed} if recorded.get(path) != installed.get(path))


def check_code(stage: str) -> None:
    """Compare the installed code of ``stage`` with the code that the project records.

    Raises:
        UserError: it differs, since another version of darkroom is installed.
    """
    if other := other_code(stage):
        raise UserError(
            f"{stage}: the code of the installed darkroom {version()} differs from that recorded in "
            f"{recorded_code(stage)} ({listed(other, 3)}); `darkroom init --upgrade` shows what changes "
            "and records it, `pip install -r requirements.txt` restores the recorded version"
        )


def installed_remark() -> str:
    """Return which stages have other code than the project records; an empty string if none has."""
    stages = [stage for stage in shipped_pipeline()["stages"] if other_code(stage)]
    if not stages:
        return ""
    return (
        f"the code of the installed darkroom {version()} differs from that recorded for "
        f"{listed(stages)}; `dvc repro` refuses to run these until `darkroom init --upgrade` records it"
    )


def _installed(stage: str) -> dict[str, str]:
    """Return the digests of the files that a stage reaches by path in the package, sorted."""
    files = {SHIPPED / "stages" / f"{stage}.py"}
    for dep in shipped_pipeline()["stages"][stage]["deps"]:
        if is_own_code(dep):
            files.update(_files(PACKAGE / dep.removeprefix(_SOURCE)))
    return {file.relative_to(PACKAGE).as_posix(): file_sha256(file) for file in sorted(files)}


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    yield from (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _parsed(text: str) -> Iterator[tuple[str, str]]:
    """Yield path in the package and digest of each line."""
    for line in text.splitlines():
        digest, _, path = line.partition("  ")
        yield path.removeprefix("darkroom/"), digest

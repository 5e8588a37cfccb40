"""The files of a project that ``darkroom init`` writes, as texts."""

import io
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from darkroom.ci.workflow import PLACES, SETUP_PROJECT, workflow
from darkroom.installed import (
    SHIPPED,
    code_digests,
    is_own_code,
    recorded_code,
    shipped_pipeline,
    version,
)
from darkroom.paths import OWN_FETCH, OWN_TRAIN

COPIED = {
    ".dvcignore": "dvcignore",
    ".gitignore": "gitignore",
    "models/weights/README.md": "weights.md",
    "own/README.md": "own.md",
    "profiles/smoke.yaml": "profiles/smoke.yaml",
}
"""Files of a project that are copies of shipped files."""

LOCK = "requirements.lock"

MAX_ON_A_LINE = 6
"""Maximum number of params of a stage on one line of dvc.yaml."""

_PIPELINE_COMMENT = """\
# fetch -> prepare -> train -> evaluate -> export
#
# stages/STAGE.sha256 records the code of darkroom that a stage runs. `darkroom init --upgrade` renews it
# for another version, and then the stages run again whose code has changed.
"""

_REQUIREMENTS = f"""\
# What this project needs. {LOCK} has the versions of darkroom and its packages that were installed
# when the project was made; `darkroom init --upgrade` renews it. Add packages of your own below.
-r {LOCK}
"""


def project_files(name: str, hosting: str | None) -> dict[str, str]:
    """Return the texts of a project's files by path, but for params.yaml, which keeps its values.

    Args:
        name: of the project, for its README.
        hosting: ``github`` or ``gitlab``, for which a workflow is written; None: none is.
    """
    stages = shipped_pipeline()["stages"]
    files = {"dvc.yaml": pipeline_text()}
    for stage in stages:
        files[f"stages/{stage}.py"] = _shipped(f"stages/{stage}.py")
        files[recorded_code(stage).as_posix()] = code_digests(stage)
    files |= {path: _shipped(source) for path, source in COPIED.items()}
    for folder in (OWN_FETCH, OWN_TRAIN):
        files[f"{folder}/.gitkeep"] = ""  # git keeps no empty folder, and a stage depends on this one
    files |= {"README.md": _readme(name), "requirements.txt": _REQUIREMENTS, LOCK: locked_packages()}
    if hosting is not None:
        files[PLACES[hosting].as_posix()] = workflow(hosting, setup=SETUP_PROJECT)
    return files


def shipped_params() -> str:
    """Return params.yaml as darkroom has it."""
    return _shipped("params.yaml")


def pipeline_text() -> str:
    """Return the dvc.yaml of a project: darkroom's own, with the recorded code in place of its code."""
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    document: CommentedMap = yaml.load(_shipped("pipeline.yaml"))
    for name, stage in document["stages"].items():
        deps = [dep for dep in stage["deps"] if not is_own_code(dep)]
        stage["deps"] = CommentedSeq([*deps, recorded_code(name).as_posix()])
        if len(stage["params"]) > MAX_ON_A_LINE:
            stage["params"].fa.set_block_style()
    text = io.StringIO()
    yaml.dump(document, text)
    body = text.getvalue()
    return _PIPELINE_COMMENT + body[body.index("stages:") :]


@cache
def locked_packages() -> str:
    """Return darkroom and every package that it can use here, with the installed versions.

    Packages of darkroom's extras are among them if they are installed.
    """
    found: dict[str, str] = {}
    optional = distribution("darkroom").metadata.get_all("Provides-Extra") or ()
    todo = [("darkroom", frozenset(optional))]
    seen = set(todo)
    while todo:
        name, extras = todo.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another platform, or of an extra
            continue
        found[name] = package.version
        for needed in map(Requirement, package.requires or ()):
            if needed.marker and not any(needed.marker.evaluate({"extra": e}) for e in ("", *extras)):
                continue
            further = canonicalize_name(needed.name), frozenset(needed.extras)
            if further not in seen:
                seen.add(further)
                todo.append(further)
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found))


def _readme(name: str) -> str:
    text = (Path(__file__).parent / "readme.md").read_text(encoding="utf-8")
    return text.replace("{name}", name).replace("{version}", version())


def _shipped(path: str) -> str:
    return (SHIPPED / path).read_text(encoding="utf-8")

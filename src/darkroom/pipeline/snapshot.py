"""Notices edits during a run: DVC hashes params and code only afterward, and would record the edited
version as the one that ran.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from darkroom.bounded_yaml import BadYaml, load_yaml, read_text
from darkroom.config.section import StageConfig
from darkroom.errors import UserError
from darkroom.installed import other_code
from darkroom.params import load_params
from darkroom.paths import PARAMS, PIPELINE


class EditedMeanwhile(Exception):
    """Params or code were edited while a stage ran."""


@dataclass(frozen=True)
class Snapshot:
    """What a stage depends on besides data: its params, and a digest of each file of its code."""

    config: StageConfig | None
    code: dict[Path, str]

    @classmethod
    def take(cls, stage: str, config: StageConfig | None) -> Self:
        """Return ``config`` with the digests of the code files that dvc.yaml lists for ``stage``."""
        files = [file for dep in code_deps(stage) for file in _files(dep)]
        return cls(config, {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})

    @property
    def digest(self) -> str:
        """A digest of params and code."""
        code = {str(path): digest for path, digest in sorted(self.code.items())}
        parts = [self.config.model_dump() if self.config else None, code]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def check(self, stage: str) -> None:
        """Compare the snapshot with the files as they are now.

        Raises:
            EditedMeanwhile: a file was edited; the message names it.
        """
        assert self.config is not None
        try:
            config = type(self.config).of(load_params(PARAMS))
        except UserError:
            config = None  # the edited file is not a valid params.yaml
        now = Snapshot.take(stage, config)
        edited = [] if now.config == self.config else [str(PARAMS)]
        paths = sorted({*self.code, *now.code})
        edited += [str(path) for path in paths if self.code.get(path) != now.code.get(path)]
        edited += other_code(stage)
        if edited:
            raise EditedMeanwhile(
                f"{', '.join(edited)} edited while {stage} ran: DVC would record the new version as "
                "the one that ran, so this result is not kept; run `dvc repro` again"
            )


def code_deps(stage: str) -> list[Path]:
    """Return the files and folders of code in a stage's ``deps`` in dvc.yaml.

    Raises:
        UserError: dvc.yaml is not YAML.
    """
    try:
        entry = load_yaml(read_text(PIPELINE))["stages"][stage]
    except BadYaml as error:
        place = f"{PIPELINE}:{error.line}" if error.line else f"{PIPELINE}"
        raise UserError(f"{place}: {error}") from None
    return [Path(dep) for dep in entry["deps"] if dep.startswith(("src/", "stages/", "own/"))]


def _files(dep: Path) -> list[Path]:
    """Return every file that DVC hashes for ``dep``; .dvcignore excludes ``__pycache__``."""
    if dep.is_file():
        return [dep]
    return sorted(file for file in dep.rglob("*") if file.is_file() and "__pycache__" not in file.parts)

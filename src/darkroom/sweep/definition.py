"""Read sweep.yaml and report all of its mistakes at once, in the words of params.yaml."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from darkroom.bounded_yaml import read_text
from darkroom.config.params import Params
from darkroom.config.section import Section
from darkroom.errors import UserError, did_you_mean
from darkroom.params import Mistake, allowed_values, line_of, parse, shown
from darkroom.sweep.dimensions import SHAPE, read_dimensions
from darkroom.sweep.space import MAX_GRID, Point, Space
from darkroom.tracking.secrets.redaction import redact

_PASSWORD = re.compile(r"^[^?]*//[^?]*:[^?]*@|[?&;](ssl)?passw(or)?d=", re.IGNORECASE)
"""In a URL: between the user and the host, or as an option."""


class Pruning(Section):
    """Successive halving."""

    min_epochs: int = Field(ge=1, le=10_000)
    factor: int = Field(3, ge=2, le=100)


class _File(Section):
    """The keys of sweep.yaml; ``read_dimensions`` reads ``space``."""

    name: str | None = Field(None, pattern="^[A-Za-z0-9_-]+$", examples=["letters, digits, - and _"])
    sampler: Literal["grid", "random", "tpe"] = "tpe"
    trials: Annotated[int, Field(ge=2, le=100_000)] | None = None
    seed: int = Field(0, ge=0, le=2**32 - 1)
    seeds: int = Field(1, ge=1, le=100)
    jobs: int = Field(1, ge=1, le=256)
    storage: Annotated[str, Field(pattern="^[a-z0-9+]+://", examples=["a database's URL"])] | None = None
    pruning: Pruning | None = Field(None, examples=["{min_epochs: 5, factor: 3}"])
    space: dict[str, Any] = Field(min_length=1, examples=[f"a map from parameters to {SHAPE}"])


@dataclass(frozen=True)
class Sweep:
    """What sweep.yaml asks for."""

    name: str
    sampler: Literal["grid", "random", "tpe"]
    num_trials: int
    """Including trial 0, which has the values of params.yaml."""
    seed: int
    """Of the sampler."""
    num_seeds: int
    """Number of trainings per trial."""
    jobs: int
    storage: str | None
    """URL of a database; None: a file of the sweep."""
    pruning: Pruning | None
    space: Space
    description: str
    """The space as JSON."""

    def overlay(self, index: int, point: Point) -> dict[str, Any]:
        """Return the values with which a trial differs from params.yaml; trial 0 has none."""
        return self.space.overlay(point) if index else {}

    @property
    def rungs(self) -> list[int]:
        """The numbers of epochs after which trials are compared; the last one is the whole training."""
        epochs = self.space.base.train.epochs
        found = [] if self.pruning is None else [self.pruning.min_epochs]
        while self.pruning is not None and found[-1] * self.pruning.factor < epochs:
            found.append(found[-1] * self.pruning.factor)
        return [*(rung for rung in found if rung < epochs), epochs]


def load_sweep(path: Path, base: Params) -> Sweep:
    """Return what a sweep.yaml asks for.

    Args:
        base: params.yaml.

    Raises:
        UserError: one line per mistake: ``FILE:LINE: NAME ...``, what is allowed, the closest name.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `darkroom sweep --example` prints one") from None
    return _Reader(path, text, base).read()


class _Reader:
    """Reads one file and collects its mistakes."""

    def __init__(self, path: Path, text: str, base: Params) -> None:
        self._path, self._text, self._base = path, text, base
        self._mistakes: list[Mistake] = []

    def read(self) -> Sweep:
        values = parse(self._path, self._text)
        if not isinstance(values, dict):
            raise UserError(f"{self._path}:1: expected {', '.join(_File.model_fields)}")
        try:
            file = _File.model_validate(values)
        except ValidationError as error:
            self._mistakes += _explained(error, values)
            self._raise()
        self._refuse(file)
        dimensions, mistakes = read_dimensions(file.space, self._base, file.sampler == "grid")
        self._mistakes += mistakes
        self._raise()
        space = Space(tuple(dimensions), self._base)
        self._check_together(space)
        self._raise()
        return Sweep(
            file.name or re.sub("[^A-Za-z0-9_-]", "_", self._path.stem),
            file.sampler,
            self._num_trials(file, space),
            file.seed,
            file.seeds,
            file.jobs,
            file.storage,
            file.pruning,
            space,
            json.dumps(file.space, sort_keys=True),
        )

    def _raise(self) -> None:
        if not self._mistakes:
            return
        marked = parse(self._path, self._text, "rt")
        lines = sorted((line_of(marked, location), problem) for location, problem in self._mistakes)
        raise UserError("\n".join(f"{self._path}:{line}: {problem}" for line, problem in lines))

    def _add(self, location: tuple[str | int, ...], problem: str) -> None:
        self._mistakes.append((location, problem))

    def _refuse(self, file: _File) -> None:
        """Note keys that do not go together."""
        if file.sampler == "grid" and file.trials is not None:
            self._add(("trials",), "trials: a grid is trained completely; leave trials out")
        if file.sampler != "grid" and file.trials is None:
            self._add(("sampler",), f"trials is missing: how many the sampler {file.sampler} draws")
        if file.storage is not None and file.pruning is not None:
            self._add(
                ("pruning",),
                "pruning: promoted trials resume from checkpoints on this machine, so it cannot be"
                " combined with storage, which several machines share",
            )
        if file.storage is not None and _PASSWORD.search(file.storage):
            self._add(
                ("storage",),
                "storage: the URL contains a password, which a file in git must not; leave it out, and"
                " set PGPASSWORD or ~/.pgpass",
            )
        epochs = self._base.train.epochs
        if file.pruning is not None and file.pruning.min_epochs >= epochs:
            self._add(
                ("pruning", "min_epochs"),
                f"pruning.min_epochs: {file.pruning.min_epochs} must be below train.epochs, {epochs}",
            )
        if file.pruning is not None and "train.epochs" in file.space:
            self._add(
                ("space", "train.epochs"),
                "train.epochs: pruning compares trials after equal numbers of epochs of equally long"
                " trainings; remove one of both",
            )

    def _check_together(self, space: Space) -> None:
        seen = set()
        for point, problem in space.mistakes():
            if problem in seen:
                continue
            seen.add(problem)
            given = ", ".join(f"{name} {shown(value)}" for name, value in point.items())
            self._add(
                ("space",),
                f"space: with {given}: {problem} (when: and otherwise: give a parameter a value that"
                " depends on another one)",
            )
            if len(seen) == 5:
                return

    def _num_trials(self, file: _File, space: Space) -> int:
        """Return the number of trials; trial 0 may be a point of the grid."""
        if file.sampler != "grid":
            assert file.trials is not None
            return file.trials
        grid = space.grid
        if len(grid) > MAX_GRID:
            self._add(("space",), f"space: the grid has more than {MAX_GRID:,} points; use sampler: tpe")
            self._raise()
        return len(grid) + (space.current not in grid)


def _explained(error: ValidationError, values: dict[str, Any]) -> Iterator[Mistake]:
    """Yield the mistakes in the keys of the file, one per value."""
    places: dict[tuple[int | str, ...], Any] = {}
    for one in error.errors():
        depth = 2 if one["loc"][0] == "pruning" and len(one["loc"]) > 1 else 1
        places.setdefault(one["loc"][:depth], one)
    for place, one in places.items():
        name = ".".join(map(str, place))
        fields = Pruning.model_fields if len(place) > 1 else _File.model_fields
        if one["type"] == "extra_forbidden":
            near = did_you_mean(f"{place[-1]}", fields)
            yield place, f"{name} is not a key of a sweep{near}; there are {', '.join(fields)}"
            continue
        model: type[Section] = Pruning if len(place) > 1 else _File
        schema = model.model_json_schema()["properties"].get(place[-1], {"type": "string"})
        allowed = allowed_values(schema)
        given = redact(shown(one["input"]))  # the URL of a database may have a password
        if one["type"] == "missing":
            yield place, f"{name} is missing; it must be {allowed}"
        else:
            yield place, f"{name}: {given} is not allowed; it must be {allowed}"

"""Read sweep.yaml and report all of its mistakes at once, in the words of params.yaml."""

import copy
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
from darkroom.errors import UserError, did_you_mean, listed
from darkroom.params import Mistake, allowed_values, check_each, flatten, line_of, parse, shown
from darkroom.sweep.space import MAX_GRID, Choices, Dimension, Point, Range, Space, label_of, value_of

REFUSED = {
    "seed": "a seed is not something to optimise: the best of several is the luckiest; `seeds: 3` trains"
    " each trial with three seeds and takes the mean",
    "num_threads": "it changes how results are rounded, not how good they are",
    "train.deterministic": "it takes effect before PyTorch is loaded; set it in params.yaml",
}
"""Parameters of no use in a space, and why."""

NOT_TRAINED = {
    "data": "changes the prepared images, which all trials share; prepare each, and sweep over each",
    "prepare": "changes the prepared images, which all trials share; prepare each, and sweep over each",
    "evaluate": "is not read by training, so all trials would be the same",
    "export": "is not read by training, so all trials would be the same",
}

RANGE = "{low: 0.001, high: 0.1, log: true}"
SHAPE = f"a range such as {RANGE}, or a list of choices"
KEYS = ("low", "high", "log", "step", "choices", "when", "otherwise")


class Pruning(Section):
    """Successive halving."""

    min_epochs: int = Field(ge=1, le=10_000)
    factor: int = Field(3, ge=2, le=100)


class _File(Section):
    """The keys of sweep.yaml; ``space`` is read by ``_Reader``."""

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
        dimensions = self._dimensions(file)
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
        if file.storage is not None and re.match("[^/]*//[^/@]*:[^/@]*@", file.storage):
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

    def _dimensions(self, file: _File) -> list[Dimension]:
        found: dict[str, Dimension] = {}
        for name, given in file.space.items():
            if problem := self._unfit(name):
                self._add(("space", name), problem)
                continue
            dimension = self._dimension(name, given, found, file.sampler == "grid")
            if dimension is not None:
                found[name] = dimension
        return list(found.values())

    def _unfit(self, name: str) -> str:
        """Return why a parameter cannot be in a space; empty if it can."""
        if name in flatten(self._base):
            section = name.partition(".")[0]
            reason = REFUSED.get(name) or NOT_TRAINED.get(section)
            return f"{name}: {reason}" if reason else ""
        if name in Params.model_fields:
            return f"{name} is a section; write the full names of parameters, such as {name}.NAME"
        sections = self._base.model_dump()
        section, _, key = name.rpartition(".")
        place = sections.get(section, sections) if section else sections
        if section and section not in sections:
            return f"{name} is not a parameter{did_you_mean(name, flatten(self._base))}"
        place[key] = None
        found = check_each(sections)
        return "" if isinstance(found, Params) else found[0][1]

    def _dimension(
        self, name: str, given: Any, above: dict[str, Dimension], is_grid: bool
    ) -> Dimension | None:
        """Return a dimension, or None if its mistakes were noted."""
        before = len(self._mistakes)
        keys = {"choices": given} if isinstance(given, list) else given
        place = ("space", name)
        if not isinstance(keys, dict):
            self._add(place, f"{name}: {shown(given)} is not {SHAPE}")
            return None
        for key in keys:
            if key not in KEYS:
                near = did_you_mean(f"{key}", KEYS)
                self._add(
                    (*place, key),
                    f"{name}: unknown key {listed([key])}{near}; allowed: {', '.join(KEYS)}",
                )
        is_range = {"low", "high"} <= keys.keys() and "choices" not in keys
        is_choice = "choices" in keys and not {"low", "high", "log", "step"} & keys.keys()
        if not is_range and not is_choice:
            self._add(place, f"{name}: expected either low and high, or choices: {SHAPE}")
        if len(self._mistakes) > before:
            return None
        values = self._range(name, keys, is_grid) if is_range else self._choices(name, keys["choices"])
        when = self._when(name, keys.get("when", {}), above)
        otherwise = value_of(self._base.model_dump(), name)
        if "otherwise" in keys:
            otherwise = self._checked(name, keys["otherwise"], (*place, "otherwise"))
            if not when:
                self._add((*place, "otherwise"), f"{name}: otherwise has no effect without when")
        if len(self._mistakes) > before or values is None:
            return None
        return Dimension(name, values, when, otherwise)

    def _checked(self, name: str, value: Any, place: tuple[str | int, ...]) -> Any:
        """Return a parameter's value as params.yaml holds it; note what is wrong with it."""
        sections = copy.deepcopy(self._base.model_dump())
        section, _, key = name.partition(".")
        sections[section][key] = value
        found = check_each(sections)
        if isinstance(found, Params):
            return value_of(found.model_dump(), name)
        self._mistakes += [(place, problem) for _, problem in found]
        return value

    def _choices(self, name: str, given: Any) -> Choices | None:
        place = ("space", name)
        if not isinstance(given, list) or not given:
            self._add(place, f"{name}: choices must be a list of values")
            return None
        where = (*place, "choices")
        values = [self._checked(name, value, (*where, index)) for index, value in enumerate(given)]
        labels = [label_of(value) for value in values]
        if len(set(labels)) < len(labels):
            self._add(place, f"{name}: a value is listed twice: {shown(given)}")
        return Choices(tuple(values))

    def _range(self, name: str, keys: dict[str, Any], is_grid: bool) -> Range | None:
        place = ("space", name)
        kind = _number(name)
        if kind is None:
            self._add(place, f"{name}: a range needs numbers; give a list of choices")
            return None
        before = len(self._mistakes)
        low, high = (self._checked(name, keys[end], (*place, end)) for end in ("low", "high"))
        if len(self._mistakes) > before:
            return None
        step, log = keys.get("step"), keys.get("log", False)
        for end, value in (("low", low), ("high", high)):
            if not isinstance(value, int | float) or isinstance(value, bool):
                self._add((*place, end), f"{name}: {end}: {shown(value)} is not a number")
        if not isinstance(log, bool):
            self._add(
                (*place, "log"), f"{name}: log: {shown(log)} is not allowed; it must be true or false"
            )
        is_number = isinstance(step, kind | int) and not isinstance(step, bool)
        if step is not None and (not is_number or step <= 0):
            number = "a whole number" if kind is int else "a number"
            self._add(
                (*place, "step"),
                f"{name}: step: {shown(step)} is not allowed; it must be {number} above 0",
            )
        if len(self._mistakes) > before:
            return None
        if low >= high:
            self._add((*place, "low"), f"{name}: low: {shown(low)} must be below high, {shown(high)}")
        elif log and low <= 0:
            self._add((*place, "low"), f"{name}: low: {shown(low)} must be above 0 when log is true")
        elif log and step is not None:
            self._add((*place, "step"), f"{name}: step and log exclude each other; remove one")
        elif step is not None and step > high - low:
            self._add((*place, "step"), f"{name}: step: {shown(step)} is more than high minus low")
        elif is_grid and (log or (step is None and kind is float)):
            self._add(place, f"{name}: a grid needs a step, or a list of choices")
        if len(self._mistakes) > before:
            return None
        if step is not None:
            high = low + step * int((high - low) / step + 1e-8)  # the last value that steps reach
        return Range(kind(low), kind(high), kind is int, step, log)

    def _when(self, name: str, given: Any, above: dict[str, Dimension]) -> dict[str, tuple[Any, ...]]:
        place = ("space", name, "when")
        if not isinstance(given, dict):
            self._add(place, f"{name}: when must be a map, such as {{train.optimizer: sgd}}")
            return {}
        found = {}
        for other, allowed in given.items():
            if other not in above:
                near = did_you_mean(f"{other}", above)
                self._add(
                    (*place, other),
                    f"{name}: when: {listed([other])} is not in the space above {name}{near}",
                )
                continue
            values = allowed if isinstance(allowed, list) else [allowed]
            found[other] = tuple(self._checked(other, value, (*place, other)) for value in values)
            known = above[other].values
            for value in found[other]:
                if (
                    isinstance(known, Choices)
                    and not known.contains(value)
                    and value != above[other].otherwise
                ):
                    self._add(
                        (*place, other), f"{name}: when: {other} is never {shown(value)} in this space"
                    )
        return found

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


def _number(name: str) -> type[int] | type[float] | None:
    """Return the type of a parameter that may be a number."""
    section, _, key = name.partition(".")
    annotation: Any = Params.model_fields[section].annotation
    schema = annotation.model_json_schema()["properties"][key]
    kinds = {schema.get("type"), *(part.get("type") for part in schema.get("anyOf", []))}
    return float if "number" in kinds else int if "integer" in kinds else None


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
        if one["type"] == "missing":
            yield place, f"{name} is missing; it must be {allowed}"
        else:
            yield place, f"{name}: {shown(one['input'])} is not allowed; it must be {allowed}"

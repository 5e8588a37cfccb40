"""The search space of a sweep: the values that parameters may take, and under which conditions."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom.config.params import Params
from darkroom.params import Mistake, check_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Point = dict[str, Any]
"""Values by full name of the parameters whose conditions hold."""

DIGITS = 4
"""Significant digits of values from a range without steps: more of them would be noise."""

MAX_CHECKED = 2_000
"""Number of combinations up to which all are checked before the first training."""

MAX_GRID = 100_000
"""Number of points of a grid from which it is refused."""


@dataclass(frozen=True)
class Choices:
    """A list of values, of any type that the parameter allows."""

    values: tuple[Any, ...]

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([label_of(value) for value in self.values])

    def suggest(self, trial: "Trial", name: str) -> Any:
        """Return a value that Optuna draws."""
        return self.from_optuna(trial.suggest_categorical(name, [*map(label_of, self.values)]))

    def to_optuna(self, value: Any) -> Any:
        return label_of(value)

    def from_optuna(self, value: Any) -> Any:
        return next(one for one in self.values if label_of(one) == value)

    def contains(self, value: Any) -> bool:
        return label_of(value) in map(label_of, self.values)

    def ends(self) -> tuple[Any, ...]:
        return self.values

    def steps(self) -> tuple[Any, ...]:
        """Return the values of a grid."""
        return self.values


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    is_whole: bool
    step: float | None = None
    log: bool = False

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def suggest(self, trial: "Trial", name: str) -> Any:
        """Return a value that Optuna draws, with at most ``DIGITS`` significant digits."""
        if self.is_whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(name, low, high, step=step, log=self.log)
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def to_optuna(self, value: Any) -> Any:
        return value

    def from_optuna(self, value: Any) -> Any:
        return int(value) if self.is_whole else value

    def contains(self, value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            return False
        return self.step is None or abs((value - self.low) / self.step % 1 - 0.5) > 0.5 - 1e-8

    def ends(self) -> tuple[Any, ...]:
        return self.low, self.high

    def steps(self) -> tuple[Any, ...]:
        """Return the values of a grid; a range of whole numbers has steps of 1 by default."""
        step = self.step or 1
        count = int((self.high - self.low) / step + 1e-8) + 1
        values = (self.low + number * step for number in range(count))
        return tuple(int(value) if self.is_whole else float(f"{value:.12g}") for value in values)


@dataclass(frozen=True)
class Dimension:
    """A parameter, its values, and when they apply."""

    name: str
    values: Choices | Range
    when: Mapping[str, tuple[Any, ...]]
    """The values of parameters above it with which it is searched; empty: always."""
    otherwise: Any
    """Its value if they have others."""

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return whether the conditions hold with the ``values`` of the parameters above."""
        return all(
            any(label_of(values[name]) == label_of(value) for value in allowed)
            for name, allowed in self.when.items()
        )


@dataclass(frozen=True)
class Space:
    """All dimensions, in an order in which each follows those of its conditions."""

    dimensions: tuple[Dimension, ...]
    base: Params
    """params.yaml, whose other values stay."""

    @cached_property
    def _sections(self) -> dict[str, Any]:
        return self.base.model_dump()

    def point(self, choose: Callable[[Dimension], Any]) -> Point:
        """Return the point whose values are chosen, dimension by dimension, where they apply."""
        found: Point = {}
        values: dict[str, Any] = {}
        for one in self.dimensions:
            if one.applies(values):
                found[one.name] = choose(one)
            values[one.name] = found.get(one.name, one.otherwise)
        return found

    def overlay(self, point: Point) -> dict[str, Any]:
        """Return the value of each parameter of the space, also where its conditions do not hold."""
        return {one.name: point.get(one.name, one.otherwise) for one in self.dimensions}

    @cached_property
    def current(self) -> Point:
        """The values of params.yaml that are in the space."""
        return {
            one.name: value
            for one in self.dimensions
            if one.values.contains(value := value_of(self._sections, one.name))
        }

    def has_all(self, point: Point) -> bool:
        """Return whether a point has a value for each dimension that applies."""
        values = self.overlay(point)
        return all(one.name in point for one in self.dimensions if one.applies(values))

    def params(self, overlay: Mapping[str, Any]) -> Params | list[Mistake]:
        """Return params.yaml with other values, or what is wrong with them."""
        sections = copy.deepcopy(self._sections)
        for name, value in overlay.items():
            section, _, key = name.partition(".")
            sections[section][key] = value
        return check_values(sections)

    def points(self, values_of: Callable[[Dimension], tuple[Any, ...]]) -> Iterator[Point]:
        """Yield every combination of values, where they apply."""

        def walk(rest: tuple[Dimension, ...], values: dict[str, Any], found: Point) -> Iterator[Point]:
            if not rest:
                yield found
                return
            first, *others = rest
            if not first.applies(values):
                yield from walk(tuple(others), {**values, first.name: first.otherwise}, found)
                return
            for value in values_of(first):
                yield from walk(
                    tuple(others), {**values, first.name: value}, {**found, first.name: value}
                )

        return walk(self.dimensions, {}, {})

    @cached_property
    def grid(self) -> list[Point]:
        """All points of the grid, at most ``MAX_GRID + 1`` of them."""
        return list(itertools.islice(self.points(lambda one: one.values.steps()), MAX_GRID + 1))

    def mistakes(self) -> list[tuple[Point, str]]:
        """Return combinations of values that do not go together, and what is wrong with each.

        Of ranges, the ends are checked. If there are too many combinations, some are drawn.
        """
        points = list(itertools.islice(self.points(lambda one: one.values.ends()), MAX_CHECKED + 1))
        if len(points) > MAX_CHECKED:
            random = np.random.Generator(np.random.Philox(0))

            def draw(one: Dimension) -> Any:
                ends = one.values.ends()
                return ends[random.integers(len(ends))]

            points = [self.point(draw) for _ in range(MAX_CHECKED)]
        found = ((point, self.params(self.overlay(point))) for point in points)
        return [
            (point, "; ".join(problem for _, problem in mistakes))
            for point, mistakes in found
            if not isinstance(mistakes, Params)
        ]


def value_of(sections: Mapping[str, Any], name: str) -> Any:
    """Return the value of a parameter in nested sections."""
    section, _, key = name.partition(".")
    return sections[section][key]


def label_of(value: Any) -> str:
    """Return a value as Optuna stores it, which lists and maps have to be text for."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)

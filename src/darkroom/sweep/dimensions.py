"""Read the dimensions of a sweep's space, and note all of their mistakes."""

import copy
from typing import Any

from darkroom.config.params import Params
from darkroom.errors import did_you_mean, listed
from darkroom.params import Mistake, check_each, flatten, shown
from darkroom.sweep.space import Choices, Dimension, Range, label_of, value_of

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


def read_dimensions(
    space: dict[str, Any], base: Params, is_grid: bool
) -> tuple[list[Dimension], list[Mistake]]:
    """Return the dimensions of a space without mistakes, and the mistakes of the others.

    Args:
        space: the values of the key ``space`` by names of parameters.
        base: params.yaml.
        is_grid: whether every value of a range is tried, so that it needs a step.
    """
    reader = _Dimensions(base, is_grid)
    return reader.read(space), reader.mistakes


class _Dimensions:
    """Reads dimensions and collects their mistakes."""

    def __init__(self, base: Params, is_grid: bool) -> None:
        self._base, self._is_grid = base, is_grid
        self.mistakes: list[Mistake] = []

    def _add(self, location: tuple[str | int, ...], problem: str) -> None:
        self.mistakes.append((location, problem))

    def read(self, space: dict[str, Any]) -> list[Dimension]:
        found: dict[str, Dimension] = {}
        for name, given in space.items():
            if problem := self._unfit(name):
                self._add(("space", name), problem)
                continue
            dimension = self._dimension(name, given, found)
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

    def _dimension(self, name: str, given: Any, above: dict[str, Dimension]) -> Dimension | None:
        """Return a dimension, or None if its mistakes were noted."""
        before = len(self.mistakes)
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
        if len(self.mistakes) > before:
            return None
        values = self._range(name, keys) if is_range else self._choices(name, keys["choices"])
        when = self._when(name, keys.get("when", {}), above)
        otherwise = value_of(self._base.model_dump(), name)
        if "otherwise" in keys:
            otherwise = self._checked(name, keys["otherwise"], (*place, "otherwise"))
            if not when:
                self._add((*place, "otherwise"), f"{name}: otherwise has no effect without when")
        if len(self.mistakes) > before or values is None:
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
        self.mistakes += [(place, problem) for _, problem in found]
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

    def _range(self, name: str, keys: dict[str, Any]) -> Range | None:
        place = ("space", name)
        kind = _number(name)
        if kind is None:
            self._add(place, f"{name}: a range needs numbers; give a list of choices")
            return None
        before = len(self.mistakes)
        low, high = (self._checked(name, keys[end], (*place, end)) for end in ("low", "high"))
        if len(self.mistakes) > before:
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
        if len(self.mistakes) > before:
            return None
        if low >= high:
            self._add((*place, "low"), f"{name}: low: {shown(low)} must be below high, {shown(high)}")
        elif log and low <= 0:
            self._add((*place, "low"), f"{name}: low: {shown(low)} must be above 0 when log is true")
        elif log and step is not None:
            self._add((*place, "step"), f"{name}: step and log exclude each other; remove one")
        elif step is not None and step > high - low:
            self._add((*place, "step"), f"{name}: step: {shown(step)} is more than high minus low")
        elif self._is_grid and (log or (step is None and kind is float)):
            self._add(place, f"{name}: a grid needs a step, or a list of choices")
        if len(self.mistakes) > before:
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


def _number(name: str) -> type[int] | type[float] | None:
    """Return the type of a parameter that may be a number."""
    section, _, key = name.partition(".")
    annotation: Any = Params.model_fields[section].annotation
    schema = annotation.model_json_schema()["properties"][key]
    kinds = {schema.get("type"), *(part.get("type") for part in schema.get("anyOf", []))}
    return float if "number" in kinds else int if "integer" in kinds else None

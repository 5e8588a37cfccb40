"""Read params.yaml as DVC does (YAML 1.2, ruamel) and report all of its mistakes at once."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from darkroom.bounded_yaml import BadYaml, load_yaml, read_text
from darkroom.config.params import Params
from darkroom.errors import UserError, closest, did_you_mean, listed

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
"""Pydantic's names of bounds in words."""

Mistake = tuple[tuple[str | int, ...], str]
"""Where a mistake is, as keys and indices, and what is wrong, with the parameter's full name."""


def load_params(path: Path) -> Params:
    """Return the checked values of a params.yaml.

    Raises:
        UserError: one line per mistake: ``FILE:LINE: NAME ...``, what is allowed, the closest name.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the command in the project's root folder") from None
    values = parse(path, text)
    if not isinstance(values, dict):
        raise UserError(f"{path}:1: expected sections ({', '.join(Params.model_fields)})")
    found = check_values(values)
    if isinstance(found, Params):
        return found
    marked = parse(path, text, "rt")  # slow: the same values, with their lines
    lines = sorted((line_of(marked, location), problem) for location, problem in found)
    raise UserError("\n".join(f"{path}:{line}: {problem}" for line, problem in lines))


def check_each(values: dict[str, Any]) -> Params | list[Mistake]:
    """Return the values of all sections, each checked by itself, or what is wrong with them."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        found = list(_one_per_value(error.errors()))
        return [(e["loc"], _explain(e, _key(values, e["loc"]))) for e in found]


def check_values(values: dict[str, Any]) -> Params | list[Mistake]:
    """Return the values of all sections, checked by themselves and together, or what is wrong."""
    params = check_each(values)
    if not isinstance(params, Params):
        return params
    combinations = _only_missing_network(list(params.mistaken_combinations()), params.model.name)
    if not combinations:
        return params
    return [(tuple(name.split(".")), f"{name}: {problem}") for name, problem in combinations]


def parse(path: Path, text: str, kind: Literal["safe", "rt"] = "safe") -> Any:
    """Return the values of a YAML file; ``rt``: with their lines, for ``line_of``.

    Raises:
        UserError: the text is not YAML.
    """
    try:
        return load_yaml(text, kind)
    except BadYaml as error:
        place = f"{path}:{error.line}" if error.line else f"{path}"
        raise UserError(f"{place}: {error}") from None


def flatten(section: BaseModel) -> dict[str, Any]:
    """Return ``{"train.lr": 0.1, ...}`` in the order of the fields.

    The value of a parameter may itself be a dict, for example that of ``train.lr_factors``.
    """

    def walk(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in section.model_dump().items():
            part = getattr(section, name)
            if isinstance(part, BaseModel):
                yield from walk(part, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(walk(section, ""))


@cache
def parameters() -> tuple[tuple[str, str, str], ...]:
    """Return ``(full name, allowed values, description)`` of every parameter."""
    root = Params.model_json_schema()

    def walk(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
        for name, field in schema["properties"].items():
            if "$ref" in field:
                yield from walk(root["$defs"][field["$ref"].split("/")[-1]], f"{prefix}{name}.")
            else:
                yield prefix + name, allowed_values(field), field["description"]

    return tuple(walk(root, ""))


def _one_per_value(errors: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Yield the most helpful error for each value.

    A union reports an error for each of its members; the one deepest in the value is the most specific.
    A misspelled name is reported as unknown and as missing; only the former is yielded.
    """
    misspelled = {
        _closest_name(_name(e["loc"]))
        for e in errors
        if e["type"] == "extra_forbidden" and not _is_within(e)
    }
    by_place: dict[tuple[str, int | None], list[ErrorDetails]] = {}
    for error in errors:
        name = _name(error["loc"])
        index = error["loc"][2] if len(error["loc"]) > 2 else None
        if error["type"] != "missing" or name not in misspelled:
            by_place.setdefault((name, index if isinstance(index, int) else None), []).append(error)
    for of_place in by_place.values():
        yield max(of_place, key=lambda error: len(error["loc"]))


def _closest_name(name: str) -> str:
    """Return the full name that ``name`` most likely means, or an empty string."""
    section, _, last = name.rpartition(".")
    known = [full for full, _, _ in parameters()]
    siblings = [n for n in (*known, *Params.model_fields) if n.rpartition(".")[0] == section]
    near = closest(last, [n.rpartition(".")[2] for n in siblings])
    if near:
        return f"{section}.{near}" if section else near
    elsewhere = [full for full in known if full.rpartition(".")[2] == last]
    return elsewhere[0] if elsewhere else ""


def _explain(error: ErrorDetails, key: str) -> str:
    """Return an error in words.

    Args:
        key: the key within the parameter's value that the error is about, or an empty string.
    """
    name = _name(error["loc"])
    known = {full: (allowed, description) for full, allowed, description in parameters()}
    if error["type"] in ("extra_forbidden", "invalid_key") and not _is_within(error):
        near = _closest_name(name)
        return f"{name} is not a parameter{near and f'; did you mean {near}?'}"
    if name in known:
        allowed, description = known[name]
    else:
        allowed, description = f"a section with {_members(name, known)}", ""
    if error["type"] == "missing" and not _is_within(error):
        return f"{name} is missing{description and f': {description}'}; it must be {allowed}"
    if key and error["type"] == "missing":
        return f"{name}: {shown(error['input'])} lacks the key {key}; it must be {allowed}"
    if key and error["type"] == "extra_forbidden":
        return f"{name}: unknown key {listed([key])}; it must be {allowed}"
    if key and (bound := _bound(error)):
        at_fault = f"{listed([key])}: {shown(error['input'])}"
        return f"{name}: {at_fault} is not allowed; it must be {bound}, in {allowed}"
    if error["loc"][-1] == "[key]":
        key = shown(error["input"])
        return f"{name}: the key {key} is not text; write '{key}', as in {allowed}"
    near = did_you_mean(error["input"], _choices(error)) if isinstance(error["input"], str) else ""
    return f"{name}: {shown(error['input'])} is not allowed; it must be {allowed}{near}"


def _only_missing_network(mistakes: list[tuple[str, str]], model: str) -> list[tuple[str, str]]:
    """Return the mistakes; of a network that its library lacks, only that.

    Importing the library takes seconds, so this is done only if ``model`` has a mistake.
    """
    library, _, name = model.partition(":")
    others = [mistake for mistake in mistakes if not mistake[0].startswith("model.")]
    if library not in ("torchvision", "timm") or len(others) == len(mistakes):
        return mistakes
    try:
        if library == "torchvision":
            from torchvision import models

            known = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
        else:
            import timm

            known = timm.list_models()
    except ImportError:
        return mistakes
    name = name.partition(".")[0]  # the rest names timm's weights
    if name in known:
        return mistakes
    near = did_you_mean(name, known) or "."
    problem = f"{library} has no model {name}{near}"
    return [("model.name", f"{problem} `darkroom models '{library}:*'` lists them"), *others]


def _key(values: Any, location: tuple[str | int, ...]) -> str:
    """Return the key within a parameter's value that an error is about, or an empty string."""
    key = ""
    for depth, part in enumerate(location):
        is_there = isinstance(values, dict) and part in values
        if is_there or (isinstance(values, list) and isinstance(part, int)):
            values = values[part]
        elif depth < len(location) - 1 or not isinstance(values, dict):
            continue  # a member of a union
        if depth > 1 and isinstance(part, str):
            key = part
    return key


def _bound(error: ErrorDetails) -> str:
    """Return the bound that a number violates in words, or an empty string."""
    context = error.get("ctx", {})
    return next((f"{word} {context[key]:,g}" for key, word in _BOUNDS.items() if key in context), "")


def _choices(error: ErrorDetails) -> list[str]:
    """Return the names that were allowed, if the value had to be a name."""
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return re.findall("'([^']*)'", context["expected"])
    if error["type"] == "string_pattern_mismatch":
        return allowed_values({"type": "string", "pattern": context["pattern"]}).split(" or ")
    return []


def _is_within(error: ErrorDetails) -> bool:
    """Whether the mistake is inside the value of a parameter, for example in an entry of a list."""
    return len(error["loc"]) > len(_name(error["loc"]).split("."))


def _members(section: str, known: dict[str, Any]) -> str:
    return ", ".join(n.removeprefix(f"{section}.") for n in known if n.startswith(f"{section}."))


def _name(location: tuple[str | int, ...]) -> str:
    """Return the full name in a location, without list indices and members of unions."""
    depth = 2 if len(location) > 1 and isinstance(location[1], str) else 1
    first = Params.model_fields.get(str(location[0]))
    if first is None or not isinstance(first.annotation, type):
        return str(location[0])
    if not issubclass(first.annotation, BaseModel):
        depth = 1
    return ".".join(str(part) for part in location[:depth])


def shown(value: Any) -> str:
    """Return a value as in YAML, shortened to 80 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str | dict | list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def line_of(marked: CommentedMap, location: tuple[str | int, ...]) -> int:
    """Return the line, from 1, of the deepest existing key on the way to ``location``."""
    line, node = 1, marked
    for part in location:
        if isinstance(node, CommentedMap) and part in node:
            if part in (node.lc.data or {}):  # a key merged in with `<<` has no line here
                line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        else:
            break
        node = node[part]
    return line


def allowed_values(schema: dict[str, Any]) -> str:
    """Return a field's JSON schema in words."""
    if "examples" in schema:
        return schema["examples"][0]
    if "anyOf" in schema:
        return " or ".join(allowed_values(choice) for choice in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(str(choice) for choice in schema["enum"])
    if schema["type"] == "array":
        return f"a list with any of {allowed_values(schema['items']).removeprefix('one of ')}"
    if schema["type"] in ("integer", "number"):
        bounds = []
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        ):
            if key in schema:
                bounds.append(f"{word} {schema[key]:,.10g}")
        number = "a whole number" if schema["type"] == "integer" else "a number"
        return " ".join([number, " and ".join(bounds)]).strip()
    if "pattern" in schema:
        return (
            schema["pattern"]
            .strip("^$()")
            .replace("|", " or ")
            .replace("[A-Za-z0-9_]+", "NAME")
            .replace("[A-Za-z0-9_.]+", "NAME")
            .replace("[A-Za-z0-9_.-]+", "ARCHITECTURE.ENCODER")
            .replace("\\.", ".")
        )
    if schema.get("minLength"):
        return "text that is not empty"
    return {"boolean": "true or false", "null": "null", "string": "text"}[schema["type"]]

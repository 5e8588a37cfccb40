"""Recipes: overlays of params.yaml, each a YAML file whose first comment describes it."""

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from darkroom.bounded_yaml import BadYaml, load_yaml, read_text
from darkroom.errors import UserError, did_you_mean
from darkroom.installed import RECIPES
from darkroom.params import flatten, load_params, parameters

MADE_FOR = "made_for"
"""The section of a recipe that names the decisions about the data it was made with; never applied."""

_DATA_DECISIONS = frozenset(
    f"prepare.{name}"
    for name in (
        "tiff",
        "on_bad_image",
        "split",
        "val_fraction",
        "test_fraction",
        "fold",
        "duplicates",
        "near_duplicates",
        "on_conflict",
    )
)


@dataclass(frozen=True)
class Used:
    """What ``use_recipe`` did, as ``(full name, value before or in params.yaml, other value)``."""

    changes: list[tuple[str, Any, Any]]
    """Parameters that have changed: the previous value, and the new one."""
    made_for: list[tuple[str, Any, Any]]
    """Decisions about the data that differ: the value in params.yaml, which stays, and the recipe's."""


def is_data_decision(name: str) -> bool:
    """Return whether a parameter is a decision about the data, which no recipe may change.

    These are the location of the data, its labels, the selection of files, and the splits.
    """
    return name.startswith("data.") or name in _DATA_DECISIONS


def list_recipes(folder: Path) -> dict[str, str]:
    """Return the description of each recipe in ``folder``, from the file's first lines, by name."""
    return {path.stem: _about(path) for path in sorted(folder.glob("*.yaml"))}


def find_recipe(given: str) -> tuple[str, Path]:
    """Return name and folder of a recipe, given by name or as the path of a YAML file.

    Raises:
        UserError: there is no such file. A name is checked by ``use_recipe``.
    """
    path = Path(given)
    if path.suffix != ".yaml":
        return given, RECIPES
    if not path.is_file():
        raise UserError(f"{given}: the file does not exist")
    return path.stem, path.parent


def use_recipe(name: str, folder: Path, params: Path) -> Used:
    """Write a recipe's values into ``params``; comments and all other values stay.

    Raises:
        UserError: there is no such recipe, it names an unknown parameter, it would change a decision
            about the data, or the result is invalid. ``params`` is then unchanged.
    """
    recipes = list_recipes(folder)
    if name not in recipes:
        near = did_you_mean(name, recipes) or "."
        known = f"There are: {', '.join(recipes)}" if recipes else f"There are none in {folder}"
        raise UserError(f"{name} is not a recipe{near} {known}")
    path = folder / f"{name}.yaml"
    sections = _read(path)
    made_for = dict(sections.pop(MADE_FOR, None) or {})
    overlay = dict(_values(path, sections))
    for full_name in made_for:
        if not is_data_decision(_known(path, full_name)):
            raise UserError(
                f"{path}: {MADE_FOR} names {full_name}, which is not a decision about the data; set it"
                " in its section"
            )
    for full_name in overlay:
        if is_data_decision(full_name):
            raise UserError(
                f"{path}: {full_name} is a decision about the data, which a recipe must not set; name it"
                f" under {MADE_FOR}, so that `darkroom use` shows it"
            )
    before = flatten(load_params(params))
    written = params.with_name(f".{params.name}.{os.getpid()}")
    try:
        written.write_text(with_values(params.read_text(encoding="utf-8"), overlay), encoding="utf-8")
        try:
            now = flatten(load_params(written))
        except UserError as error:
            raise UserError(f"{path} does not fit {params}:\n{error}") from None
        written.replace(params)
    finally:
        written.unlink(missing_ok=True)
    return Used(
        [(name, before[name], now[name]) for name in before if before[name] != now[name]],
        [(name, now[name], made_for[name]) for name in made_for if now[name] != made_for[name]],
    )


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """Return a params.yaml with other values of some parameters; comments and other values stay.

    Args:
        text: a valid params.yaml.
        values: by full name.
    """
    yaml = round_trip()
    document = yaml.load(text)
    for full_name, value in values.items():
        section, _, key = full_name.rpartition(".")
        entries = document[section] if section else document
        entries[key] = _on_one_line(value, entries[key])
    return dumped(yaml, document)


def dumped(yaml: YAML, document: CommentedMap) -> str:
    """Return a document as text."""
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def _on_one_line(value: Any, before: Any = None) -> Any:
    """Return a list or map that ruamel writes on one line, with the comment of the previous value."""
    line: Any = value
    if isinstance(value, dict):
        line = CommentedMap({key: _on_one_line(entry) for key, entry in value.items()})
    elif isinstance(value, list):
        line = CommentedSeq([_on_one_line(entry) for entry in value])
    if line is not value:
        line.fa.set_flow_style()
        if isinstance(before, CommentedMap | CommentedSeq):
            line.ca.comment = before.ca.comment
    return line


def round_trip() -> YAML:
    """Return a YAML reader and writer that keeps comments."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # never wrap lines
    # ruamel would write an empty value
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _read(path: Path) -> dict[str, Any]:
    """Return the sections of a recipe."""
    try:
        sections = load_yaml(read_text(path))
    except BadYaml as error:
        place = f"{path}:{error.line}" if error.line else f"{path}"
        raise UserError(f"{place}: {error}") from None
    if not isinstance(sections, dict):
        raise UserError(f"{path}: expected sections, as in params.yaml")
    return sections


def _values(path: Path, sections: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield ``(full name, value)`` of a recipe."""
    known = [name for name, _, _ in parameters()]
    for section, values in sections.items():
        # a parameter may have a map as its value
        entries = {section: values} if section in known else _prefixed(section, values)
        for name, value in entries.items():
            yield _known(path, name), value


def _known(path: Path, name: str) -> str:
    """Return ``name`` if it is a parameter.

    Raises:
        UserError: it is not.
    """
    known = [name for name, _, _ in parameters()]
    if name not in known:
        raise UserError(f"{path}: {name} is not a parameter{did_you_mean(name, known)}")
    return name


def _prefixed(section: str, values: Any) -> dict[str, Any]:
    if values is not None and not isinstance(values, dict):
        return {section: values}  # not a parameter, and rejected as such
    return {f"{section}.{key}": value for key, value in values.items()} if values else {}


def _about(path: Path) -> str:
    """Return the comment at the top of a file, without the number signs."""
    lines = []
    for line in read_text(path).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)

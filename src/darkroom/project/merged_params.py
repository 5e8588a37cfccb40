"""Brings a project's params.yaml to the parameters of the installed darkroom; its values stay."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml.comments import CommentedMap

from darkroom.bounded_yaml import BadYaml, load_yaml
from darkroom.errors import UserError
from darkroom.params import shown
from darkroom.project.content import shipped_params
from darkroom.recipes import dumped, round_trip


@dataclass(frozen=True)
class Merged:
    """A params.yaml with the parameters of the installed darkroom."""

    text: str
    remarks: list[str]
    """One line per parameter that was added or removed."""


def merge_params(text: str) -> Merged:
    """Return a params.yaml with the new parameters, and without those that no longer exist.

    New ones have their default and its comment. If nothing is new, the text stays as it is.

    Raises:
        UserError: the text is not YAML with sections.
    """
    yaml = round_trip()
    shipped = yaml.load(shipped_params())
    try:
        load_yaml(text)  # within bounds
    except BadYaml as error:
        raise UserError(f"params.yaml:{error.line or 1}: {error}") from None
    document = yaml.load(text)
    if not isinstance(document, CommentedMap):
        raise UserError("params.yaml: expected sections, as in a new project")
    remarks = list(_merge(document, shipped, ""))
    return Merged(dumped(yaml, document) if remarks else text, remarks)


def _merge(document: CommentedMap, shipped: CommentedMap, prefix: str) -> Iterator[str]:
    for key in [key for key in document if key not in shipped]:
        yield f"{prefix}{key} is no longer a parameter; it was {shown(_plain(document.pop(key)))}"
    for position, (key, value) in enumerate(shipped.items()):
        is_section = not prefix and isinstance(value, CommentedMap)
        if key not in document:
            document.insert(position, key, value)
            if key in shipped.ca.items:
                document.ca.items[key] = shipped.ca.items[key]
            yield f"{prefix}{key} is new: {'a section' if is_section else shown(_plain(value))}"
        elif is_section and isinstance(document[key], CommentedMap):
            yield from _merge(document[key], value, f"{key}.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value

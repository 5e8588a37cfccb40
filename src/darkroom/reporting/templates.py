"""Loads the templates that lie beside the modules that fill them."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from darkroom.escape import for_line, for_markdown

BLANK = "–"  # noqa: RUF001


def load_template(name: str, autoescape: bool) -> Template:
    """Returns the template ``name``; one that asks for a value it is not given raises an error.

    Args:
        autoescape: whether values are escaped for HTML.
    """
    environment = Environment(
        loader=PackageLoader("darkroom.reporting", package_path=""),
        autoescape=autoescape,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["cell"] = for_markdown
    environment.filters["line"] = for_line
    environment.filters["score"] = number
    return environment.get_template(name)


def number(value: float | None, digits: int = 4) -> str:
    """Return a score as text; a dash if it could not be measured."""
    return BLANK if value is None else f"{value:.{digits}f}"

"""Load Jinja templates, which are next to the modules that render them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from darkroom.escape import for_line, for_markdown

BLANK = "–"  # noqa: RUF001


def load_template(file: Path, autoescape: bool) -> Template:
    """Return the template in ``file``; rendering it raises an error if a value is missing.

    Args:
        file: the template, which may extend or import the templates of this folder.
        autoescape: whether values are escaped for HTML.
    """
    environment = Environment(
        loader=FileSystemLoader([file.parent, Path(__file__).parent]),
        autoescape=autoescape,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["cell"] = for_markdown
    environment.filters["line"] = for_line
    environment.filters["score"] = number
    return environment.get_template(file.name)


def number(value: float | None, digits: int = 4) -> str:
    """Return a score as text, or a dash if it was not measured."""
    return BLANK if value is None else f"{value:.{digits}f}"

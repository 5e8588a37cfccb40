"""Loads the templates that lie beside the modules that fill them."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


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
    environment.filters["cell"] = _cell
    return environment.get_template(name)


def _cell(value: object) -> str:
    """Makes text fit into one cell of a Markdown table."""
    return " ".join(str(value).splitlines()).replace("|", "\\|")

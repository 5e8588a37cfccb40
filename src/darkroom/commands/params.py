"""darkroom params: checks params.yaml and lists every parameter."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--file", default="params.yaml", type=click.Path(path_type=Path), help="The file of parameters."
)
@click.option("--check", is_flag=True, help="Only check, print nothing if it is valid.")
def params(file: Path, check: bool) -> None:
    """Check params.yaml and list every parameter: value, allowed values, meaning."""
    from darkroom.params import flatten, load_params, parameters

    values = flatten(load_params(file))
    if check:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from darkroom.terminal import make_console

    table = Table("parameter", "value", "allowed", "meaning", box=SIMPLE_HEAD, leading=1)
    for name, allowed, description in parameters():
        value = values[name]
        table.add_row(name, "null" if value is None else str(value), allowed, description)
    make_console().print(table)

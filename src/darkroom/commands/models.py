"""darkroom models: lists the values of model.name."""

import click

from darkroom.errors import UserError


@click.command()
@click.argument("pattern", required=False)
def models(pattern: str | None) -> None:
    """List the values of model.name: parameters, multiply-adds per image, usual input size.

    PATTERN is a part of the name or a glob, for example 'timm:*vit*'. Without PATTERN, timm's models are
    only counted.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from darkroom.models.catalogue import NUM_CLASSES, has_timm, list_models, matching_names, num_timm
    from darkroom.progress import progress_bar
    from darkroom.terminal import make_console

    names = matching_names(pattern)
    if not names:
        where = "" if has_timm() else "; timm is not installed: pip install 'darkroom[timm]'"
        raise UserError(f"no model matches {pattern}; `darkroom models` lists them{where}")
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model.name", overflow="fold")
    for heading in ("pixels", "parameters", "million multiply-adds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    with progress_bar("models", len(names), "models") as bar:
        for model in list_models(names):
            millions = f"{model.num_multiply_adds / 1e6:,.1f}"
            parameters = f"{model.num_parameters:,}"
            table.add_row(model.name, f"{model.side}", parameters, millions, model.sizes)
            bar.advance(1)
    make_console().print(table)
    click.echo(
        f"{len(names)} model{'s' * (len(names) > 1)}, for RGB images; darkroom's own with "
        f"{NUM_CLASSES['own']} classes, those of libraries with {NUM_CLASSES['library']:,}"
    )
    if pattern is None:
        about = (
            f"{num_timm():,} more, `darkroom models 'timm:*'` lists them"
            if has_timm()
            else ("about a thousand more after pip install 'darkroom[timm]'")
        )
        click.echo(f"timm: {about}")

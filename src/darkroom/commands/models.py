"""darkroom models: lists the values of model.name."""

import click

from darkroom.errors import UserError


@click.command()
@click.argument("pattern", required=False)
def models(pattern: str | None) -> None:
    """List the values of model.name: parameters, multiply-adds per image, usual input size.

    PATTERN is a part of the name or a glob, for example 'timm:*vit*'. Without PATTERN, timm's models are
    only counted. `darkroom summary` shows the network of params.yaml, for your images and classes.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from darkroom.catalogue.table import NUM_CLASSES, ModelTable, is_installed
    from darkroom.terminal import make_console

    known = ModelTable.load()
    found = known.matching(pattern)
    others = known.other_versions()
    if not found and pattern and others:  # the library may have it; importing it takes seconds
        from darkroom.catalogue.counting import count_models, installed_names
        from darkroom.catalogue.table import matches

        found = list(count_models([name for name in installed_names() if matches(name, pattern)]))
        others = {}
    if not found:
        where = "" if is_installed("timm") else "; timm is not installed: pip install 'darkroom[timm]'"
        raise UserError(f"no model matches {pattern}; `darkroom models` lists them{where}")
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model.name", overflow="fold")
    for heading in ("pixels", "parameters", "million multiply-adds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for model in found:
        millions = f"{model.num_multiply_adds / 1e6:,.1f}"
        table.add_row(model.name, f"{model.side}", f"{model.num_parameters:,}", millions, model.remark)
    make_console().print(table)
    click.echo(
        f"{len(found)} model{'s' * (len(found) > 1)}, for RGB images; darkroom's own with "
        f"{NUM_CLASSES['own']} classes, those of libraries with {NUM_CLASSES['library']:,}, for masks"
        f" with {NUM_CLASSES['masks']}"
    )
    if pattern is None:
        about = (
            "about a thousand more, `darkroom models 'timm:*'` lists them"
            if is_installed("timm")
            else "about a thousand more after pip install 'darkroom[timm]'"
        )
        click.echo(f"timm: {about}")
        click.echo(
            "for masks also unet, smp:ARCHITECTURE.ENCODER after pip install 'darkroom[smp]', and most"
            " networks above, which become the encoder of a U-Net"
        )
    for library in others.keys() & known.versions & {model.library for model in found}:
        click.echo(
            f"counted with {library} {known.versions[library]}; {others[library]} is installed, whose"
            " models may differ"
        )

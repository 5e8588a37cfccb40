"""darkroom summary: shows the network that params.yaml selects."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--file", default="params.yaml", type=click.Path(path_type=Path), help="The file of parameters."
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Height and width of images in pixels.  [default: train.image_size, or that of the prepared"
    " data]",
)
@click.option("--channels", type=click.Choice(["1", "3"]), help="Of images: 1: grey, 3: RGB.")
@click.option("--classes", type=click.IntRange(min=2), help="Number of classes.")
def summary(file: Path, size: int | None, channels: str | None, classes: int | None) -> None:
    """Show the network that params.yaml selects, layer by layer, for the prepared data.

    Without prepared data, the network is for RGB images of 32 x 32 pixels and 10 classes.
    """
    from darkroom.catalogue.counting import blank_spec, make_without_weights
    from darkroom.dataset.info import load_info
    from darkroom.errors import UserError
    from darkroom.models.summary import input_text, summary_text
    from darkroom.params import load_params
    from darkroom.paths import DATASET

    params = load_params(file)
    input_size, num_channels, num_classes, encoding = (32, 32), 3, 10, None
    if DATASET.exists():
        info = load_info(DATASET)
        input_size, num_channels, num_classes = info.input_size, info.channels, len(info.class_names)
        encoding = info.encoding
    if encoding is not None and (size or channels):
        raise UserError(f"--size and --channels are for images, but {DATASET} describes rows of a table")
    if params.train.sizes:
        input_size = params.train.sizes[-1][1]
    spec = blank_spec(
        input_size=(size, size) if size else input_size,
        channels=int(channels) if channels else num_channels,
        num_classes=classes or num_classes,
        encoding=encoding,
        **params.model.architecture(),
    )
    click.echo(f"{spec.name} for {input_text(spec)}, {len(spec.class_names)} classes\n")
    click.echo(summary_text(make_without_weights(spec), spec), nl=False)

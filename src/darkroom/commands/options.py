"""Options that several commands have."""

import click

format_option = click.option(
    "--format",
    "format_name",
    type=click.Choice(("onnx", "onnx-fp16", "onnx-int8")),
    default="onnx",
    show_default=True,
    help="The exported format that classifies.",
)

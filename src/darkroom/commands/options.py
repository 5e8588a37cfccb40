"""Options that several commands have."""

from pathlib import Path

import click

format_option = click.option(
    "--format",
    "format_name",
    type=click.Choice(("onnx", "onnx-fp16", "onnx-int8")),
    default="onnx",
    show_default=True,
    help="The exported format that classifies.",
)

signature_option = click.option(
    "--signature",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file with the signature; by default EXPORT.dsse.json beside the folder.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

markdown_option = click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")

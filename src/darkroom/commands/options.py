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

ray_option = click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Compute on the Ray cluster at this address, such as 10.0.0.5:6379; auto: on the one to which"
    " this machine belongs. Its nodes need this folder at the same path, and the same darkroom.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

markdown_option = click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")

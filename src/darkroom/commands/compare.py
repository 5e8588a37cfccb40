"""darkroom compare: tells whether one model is better than another, on the same test images."""

import json
from dataclasses import replace
from pathlib import Path

import click

from darkroom.commands.options import json_option, markdown_option
from darkroom.tracking.redacted_output import redacted_output


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", default="workspace")
@click.option("--common", is_flag=True, help="Compare on the test images or rows that both have.")
@click.option(
    "--latency", is_flag=True, help="Also time one image or row with the exported ONNX models."
)
@json_option
@markdown_option
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page.")
@redacted_output()
def compare(
    first: str,
    second: str,
    common: bool,
    latency: bool,
    as_json: bool,
    as_markdown: bool,
    html: Path | None,
) -> None:
    """Judge model B against model A on the same test images or rows: better, worse or neither.

    As in `git diff A B`, A is the earlier state, and B is the workspace if it is omitted: `darkroom
    compare champion` judges the workspace against the champion.

    A and B are each `workspace` (or .), a git revision, a DVC experiment, an MLflow run (its id, or
    run:NAME), a model version (version:3 or models:/NAME/3), `champion` or `candidate`. rev:NAME and
    exp:NAME choose if a revision and an experiment have the same name.
    """
    from darkroom.comparison.costs import costs_of
    from darkroom.comparison.sides import find_side
    from darkroom.comparison.verdict import compare as judge
    from darkroom.errors import UserError
    from darkroom.metrics.resampling import NUM_RESAMPLES
    from darkroom.progress import progress_bar

    if as_json and as_markdown:
        raise UserError("--json and --markdown: choose one")
    sides = find_side(first), find_side(second)
    with progress_bar("compare", NUM_RESAMPLES, "resamples") as bar:
        comparison = judge(*sides, common, bar.advance)
    comparison = replace(comparison, costs=costs_of(*sides, latency))
    if html is not None:
        from darkroom.comparison.page import write_comparison

        write_comparison(comparison, html)
    if as_json:
        click.echo(json.dumps(comparison.to_json(), indent=2))
        return
    from darkroom.comparison.text import markdown, tables

    if as_markdown:
        click.echo(markdown(comparison), nl=False)
        return
    from darkroom.terminal import make_console

    make_console().print(tables(comparison))
    for remark in comparison.remarks:
        click.echo(remark, err=True)
    if comparison.seeds is not None:
        click.echo(comparison.seeds.sentence)
    click.echo(comparison.sentence)

"""darkroom plan: tells what `dvc repro` would run, why, and how long it takes."""

import json
import sys

import click

from darkroom.commands.options import json_option, markdown_option
from darkroom.tracking.redacted_output import redacted_output

RUNS = 10
"""Exit status if a stage runs: other commands exit with 1 for a bad result, and 2 for a mistake."""


@click.command()
@click.argument("rev", required=False)
@json_option
@markdown_option
@redacted_output()
def plan(rev: str | None, as_json: bool, as_markdown: bool) -> None:
    """Tell what `dvc repro` would run, and why, without running or changing anything.

    The plan is for this folder as it is, with uncommitted edits, or for REV, a git revision or a DVC
    experiment, as if it were checked out here. If DVC has a remote, the plan is that of `dvc repro
    --pull`. Data that are not here are taken as recorded.

    The exit status is 0 if no stage runs, 10 if one does, and 2 after a mistake.
    """
    from darkroom.errors import UserError
    from darkroom.planning.planned import planned
    from darkroom.planning.text import markdown, sentence, table

    if as_json and as_markdown:
        raise UserError("--json and --markdown: choose one")
    found = planned(rev)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    elif as_markdown:
        click.echo(markdown(found), nl=False)
    else:
        from darkroom.terminal import make_console

        make_console().print(table(found))
        for remark in found.remarks:
            click.echo(f"plan: {remark}", err=True)
        click.echo(f"plan: {sentence(found)}")
    if found.runs:
        sys.exit(RUNS)

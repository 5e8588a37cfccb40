"""darkroom gate: tells whether the model in the workspace is good enough."""

import json
import sys

import click

from darkroom.commands.options import json_option, markdown_option
from darkroom.tracking.redacted_output import redacted_output


@click.command()
@json_option
@markdown_option
@click.option("--if-set", is_flag=True, help="Exit with 0 if params.yaml has no gate.")
@redacted_output()
def gate(as_json: bool, as_markdown: bool, if_set: bool) -> None:
    """Judge the model in the workspace by evaluate.gate, with the lower bounds of 95 % intervals.

    The exit status is 0 if it passes, 1 if it does not, with the reasons, and 2 if it cannot be judged,
    for example because a file is missing.
    """
    from darkroom.comparison.gate import judge_workspace
    from darkroom.errors import UserError
    from darkroom.escape import for_markdown
    from darkroom.params import load_params
    from darkroom.paths import PARAMS

    if as_json and as_markdown:
        raise UserError("--json and --markdown: choose one")
    required = load_params(PARAMS).evaluate.gate
    if if_set and required is None:
        click.echo("gate: none is set", err=True)
        return
    reasons, comparison = judge_workspace(required)
    if as_json:
        document = {
            "passed": not reasons,
            "reasons": reasons,
            "gate": required,
            "comparison": comparison.to_json() if comparison else None,
        }
        click.echo(json.dumps(document, indent=2))
    elif as_markdown:
        click.echo("❌ **The gate is not passed.**" if reasons else "✅ **The gate is passed.**")
        for line in [*reasons, *([comparison.sentence] if comparison else [])]:
            click.echo(f"- {for_markdown(line)}")
    else:
        for reason in reasons:
            click.echo(reason)
        if comparison:
            click.echo(comparison.sentence)
        click.echo("gate: not passed" if reasons else "gate: passed")
    if reasons:
        sys.exit(1)

"""darkroom ci: writes the workflow of a hosting, and does what its jobs need."""

import sys
from pathlib import Path

import click

from darkroom.tracking.redacted_output import redacted_output


@click.group()
def ci() -> None:
    """Write a workflow for GitHub or GitLab; post a report on pull requests (docs/ci.md)."""


def _writer(hosting: str) -> click.Command:
    name = {"github": "GitHub", "gitlab": "GitLab"}[hosting]

    @click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
    @click.option("--print", "prints", is_flag=True, help="Print the workflow instead of writing it.")
    @click.option("--gpu", is_flag=True, help="Run the pipeline on your own runner with the label gpu.")
    @click.option("--plots", is_flag=True, help="GitHub: show plots in comments, from a branch.")
    @click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="NAME",
        help="A secret that DVC's remote or MLflow needs; repeat it for more.  [default: those of S3 "
        "and MLflow]",
    )
    def write(out: Path | None, prints: bool, gpu: bool, plots: bool, secrets: tuple[str, ...]) -> None:
        from darkroom.ci.workflow import PLACES, SECRETS, SETUP_CLONE, SETUP_PROJECT, workflow
        from darkroom.errors import UserError
        from darkroom.project.record import RECORD

        setup = SETUP_PROJECT if RECORD.is_file() else SETUP_CLONE
        text = workflow(hosting, secrets or SECRETS, gpu, plots, setup)
        if prints:
            if out is not None:
                raise UserError("--print and --out: choose one")
            click.echo(text, nl=False)
            return
        path = out or PLACES[hosting]
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{path} exists and differs; compare it with `darkroom ci {hosting} --print`, and "
                "delete it to have it written again"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"ci: {path} written; docs/ci.md says which secrets it needs")

    write.__doc__ = f"""Write a workflow for {name}.

    It plans, reproduces and judges pull requests, reports on them in one comment, and checks every week
    whether the results can be reproduced. A file that differs is not overwritten.
    """
    return click.command(hosting)(write)


ci.add_command(_writer("github"))
ci.add_command(_writer("gitlab"))


@ci.command()
@click.option("--against", metavar="REV", help="The git revision to compare with, such as origin/main.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What `darkroom plan --markdown` printed before the run.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write this file instead of printing."
)
@redacted_output(with_stdout=False)
def report(against: str | None, plan_file: Path | None, out: Path | None) -> None:
    """Report on the results in this folder to a reviewer, as Markdown.

    The report has scores with 95 % intervals, beside those of REV; whether the model is better, worse or
    not distinguishable; the gate; plots; what ran and why; and the model's run in MLflow.
    """
    from darkroom.ci.report import report as report_on

    text = report_on(against, plan_file.read_text(encoding="utf-8") if plan_file else "")
    if out is None:
        click.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


@ci.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--images", default="", metavar="BRANCH", help="On GitHub: a branch for the plots.")
@redacted_output()
def post(file: Path, images: str) -> None:
    """Post FILE as a comment on the pull request of this CI job.

    There is one comment per pull request: each run replaces its text. Outside pull requests, nothing is
    posted. The token is in GITHUB_TOKEN or GITLAB_TOKEN.
    """
    from darkroom.ci.hosting import hosting_of, publish

    hosting = hosting_of(images=images)
    if hosting is None:
        click.echo("ci: this job is not for a pull request; nothing posted")
        return
    click.echo(f"ci: comment {publish(file.read_text(encoding='utf-8'), hosting)}")


@ci.command()
def reproduced() -> None:
    """Tell whether `dvc repro --force` wrote the committed bytes.

    The exit status is 1 if dvc.lock or the metrics changed in the same environment. In another
    environment, other bytes are not a failure.
    """
    from darkroom.ci.reproduced import compare_with_commit

    holds, sentence = compare_with_commit()
    click.echo(f"ci: {sentence}", err=not holds)
    if not holds:
        sys.exit(1)

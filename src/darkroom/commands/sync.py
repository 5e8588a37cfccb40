"""darkroom sync: sends what waits for MLflow, and logs the results that it has no run of."""

import sys
from typing import TYPE_CHECKING

import click

from darkroom.tracking.secrets import redacted_output

if TYPE_CHECKING:
    from darkroom.tracking.ledger.sync import Outcome


@click.command()
@click.option("--all-commits", is_flag=True, help="Log the results of every commit's dvc.lock.")
@click.option("--all-experiments", is_flag=True, help="Log the results of every DVC experiment.")
@click.option("--redirect", is_flag=True, help="Also send here what was meant for another MLflow.")
@redacted_output()
def sync(all_commits: bool, all_experiments: bool, redirect: bool) -> None:
    """Make MLflow complete.

    Sends the runs that wait in mljournal/ because MLflow was away, closes those whose process died,
    and logs each result in dvc.lock that MLflow has no run of, because DVC restored it from its cache,
    pulled it, or made it elsewhere. With --all-commits and --all-experiments an empty MLflow is filled
    from git and DVC. What MLflow has already is left as it is.

    The exit status is 1 where something could not be sent or logged.
    """
    from darkroom.progress import progress_bar
    from darkroom.tracking.ledger.sync import sync as sync_all

    with progress_bar("sync", 0, "runs") as bar:
        outcome = sync_all(all_commits, all_experiments, redirect, bar.expect, bar.advance)
    for line in outcome.remarks:
        click.echo(f"sync: {line}", err=True)
    for line in outcome.not_restored:
        click.echo(f"sync: not logged: {line}", err=True)
    for line in outcome.emptied:
        click.echo(
            f"sync: the artifacts of {line} are gone from {outcome.address}; delete that run there and "
            "sync again, which logs it from its files",
            err=True,
        )
    for address, number in outcome.num_elsewhere.items():
        click.echo(
            f"sync: {_runs(number)} for {address} not sent; set MLFLOW_TRACKING_URI to it and sync "
            "again, or send to this one with --redirect",
            err=True,
        )
    if outcome.num_live:
        click.echo(f"sync: {_runs(outcome.num_live)} still at work", err=True)
    for name in outcome.restored:
        click.echo(f"sync: {name} logged from its files")
    click.echo(f"sync: {_summary(outcome)}")
    if outcome.is_incomplete:
        sys.exit(1)


def _summary(outcome: "Outcome") -> str:
    """Say in a line what was done, and whether MLflow is complete now."""
    parts = []
    if outcome.num_sent or outcome.restored:
        parts += [f"{_runs(outcome.num_sent)} sent", f"{len(outcome.restored)} logged from files"]
    if outcome.not_restored:
        parts.append(f"{len(outcome.not_restored)} not logged")
    if outcome.emptied:
        parts.append(f"{_runs(len(outcome.emptied))} without artifacts")
    if outcome.remarks:
        parts.append("see above for what was refused or cannot be read")
    if not parts:
        others = " that is meant for it" if outcome.num_elsewhere else ""
        return f"{outcome.address} has everything{others}"
    lacks = " is not complete" if outcome.is_incomplete else ""
    return f"{', '.join(parts)}; {outcome.address}{lacks}"


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"

"""darkroom sync: sends waiting runs to MLflow, and logs results that have no run."""

import sys
from typing import TYPE_CHECKING

import click

from darkroom.tracking.redacted_output import redacted_output

if TYPE_CHECKING:
    from darkroom.tracking.ledger.sync import Outcome


@click.command()
@click.option("--all-commits", is_flag=True, help="Log the results of every commit's dvc.lock.")
@click.option("--all-experiments", is_flag=True, help="Log the results of every DVC experiment.")
@click.option("--redirect", is_flag=True, help="Also send runs that were meant for another MLflow.")
@redacted_output()
def sync(all_commits: bool, all_experiments: bool, redirect: bool) -> None:
    """Make MLflow complete.

    Sends the runs that wait in mljournal/ because MLflow was out of reach, ends the runs of processes
    that died, and logs each result in dvc.lock that has no run in MLflow, because DVC restored it from
    its cache, pulled it, or it was computed elsewhere. --all-commits and --all-experiments fill an
    empty MLflow from git and DVC. Runs that MLflow already has stay unchanged.

    The exit status is 1 if something could not be sent or logged.
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
            "run `darkroom sync` again, which logs it from its files",
            err=True,
        )
    for address, number in outcome.num_elsewhere.items():
        is_here = address == outcome.address
        there = f"another experiment in {address}" if is_here else address
        setting = (
            "MLFLOW_EXPERIMENT_NAME to its name" if is_here else "MLFLOW_TRACKING_URI to that address"
        )
        click.echo(
            f"sync: {_runs(number)} for {there} not sent; set {setting} and run `darkroom sync` again,"
            " or send them here with --redirect",
            err=True,
        )
    if outcome.num_live:
        click.echo(f"sync: {_runs(outcome.num_live)} still in progress", err=True)
    for name in outcome.restored:
        click.echo(f"sync: {name} logged from its files")
    click.echo(f"sync: {_summary(outcome)}")
    if outcome.is_incomplete:
        sys.exit(1)


def _summary(outcome: "Outcome") -> str:
    """Return in one line what was done, and whether MLflow is complete now."""
    parts = []
    if outcome.num_sent or outcome.restored:
        parts += [f"{_runs(outcome.num_sent)} sent", f"{len(outcome.restored)} logged from files"]
    if outcome.not_restored:
        parts.append(f"{len(outcome.not_restored)} not logged")
    if outcome.emptied:
        parts.append(f"{_runs(len(outcome.emptied))} without artifacts")
    if outcome.remarks:
        parts.append("the messages above say what was refused or is unreadable")
    if not parts:
        others = " that is meant for it" if outcome.num_elsewhere else ""
        return f"{outcome.address} has everything{others}"
    lacks = " is not complete" if outcome.is_incomplete else ""
    return f"{', '.join(parts)}; {outcome.address}{lacks}"


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"

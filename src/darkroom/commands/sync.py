"""darkroom sync: sends what waits for MLflow, and logs the results that it has no run of."""

import sys

import click


@click.command()
@click.option("--all-commits", is_flag=True, help="Log the results of every commit's dvc.lock.")
@click.option("--all-experiments", is_flag=True, help="Log the results of every DVC experiment.")
@click.option("--redirect", is_flag=True, help="Also send here what was meant for another MLflow.")
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
    if not outcome.num_sent and not outcome.restored:
        click.echo(f"sync: {outcome.address} has everything")
    else:
        parts = [f"{_runs(outcome.num_sent)} sent", f"{len(outcome.restored)} logged from files"]
        click.echo(f"sync: {', '.join(parts)}; {outcome.address}")
    if outcome.remarks or outcome.not_restored:
        sys.exit(1)


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"

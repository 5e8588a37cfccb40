"""darkroom trace: finds the runs, experiments, commits, data and versions that belong together."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from darkroom.commands.options import json_option
from darkroom.tracking.redacted_output import redacted_output

if TYPE_CHECKING:
    from darkroom.tracking.ledger.revisions import Revision
    from darkroom.tracking.ledger.trace import Trail

NUM_SHOWN = 5
"""Number of trainings that are shown; --all shows every one."""

SCORES_SHOWN = ("test/f1_macro", "test/precision_macro", "test/recall_macro", "test/accuracy")

PARAMS_SHOWN = (
    "model.name",
    "model.width",
    "model.weights",
    "train.epochs",
    "train.batch_size",
    "train.optimizer",
    "train.lr",
    "seed",
)


@click.command()
@click.argument("name", metavar="X")
@click.option("--all", "shows_all", is_flag=True, help="Show every training and parameter.")
@json_option
@redacted_output()
def trace(name: str, shows_all: bool, as_json: bool) -> None:
    """Find what belongs to X, by the hashes of contents.

    X is a file or folder (a model, a report, an exported file, an image, wherever it is now), an
    MLflow run's id or name, a DVC experiment, a git revision, `workspace`, or a registered model's
    NAME/VERSION or NAME@ALIAS. Prints the training's runs, experiments, commits, data, parameters,
    scores and registered versions.
    """
    from darkroom.tracking.ledger.trace import trace as find

    found = find(name)
    for remark in found.remarks:
        click.echo(f"trace: {remark}", err=True)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, sort_keys=True, default=str))
        return
    click.echo(found.subject)
    for place in found.places if shows_all else found.places[:NUM_SHOWN]:
        click.echo(f"  is        {place}")
    if not found.trails:
        click.echo("  no training is known to belong to it")
    for trail in found.trails if shows_all else found.trails[:NUM_SHOWN]:
        click.echo()
        for heading, line in _lines(trail, shows_all):
            click.echo(f"  {heading:9} {line}")
    if len(found.trails) > NUM_SHOWN and not shows_all:
        click.echo(f"\n  and {len(found.trails) - NUM_SHOWN} more trainings; --all shows them")
    if found.trouble:
        click.echo(
            f"MLflow could not be read ({found.trouble}); this is what git and DVC know", err=True
        )


def _lines(trail: "Trail", shows_all: bool) -> Iterator[tuple[str, str]]:
    if trail.model_md5:
        yield "model", f"SHA-256 {trail.model_sha256 or 'unknown'}, MD5 {trail.model_md5}"
    for run in sorted(trail.runs, key=lambda run: run.start_ms):
        note = f", {run.tags['restored']}" if "restored" in run.tags else ""
        yield "run", f"{run.name}, {run.run_id}, {run.status}, {_date(run.start_ms)}{note}"
    for version in trail.versions:
        yield "version", f"{version}"
    for revision in trail.revisions:
        yield _revision(revision)
    for stage, result in trail.results.items():
        outputs = ", ".join(f"{path} {content.md5}" for path, content in result.outs.items())
        if shows_all:
            yield "dvc.lock", f"{stage}: {outputs}"
    if trail.raw_md5 or trail.prepared_digest:
        yield "data", f"raw MD5 {trail.raw_md5}, prepared {trail.prepared_digest}"
    shown = sorted(trail.metrics) if shows_all else SCORES_SHOWN
    scores = {name: trail.metrics[name] for name in shown if name in trail.metrics}
    if scores:
        yield "scores", ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    names = trail.params if shows_all else [name for name in PARAMS_SHOWN if name in trail.params]
    more = f", and {len(trail.params) - len(names)} more" if len(trail.params) > len(names) else ""
    if names:
        yield "params", ", ".join(f"{name} {trail.params[name]}" for name in names) + more


def _revision(revision: "Revision") -> tuple[str, str]:
    if not revision.commit:
        return "folder", "dvc.lock in this folder"
    date = _date(revision.committed_ms or 0)
    if revision.baseline:
        return "experiment", f"{revision.name}, of {revision.baseline[:7]}, {date}"
    where = f" on {revision.branch}" if revision.branch else ""
    return "commit", f"{revision.commit[:7]}{where}, {date}: {revision.subject}"


def _date(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1_000):%Y-%m-%d %H:%M}"

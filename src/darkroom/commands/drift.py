"""darkroom drift: tells whether new predictions differ from those for the test images."""

import json
import sys
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkroom.commands.options import json_option

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from darkroom.comparison.drift import Drift

DRIFT = 10
"""The exit status if something has changed."""

_HOUR = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M"])

NUM_CLASSES = 10
"""Number of classes that are listed."""


@click.command()
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="How often drift may be reported although nothing has changed.",
)
@click.option("--since", type=_HOUR, help="Of a log: the first hour (UTC).")
@click.option("--until", type=_HOUR, help="Of a log: the hour after the last one (UTC).")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Of a log: also write a page with classes, confidence and unfamiliarity by hour.",
)
@json_option
def drift(
    reference: Path,
    new: Path,
    alpha: float,
    since: "datetime | None",
    until: "datetime | None",
    report: Path | None,
    as_json: bool,
) -> None:
    """Tell whether the predictions in NEW differ from those in REFERENCE.

    Both are tables that `darkroom predict --out` wrote with the same model, CSV or Parquet. REFERENCE
    can also be reports/evaluate/predictions.parquet, the predictions for the test images. Either can be
    a folder of `darkroom serve --log`, of which the hours of the latest model are used.

    The predicted classes, the confidence and the unfamiliarity are tested, and the p-values corrected
    for the number of tests. If the classes differ, the output lists those that are predicted more
    or less often, and by how much.

    The exit status is 0 if nothing has changed, 10 if something has.
    """
    from darkroom.comparison.drift import find_drift
    from darkroom.comparison.drift_log import binned, load_log, sample_of
    from darkroom.comparison.drift_tables import load_sample
    from darkroom.errors import UserError, counted
    from darkroom.progress import spinner

    between = [one and one.replace(tzinfo=UTC) for one in (since, until)]
    logs = {path: load_log(path, *between) for path in (reference, new) if path.is_dir()}
    if not logs and (since or until or report):
        raise UserError("--since, --until and --report: neither REFERENCE nor NEW is a log")
    for path, log in logs.items():
        if log.num_others:
            hours = counted(log.num_others, "hour")
            click.echo(f"drift: {path}: {hours} of earlier models are not used", err=True)
    with spinner("drift: reading and testing"):
        known, met = (
            sample_of(logs[path]) if path in logs else load_sample(path) for path in (reference, new)
        )
        if logs:
            known, met = binned(known), binned(met)
        found = find_drift(known, met, alpha)
    for name in sorted({*known.numbers} ^ {*met.numbers}):
        owner = reference if name in known.numbers else new
        click.echo(f"drift: {name} is not tested: only {owner} has it", err=True)
    if report:
        from darkroom.comparison.drift_page import write_hours

        write_hours(logs[new if new in logs else reference], known, found, report)
        click.echo(f"drift: wrote {report}", err=True)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found)
    if found.changed:
        sys.exit(DRIFT)


def _show(found: "Drift") -> None:
    from darkroom.terminal import make_console

    console = make_console()
    console.print(_table_of_tests(found))
    if found.moved:
        click.echo()
        console.print(_table_of_classes(found))
    click.echo(f"\n{_sentence(found)}")


def _sentence(found: "Drift") -> str:
    numbers = f"{found.sizes[1]:,} predictions, against {found.sizes[0]:,}"
    if not found.changed:
        return f"no drift is shown by {numbers}"
    names = " and ".join(change.name for change in found.changed)
    moved = ", ".join(f"{one.name} {100 * one.difference:+.1f} points" for one in found.moved[:3])
    more = len(found.moved) - 3
    classes = f" ({moved}{f' and {more:,} more' if more > 0 else ''})" if moved else ""
    return f"drift in {names} of {numbers}{classes}"


def _table_of_tests(found: "Drift") -> "Table":
    table = _table("", "reference", "new", "change (95 % interval)", "distance", "p")
    for one in found.changes:
        means = [f"{mean:.3f}" for mean in one.means] if one.means else ["", ""]
        difference = ""
        if one.means:
            difference = f"{one.means[1] - one.means[0]:+.3f}"
        if one.interval:
            difference += f" ({one.interval[0]:+.3f} to {one.interval[1]:+.3f})"
        table.add_row(one.name, *means, difference, f"{one.distance:.3f}", _p_value(one.p_value))
    return table


def _table_of_classes(found: "Drift") -> "Table":
    table = _table("predicted class", "reference", "new", "points (95 % interval)", "p")
    for one in found.moved[:NUM_CLASSES]:
        low, high = one.interval
        table.add_row(
            one.name,
            *(f"{share:.1%}" for share in one.shares),
            f"{100 * one.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            _p_value(one.p_value),
        )
    return table


def _table(*titles: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index else "left", no_wrap=index > 0)
    return table


def _p_value(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"

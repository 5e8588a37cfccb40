"""What `darkroom folds` and `darkroom seeds` write, log and print."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from darkroom.repeats.runs import log_runs
from darkroom.repeats.summary import Summary, titles_of
from darkroom.reporting.tables import write_json
from darkroom.retraining.parts import LabelledImages
from darkroom.retraining.trainings import Training
from darkroom.runtime import Runtime
from darkroom.terminal import make_console


def finish(
    command: str,
    trainings: Sequence[Training],
    summary: Summary,
    images: LabelledImages,
    runtime: Runtime,
    folder: Path,
    as_json: bool,
) -> None:
    """Write the summary into a folder, log the runs, and print the table or the JSON."""
    write_json(summary.to_json(), folder / f"{command}.json")
    log_runs(command, trainings, summary, images.info.digest, runtime, folder)
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2))
    else:
        make_console().print(summary.table(titles_of(images)))

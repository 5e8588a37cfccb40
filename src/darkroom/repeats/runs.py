"""The runs of several trainings in MLflow: one for all, with a child for each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from darkroom.digests import file_sha256
from darkroom.params import flatten
from darkroom.paths import CACHE, PREPARED
from darkroom.repeats.summary import Summary
from darkroom.retraining.trainings import Training
from darkroom.runtime import Runtime
from darkroom.tracking.destinations import tracked_once


def log_runs(
    command: str,
    trainings: Sequence[Training],
    summary: Summary,
    data_digest: str,
    runtime: Runtime,
    folder: Path,
) -> None:
    """Log the trainings of a command, each once, also if an earlier call was killed.

    Args:
        data_digest: of dataset.json.
        folder: of the command's outputs, with ``COMMAND.json``.
    """
    digest = file_sha256(folder / f"{command}.json")
    logged = CACHE / "logged" / command / digest
    config = trainings[0].config
    subject = f"{len(trainings)} {config.model.name}"
    with tracked_once(command, runtime, subject, logged / command) as run:
        run.log_params({**flatten(config), command: len(trainings)})
        run.log_input(PREPARED, data_digest)
        run.log_output(folder, digest)
        for name, found in summary.estimates.items():
            run.log_metrics({f"{command}/{name}_{part}": value for part, value in asdict(found).items()})
        for number, scores in enumerate(summary.scores, 1):
            run.log_metrics(_named(command, scores), number)
        run.log_artifacts(folder)
    for one, scores in zip(trainings, summary.scores, strict=True):
        with tracked_once(command, runtime, one.name, logged / one.name) as child:
            child.log_input(folder, digest, as_child=True)
            child.log_params(flatten(one.config))
            child.log_metrics(_named(command, scores))


def _named(command: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{command}/{name}": value for name, value in scores.items()}

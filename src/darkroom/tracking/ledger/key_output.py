"""The output by which a stage's result is known, in dvc.lock and in MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.paths import DATA, DATASET, EXPORT, FETCHED, MODEL, PREDICTIONS
from darkroom.tracking.ledger.dvc_hash import dvc_md5

if TYPE_CHECKING:
    from darkroom.tracking.ledger.results import Result

STAGES = ("fetch", "prepare", "train", "evaluate", "export")
"""In the order in which they need each other."""

OUTPUT_TAG = "dvc.output"
"""On a run, DVC's hash of its key output."""


def key_output(stage: str) -> Path | None:
    """Returns the output of ``stage`` that tells its results apart; None for a stage of others.

    It is small, or made by no other inputs: dataset.json has a digest of all prepared images.
    """
    verb, _, item = stage.partition("@")
    return {
        "fetch": DATA / item if item else FETCHED,  # fetch@NAME: in commits before there was one stage
        "prepare": DATASET,
        "train": MODEL,
        "evaluate": PREDICTIONS,
        "export": EXPORT,
    }.get(verb)


def key_md5(result: "Result") -> str:
    """Returns DVC's hash of a result's key output; empty where it has none."""
    key = key_output(result.stage)
    content = result.outs.get(key.as_posix()) if key else None
    return content.md5 if content else ""


def output_tags(stage: str) -> dict[str, str]:
    """Returns the tag by which a run is found from dvc.lock, for the output that lies in the folder."""
    key = key_output(stage)
    return {OUTPUT_TAG: dvc_md5(key)} if key and key.exists() else {}

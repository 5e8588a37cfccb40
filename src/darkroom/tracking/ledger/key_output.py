"""The key output of a stage, which identifies its results in dvc.lock and in MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.paths import DATA, DATASET, EXPORT, FETCHED, MODEL, PREDICTIONS
from darkroom.tracking.ledger.dvc_hash import dvc_md5

if TYPE_CHECKING:
    from darkroom.tracking.ledger.results import Result

STAGES = ("fetch", "prepare", "train", "evaluate", "export")
"""In the order of the pipeline."""

OUTPUT_TAG = "dvc.output"
"""The tag of a run that holds DVC's hash of its key output."""


def key_output(stage: str) -> Path | None:
    """Return the output that identifies results of ``stage``; None for a stage that is not darkroom's.

    It is small, or no other inputs produce the same: dataset.json has a digest of all prepared images.
    """
    verb, _, item = stage.partition("@")
    return {
        "fetch": DATA / item
        if item
        else FETCHED,  # fetch@NAME: in commits from before there was one stage
        "prepare": DATASET,
        "train": MODEL,
        "evaluate": PREDICTIONS,
        "export": EXPORT,
    }.get(verb)


def key_md5(result: "Result") -> str:
    """Return DVC's hash of a result's key output; an empty string if it has none."""
    key = key_output(result.stage)
    content = result.outs.get(key.as_posix()) if key else None
    return content.md5 if content else ""


def output_tags(stage: str) -> dict[str, str]:
    """Return the tag that identifies a run, for the key output in this folder."""
    key = key_output(stage)
    return {OUTPUT_TAG: dvc_md5(key)} if key and key.exists() else {}

"""How MLflow's page shows the runs of an experiment when it is opened by our link.

Without this, MLflow shows no metric or parameter until somebody chooses columns, and mixes the runs of
all stages. The view is kept as a tag of the experiment, where MLflow keeps shared views; other
versions of MLflow ignore it.
"""

import json

VIEW = "darkroom"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"

_COLUMNS = (
    "metrics.`test/f1_macro`",
    "metrics.`test/accuracy`",
    "metrics.`val/kept_f1_macro`",
    "params.`model.name`",
    "params.`model.width`",
    "params.`train.lr`",
    "params.`train.epochs`",
    "params.`train.batch_size`",
    "attributes.`Dataset`",
)


def experiment_tags() -> dict[str, str]:
    """Return the tags that make an experiment open as a table of models."""
    view = {
        "selectedColumns": _COLUMNS,
        "columnOrder": _COLUMNS,
        "columnWidths": dict.fromkeys(_COLUMNS[:-1], 120),
        "searchFilter": "tags.stage = 'train'",
    }
    # this kind of experiment has tables of runs, not of conversations
    return {"mlflow.experimentKind": "custom_model_development", VIEW_TAG: json.dumps(view)}


def page(experiment_id: str | None) -> str:
    """Return the part of the address after ``#``; the list of experiments if no experiment is known."""
    if experiment_id is None:
        return "/experiments?workflowType=machine_learning"
    return f"/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"

"""The outputs of a training: the model file and the files of its report."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from darkroom.compute.inference import compute_logits
from darkroom.loading.batches import Batch
from darkroom.metrics.multi_label import best_thresholds
from darkroom.models.classifier import probabilities_of
from darkroom.models.file import save_model
from darkroom.models.spec import ModelSpec
from darkroom.models.summary import summary_text
from darkroom.paths import HISTORY, MODEL, REPORT_TRAIN
from darkroom.training.session import Session


def write_outputs(session: Session, params: Mapping[str, Any]) -> None:
    """Write the model with the kept weights and the report, then remove the checkpoints.

    Args:
        params: the stage's parameters by full name, recorded in the model file.
    """
    job, history = session.job, session.history
    job.trained.load_state_dict(session.state.kept_weights)  # which shares the weights of the head
    training = {
        **params,
        "train.batch_size": session.options.batch_size,
        "train.lr": session.options.lr,
        "train.weight_decay": session.options.weight_decay,
        "data.digest": job.info.digest,
        "model.weights.sha256": job.weights_sha256,
        **history.outcome(),
    }
    val = job.validation(history.course.kept.epoch - 1)
    thresholds = choose_thresholds(job.spec, job.validated(job.model), val)
    save_model(job.model, replace(job.spec, training=training, thresholds=thresholds), MODEL)
    history.write_csv(HISTORY)
    history.draw(REPORT_TRAIN / "history.png")
    (REPORT_TRAIN / "summary.txt").write_text(summary_text(job.model, job.spec), encoding="utf-8")
    session.checkpoints.remove()
    for line in history.remarks():
        print(f"train: {line}")
    print(f"train: {job.spec.name} on {job.device.type}, {history.course.sentence}")


def choose_thresholds(
    spec: ModelSpec, model: nn.Module, val_batches: Iterable[Batch]
) -> tuple[float, ...] | None:
    """Return for each label the threshold with the best F1 on the validation images.

    Args:
        model: with the kept weights.

    Returns:
        A threshold in 0..1 per label, or None if each image has one class.
    """
    if not spec.multi_label:
        return None
    logits, targets = compute_logits(model, val_batches, "train.batch_size")
    probabilities = probabilities_of(logits.cpu().double(), spec.multi_label)
    return tuple(best_thresholds(targets, probabilities))

"""The outputs of a training: the model file and the files of its report."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.models.file import save_model
from darkroom.models.summary import summary_text
from darkroom.paths import HISTORY, MODEL, REPORT_TRAIN, VALIDATION
from darkroom.training.calibration import calibrate, write_validation
from darkroom.training.gradients import remarks_on_gradients, write_gradients
from darkroom.training.session import Session
from darkroom.training.unfamiliarity import fit_unfamiliarity


def write_outputs(
    session: Session, params: Mapping[str, Any], model: Path = MODEL, report: Path = REPORT_TRAIN
) -> None:
    """Write the model with the kept weights and the report, then remove the checkpoints.

    Args:
        params: the stage's parameters by full name, recorded in the model file.
        model: the file of the model.
        report: the folder of the report.
    """
    job, history = session.job, session.history
    job.trained.load_state_dict(session.state.kept_weights)  # which shares the weights of the head
    gradients = session.state.gradients
    remarks = [] if gradients is None else remarks_on_gradients(gradients.results)
    training = {
        **params,
        "train.batch_size": session.options.batch_size,
        "train.lr": session.options.lr,
        "train.weight_decay": session.options.weight_decay,
        "data.digest": job.info.digest,
        "model.weights.sha256": job.weights_sha256,
        **({"train.teacher.sha256": job.teacher.sha256} if job.teacher else {}),
        **history.outcome(remarks),
    }
    val = job.validation(history.course.kept.epoch - 1)
    recorded = replace(job.spec, training=training)
    spec, validation = calibrate(recorded, job.validated(job.model), val)
    write_validation(validation, val.paths, report / VALIDATION.name)
    (report / "summary.txt").write_text(summary_text(job.model, job.spec), encoding="utf-8")
    fitted = fit_unfamiliarity(job, history.course.kept.epoch - 1)
    if fitted is not None:
        job.model.unfamiliarity, spec = fitted.module, replace(spec, unfamiliarity=fitted.description)
    save_model(job.model, spec, model)
    history.write_csv(report / HISTORY.name)
    history.draw(report / "history.png")
    if gradients is not None:
        write_gradients(gradients.results, report)
    session.checkpoints.remove()
    for line in [*history.remarks(), *remarks]:
        print(f"train: {line}")
    print(f"train: {job.spec.name} on {job.device.type}, {history.course.sentence}")

"""train: data/prepared/{train,val}/, dataset.json -> models/model.safetensors; reports/train/"""

from dataclasses import replace

from darkroom.config.train import TrainConfig
from darkroom.paths import CACHE, HISTORY, MODEL, REPORT_TRAIN
from darkroom.pipeline.snapshot import Snapshot
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: TrainConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.compute.environment import fingerprint
    from darkroom.metrics.remarks import on_validation
    from darkroom.models.file import save_model
    from darkroom.models.summary import summary_text
    from darkroom.params import flatten
    from darkroom.progress import progress_bar
    from darkroom.training.checkpoint import Checkpoints, scratch_folder
    from darkroom.training.engine import fit
    from darkroom.training.history import History
    from darkroom.training.interruption import Interruption
    from darkroom.training.job import make_job
    from darkroom.training.lr_finder import settle_lr
    from darkroom.training.thresholds import choose_thresholds

    params, job = flatten(config), make_job(config, runtime)
    unvalidated = on_validation(job.info.counts["val"])
    for line in filter(None, (job.remark, str(job.train.placement), *job.doubts, *unvalidated)):
        print(f"train: {line}")
    run.log_tags({"doubts": "; ".join(job.doubts)} if job.doubts else {})
    job = job.with_features(lambda batches: run.watch(batches, job.model))

    code = Snapshot.take("train", config).digest
    depends_on = (code, job.info.digest, fingerprint(job.environment), f"{job.batch_size}")
    scratch = scratch_folder(CACHE / "train", *depends_on, job.weights_sha256)
    with (
        Interruption() as interruption,
        Checkpoints(scratch, runtime.checkpoint_seconds, interruption) as checkpoints,
    ):
        options = job.settled(settle_lr(job, scratch))
        settled = {"train.batch_size": options.batch_size, "train.lr": options.lr}
        state = job.new_state(options)
        if checkpoints.restore(state):
            print(f"train: goes on after step {state.step} of epoch {state.epoch + 1}")
        run.resume(scratch / "run")
        num_left = (options.epochs - state.epoch) * job.train.num_images - state.num_images
        history = History(num_earlier=state.epoch)
        with progress_bar("train", num_left) as bar:
            for result in fit(
                state,
                lambda epoch, step: bar.count(run.watch(job.epoch(epoch, step), job.model)),
                job.validation,
                job.loss,
                options,
                config.seed,
                checkpoints,
                job.network(),
                job.validated,
            ):
                history.add(result)
                run.log_metrics(history.metrics(), step=result.epoch)
                bar.note(history.last_line())

    job.model.load_state_dict(state.kept_weights)
    training = {
        **params,
        **settled,
        "data.digest": job.info.digest,
        "model.weights.sha256": job.weights_sha256,
        **history.outcome(),
    }
    thresholds = choose_thresholds(job.spec, job.model, job.val)
    spec = replace(job.spec, training=training, thresholds=thresholds)
    save_model(job.model, spec, MODEL)
    history.write_csv(HISTORY)
    history.draw(REPORT_TRAIN / "history.png")
    (REPORT_TRAIN / "summary.txt").write_text(summary_text(job.model, job.spec), encoding="utf-8")
    checkpoints.remove()
    for line in history.remarks():
        print(f"train: {line}")
    print(f"train: {job.spec.name} on {job.device.type}, {history.course.sentence}")


if __name__ == "__main__":
    run_stage("train", TrainConfig, main)

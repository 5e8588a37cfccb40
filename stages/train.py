"""train: data/prepared/{train,val}/, dataset.json -> models/model.safetensors; reports/train/"""

from darkroom.config.train import TrainConfig
from darkroom.pipeline.snapshot import Snapshot
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: TrainConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.params import flatten
    from darkroom.training.job import make_job
    from darkroom.training.outputs import write_outputs
    from darkroom.training.session import open_session

    job = make_job(config, runtime)
    run.log_tags({"doubts": "; ".join(job.doubts)} if job.doubts else {})

    code = Snapshot.take("train", config).digest
    with open_session(job, code, runtime.checkpoint_seconds, run.watch) as session:
        run.resume(session.checkpoints.folder / "run")
        for result in session.epochs():
            run.log_metrics(session.history.metrics(), step=result.epoch)

    write_outputs(session, flatten(config))


if __name__ == "__main__":
    run_stage("train", TrainConfig, main)

"""train: data/prepared/{train,val}/, dataset.json -> models/model.safetensors; reports/train/"""

from dataclasses import replace

from darkroom.config import TrainConfig
from darkroom.paths import CACHE, DATASET, HISTORY, MODEL, PREPARED, REPORT_TRAIN
from darkroom.runtime import Runtime
from darkroom.snapshot import Snapshot
from darkroom.stage import run_stage
from darkroom.tracking.run import Run


def main(config: TrainConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.data.augment.pipeline import Augmentation
    from darkroom.data.batches import Batches
    from darkroom.data.info import load_info
    from darkroom.data.shards import Shards
    from darkroom.models.file import digest, save_model
    from darkroom.models.spec import ModelSpec
    from darkroom.models.weights import start_from
    from darkroom.params import flatten
    from darkroom.progress import progress_bar
    from darkroom.reporting.history import History
    from darkroom.training.batch_size import settle_batch_size
    from darkroom.training.checkpoint import Checkpoints, scratch_folder
    from darkroom.training.compiled import compiled
    from darkroom.training.determinism import set_determinism
    from darkroom.training.device import select_device
    from darkroom.training.engine import fit
    from darkroom.training.environment import describe_environment, fingerprint
    from darkroom.training.interruption import Interruption
    from darkroom.training.state import TrainingState

    options, seed = config.train, config.seed
    set_determinism(seed, config.num_threads, options.deterministic, options.tf32)
    device = select_device(runtime.device)
    environment = describe_environment(device)

    info = load_info(DATASET)
    run.used(PREPARED, info.digest)
    run.log_dataset("prepared", info.digest, PREPARED, info.model_dump())
    spec = ModelSpec(
        **config.model.model_dump(exclude={"weights"}),
        class_names=tuple(info.class_names),
        input_size=info.input_size,
        channels=info.channels,
        resize=info.resize,
        mean=tuple(info.mean),
        std=tuple(info.std),
        training={},
        environment=environment,
    )
    start = start_from(config.model.weights, spec)
    model, spec = start.classifier.to(device), start.spec
    if start.remark:
        print(f"train: {start.remark}")
    image_shape = (info.channels, *info.input_size)
    batch_size = settle_batch_size(options.batch_size, model, image_shape, info.num_images("train"))
    training = {**flatten(config), "train.batch_size": batch_size, "data.digest": info.digest}
    if start.sha256:
        training["model.weights.sha256"] = start.sha256
    spec = replace(spec, training=training)
    run.log_tags({"train.batch_size": f"{batch_size}"})  # what auto has found
    augmentation = Augmentation(config.augment, seed)
    train = Batches(
        Shards(PREPARED / "train"), device, batch_size, runtime.workers, augmentation.needs_host
    )
    at_once = -(-batch_size // options.micro_batches)
    val = Batches(Shards(PREPARED / "val"), device, at_once, runtime.workers)
    print(f"train: {train.placement}")

    state = TrainingState(model, options, train.num_steps)
    code = Snapshot.take("train", config).digest
    scratch = scratch_folder(
        CACHE / "train", code, info.digest, fingerprint(environment), f"{batch_size}"
    )
    with (
        Interruption() as interruption,
        Checkpoints(scratch, runtime.checkpoint_seconds, interruption) as checkpoints,
    ):
        if checkpoints.restore(state):
            print(f"train: goes on after step {state.step} of epoch {state.epoch + 1}")
        num_left = (options.epochs - state.epoch) * train.num_images - state.num_images
        history = History(num_earlier=state.epoch)
        with progress_bar("train", num_left) as bar:
            for result in fit(
                state,
                lambda epoch, step: bar.count(train.epoch(seed, epoch, augmentation, step)),
                val,
                options,
                seed,
                checkpoints,
                compiled(model, options.compile),
            ):
                history.add(result)
                run.log_metrics(history.metrics(), step=result.epoch)
                bar.note(history.last_line())

    model.load_state_dict(state.best_weights)
    save_model(model, spec, MODEL)
    history.write_csv(HISTORY)
    history.draw(REPORT_TRAIN / "history.png")
    run.made(MODEL, digest(MODEL))
    run.log_artifacts(MODEL, REPORT_TRAIN)
    checkpoints.remove()
    print(f"train: {spec.name} on {device.type}, {history.best_line()}")


if __name__ == "__main__":
    run_stage("train", TrainConfig, main)

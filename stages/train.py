"""train: data/prepared/{train,val}/, dataset.json -> models/model.safetensors; reports/train/"""

from darkroom.config import TrainConfig
from darkroom.paths import DATASET, HISTORY, MODEL, PREPARED, REPORT_TRAIN
from darkroom.runtime import Runtime
from darkroom.stage import run_stage
from darkroom.tracking.run import Run


def main(config: TrainConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.data.batches import Batches
    from darkroom.data.info import load_info
    from darkroom.data.shards import Shards
    from darkroom.models.factory import make_classifier
    from darkroom.models.file import digest, save_model
    from darkroom.models.spec import ModelSpec
    from darkroom.params import flatten
    from darkroom.progress import progress_bar
    from darkroom.reporting.history import History
    from darkroom.training.determinism import set_determinism
    from darkroom.training.device import select_device
    from darkroom.training.engine import fit
    from darkroom.training.environment import describe_environment

    options, augment = config.train, config.augment
    set_determinism(config.seed, config.num_threads, options.deterministic)
    device = select_device(runtime.device)

    info = load_info(DATASET)
    train = Batches(Shards(PREPARED / "train"), device, options.batch_size)
    val = Batches(Shards(PREPARED / "val"), device, options.batch_size)
    run.used(PREPARED, info.digest)
    run.log_dataset("prepared", info.digest, PREPARED, info.model_dump())

    spec = ModelSpec(
        **config.model.model_dump(),
        class_names=tuple(info.class_names),
        input_size=info.input_size,
        channels=info.channels,
        resize=info.resize,
        mean=tuple(info.mean),
        std=tuple(info.std),
        training={**flatten(config), "data.digest": info.digest},
        environment=describe_environment(device),
    )
    model = make_classifier(spec).to(device)

    history = History()
    with progress_bar("train", options.epochs * train.num_images) as bar:
        for result in fit(
            model,
            lambda epoch: bar.count(
                train.shuffled(config.seed, epoch, augment.crop_padding, augment.horizontal_flip)
            ),
            train.num_steps,
            val,
            options,
            config.seed,
        ):
            if result.is_best:
                save_model(model, spec, MODEL)
            history.add(result)
            run.log_metrics(history.metrics(), step=result.epoch)
            bar.note(history.last_line())
    history.write_csv(HISTORY)
    history.draw(REPORT_TRAIN / "history.png")

    run.made(MODEL, digest(MODEL))
    run.log_artifacts(MODEL, REPORT_TRAIN)
    print(f"train: {spec.name} on {device.type}, {history.best_line()}")


if __name__ == "__main__":
    run_stage("train", TrainConfig, main)

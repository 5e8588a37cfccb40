"""darkroom lr: suggests a learning rate."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--out",
    default="lr.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The picture of the losses.",
)
def lr(out: Path) -> None:
    """Suggest a learning rate by a range test on the prepared data; draw and log it.

    The rate increases step by step from 1e-06 to 10; the suggestion is a tenth of the rate with the
    lowest loss. `train.lr: auto` runs the same test. Smith, "Cyclical Learning Rates", 2017.
    """
    from darkroom.compute.determinism import configure_libraries
    from darkroom.config.train import TrainConfig
    from darkroom.params import flatten, load_params
    from darkroom.paths import PARAMS, PREPARED
    from darkroom.runtime import load_runtime
    from darkroom.tracking.destinations import tracked

    config, runtime = TrainConfig.of(load_params(PARAMS)), load_runtime()
    configure_libraries(config.is_deterministic)
    from darkroom.reporting.figures import draw_range_test
    from darkroom.training.job import make_job
    from darkroom.training.lr_finder import find_lr

    job = make_job(config, runtime).with_features()
    with tracked("lr", runtime) as run:
        run.log_params(flatten(config))
        run.log_input(PREPARED, job.info.digest)
        found = find_lr(job)
        for step, (rate, loss) in enumerate(zip(found.lrs, found.losses, strict=True)):
            run.log_metrics({"lr/rate": rate, "lr/loss": loss}, step)
        run.log_metrics({"lr/suggestion": found.suggestion})
        draw_range_test(found.lrs, found.losses, found.suggestion, out)
        run.log_artifacts(out)
    click.echo(f"lr: {found.suggestion:g} is suggested for {config.train.optimizer}; see {out}")

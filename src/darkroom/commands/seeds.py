"""darkroom seeds: trains several times with other seeds, to tell how far scores vary by chance."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from darkroom.commands.options import json_option


@click.command()
@click.argument("num_seeds", metavar="[N]", default=5, type=click.IntRange(2, 100))
@click.option(
    "--out",
    default="reports/seeds",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for seeds.json.",
)
@json_option
def seeds(num_seeds: int, out: Path, as_json: bool) -> None:
    """Train N times (5 by default) with consecutive seeds, from that of params.yaml on.

    The prepared splits stay the same; the initial weights, the order and the augmentation differ. Prints
    the scores on the validation split, their mean, its interval, and by how much two trainings differ
    by chance. The test split is not used. An interrupted command resumes.
    """
    from darkroom.compute.determinism import configure_libraries
    from darkroom.config.train import TrainConfig
    from darkroom.digests import file_sha256
    from darkroom.params import load_params
    from darkroom.paths import CACHE, PARAMS
    from darkroom.runtime import load_runtime

    config, runtime = TrainConfig.of(load_params(PARAMS)), load_runtime()
    configure_libraries(config.is_deterministic)
    from darkroom.repeats.output import finish
    from darkroom.repeats.summary import summarise
    from darkroom.reporting.tables import write_json
    from darkroom.retraining.parts import LabelledImages
    from darkroom.retraining.trainings import of_seeds, probabilities_of_each

    images = LabelledImages("seeds")
    trainings = of_seeds(config, images, num_seeds)
    with redirect_stdout(sys.stderr):  # reports on computed features
        found = list(probabilities_of_each(trainings, images, runtime, "seeds"))
    summary = summarise(trainings, found, images, ratio=0)
    finish("seeds", trainings, summary, images, runtime, out, as_json)
    write_json(summary.to_json(), CACHE / "seeds" / f"{file_sha256(out / 'seeds.json')}.json")
    if not as_json:
        noise = summary.estimates["f1_macro"].noise
        click.echo(
            f"Two trainings that differ in their seeds alone differ in macro F1 by up to {noise:.4f}"
            " (95 %); a smaller change is not a change."
        )

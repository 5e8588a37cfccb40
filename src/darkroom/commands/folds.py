"""darkroom folds: trains on all folds but one, for each fold, and tests on that one."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from darkroom.commands.options import json_option


@click.command()
@click.argument("num_folds", metavar="[K]", default=5, type=click.IntRange(2, 100))
@click.option(
    "--out",
    default="reports/folds",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for folds.json and predictions.parquet.",
)
@json_option
def folds(num_folds: int, out: Path, as_json: bool) -> None:
    """Cross-validate the network on K folds (5 by default) of the train and val images (or rows).

    For each fold, the network is trained on the other folds as params.yaml says, and tested on the fold.
    Groups and duplicates stay together; the test split is not used. Prints the scores of the folds,
    their mean, and its interval by the corrected resampled t-test (Nadeau and Bengio, 2003);
    predictions.parquet has a prediction for each of them. An interrupted command resumes.
    """
    from darkroom.compute.determinism import configure_libraries
    from darkroom.config.train import TrainConfig
    from darkroom.params import load_params
    from darkroom.paths import MANIFEST, PARAMS
    from darkroom.runtime import load_runtime

    params, runtime = load_params(PARAMS), load_runtime()
    config = TrainConfig.of(params)
    configure_libraries(config.is_deterministic)
    from darkroom.repeats.output import finish
    from darkroom.repeats.summary import summarise, write_out_of_fold
    from darkroom.retraining.folds import assign_folds
    from darkroom.retraining.groups import load_groups
    from darkroom.retraining.parts import LabelledImages
    from darkroom.retraining.trainings import of_folds, probabilities_of_each

    images = LabelledImages("folds")
    groups = load_groups(MANIFEST, images.shards.paths)
    strata = images.target.strata(images.shards.labels)
    trainings = of_folds(config, images, groups, assign_folds(strata, groups, num_folds, config.seed))
    with redirect_stdout(sys.stderr):  # reports on computed features
        found = list(probabilities_of_each(trainings, images, runtime, "folds"))
    summary = summarise(trainings, found, images, ratio=1 / (num_folds - 1))
    separator = params.data.label_separator or "|"
    write_out_of_fold(trainings, found, images, separator, out / "predictions.parquet")
    finish("folds", trainings, summary, images, runtime, out, as_json)

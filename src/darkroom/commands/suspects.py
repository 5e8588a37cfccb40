"""darkroom suspects: finds images or rows whose label is probably wrong."""

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.option(
    "--out",
    default="suspects",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for suspects.csv and suspects.html.",
)
@click.option("--force", is_flag=True, help="Replace a suspects.csv that was edited.")
@click.option(
    "--folds",
    default=5,
    show_default=True,
    type=click.IntRange(2, 100),
    help="Number of parts; as many models are trained, each on all parts but one.",
)
@click.option(
    "--method",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "features", "recipe"]),
    help="The models: a logistic regression on features of the backbone with its initial weights, or the"
    " network trained as params.yaml says. auto: features if model.weights is given or the backbone is"
    " frozen.",
)
@click.option(
    "--pictures", default=200, show_default=True, type=click.IntRange(1), help="Maximum in the gallery."
)
def suspects(
    out: Path, force: bool, folds: int, method: Literal["auto", "features", "recipe"], pictures: int
) -> None:
    """Rank the train and val images (or rows) by how probably their label is wrong.

    Each is judged by a model that was trained without it, by confident learning (Northcutt et al.,
    2021). Groups and duplicates stay together. suspects.csv lists all of them, the most doubtful first,
    with empty columns new_label and exclude to fill in for `darkroom relabel`; suspects.html shows the
    suspects.
    """
    from darkroom.compute.determinism import configure_libraries
    from darkroom.config.train import TrainConfig
    from darkroom.errors import counted
    from darkroom.params import load_params
    from darkroom.paths import MANIFEST, PARAMS
    from darkroom.runtime import load_runtime

    params, runtime = load_params(PARAMS), load_runtime()
    config = TrainConfig.of(params)
    configure_libraries(config.is_deterministic)
    from darkroom.evaluation.pictures import pictures_of
    from darkroom.prediction.table import open_table
    from darkroom.retraining.folds import assign_folds
    from darkroom.retraining.groups import load_groups
    from darkroom.retraining.parts import LabelledImages
    from darkroom.suspects.findings import check_target, find_suspects
    from darkroom.suspects.gallery import write_gallery
    from darkroom.suspects.out_of_fold import choose_method, predict_out_of_fold
    from darkroom.suspects.targets.interface import suspects_target

    table = out / "suspects.csv"
    check_target(table, force)
    images = LabelledImages("suspects")
    labels, paths = images.shards.labels, images.shards.paths
    class_names, target = images.info.class_names, suspects_target(images.info.target)
    strata = images.target.strata(labels)
    groups = load_groups(MANIFEST, paths)
    folds_of = assign_folds(strata, groups, folds, config.seed)
    chosen = choose_method(config) if method == "auto" else method
    probabilities = predict_out_of_fold(chosen, config, runtime, images, folds_of, groups)
    is_judged = target.can_be_judged(labels, folds_of, len(class_names))
    separator = params.data.label_separator or "|"
    found = find_suspects(
        target, labels, probabilities, is_judged, class_names, paths, images.splits, separator
    )
    out.mkdir(parents=True, exist_ok=True)
    with open_table(table) as file:
        found.write(file)
    drawn, words = pictures_of(images.shards, images.info.encoding), images.words
    write_gallery(found, drawn, words, pictures, table, table.with_suffix(".html"))
    if found.num_unjudged:
        click.echo(
            f"{counted(found.num_unjudged, words.one)} not judged: too few {words.several} have the same"
            " label",
            err=True,
        )
    counts = f"{counted(len(found.suspects), 'suspect')} among {counted(len(found.ranked), words.one)}"
    click.echo(
        f"{table}: {counts}; confident learning estimates {counted(found.estimate, 'wrong label')}, more"
        " than there are if the model is weak"
    )
    click.echo(
        f"next: look at {table.with_suffix('.html')}, fill in new_label or exclude in {table.name} where"
        f" needed, and run `darkroom relabel {table}`"
    )

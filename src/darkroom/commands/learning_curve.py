"""darkroom learning-curve: tells what more training data would bring."""

import json
from pathlib import Path

import click

from darkroom.commands.options import json_option

SIZES = "10,20,40,80"


def _percents(context: click.Context, option: click.Parameter, text: str) -> list[float]:
    """Return the sizes in percent, ascending, with 100."""
    try:
        percents = {float(part) for part in text.split(",")}
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as {SIZES}") from None
    if not all(0 < percent <= 100 for percent in percents):
        raise click.BadParameter(f"{text!r}: each size must be above 0 and at most 100 (percent)")
    return sorted(percents | {100.0})


@click.command("learning-curve")
@click.option(
    "--sizes",
    default=SIZES,
    show_default=True,
    callback=_percents,
    help="Percentages of the training images or rows; 100 is added.",
)
@click.option(
    "--repeats",
    default=1,
    show_default=True,
    type=click.IntRange(1, 20),
    help="Trainings per size, each with another seed and other parts.",
)
@click.option(
    "--out",
    default="reports/learning_curve",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for learning_curve.csv, .json and .html.",
)
@json_option
def learning_curve(sizes: list[float], repeats: int, out: Path, as_json: bool) -> None:
    """Train on parts of the training images (or rows), and tell what twice as many would bring.

    Each part is within the next, has the classes in the same proportions, and keeps groups and
    duplicates together. The network is trained as params.yaml says, and scored on the validation split;
    the test split is not used. A power law through the scores gives the expectation (Hestness et al.,
    2017). Finished trainings are kept in .darkroom/, so that an interrupted command resumes.
    """
    from darkroom.compute.determinism import configure_libraries
    from darkroom.config.train import TrainConfig
    from darkroom.params import load_params
    from darkroom.paths import MANIFEST, PARAMS
    from darkroom.runtime import load_runtime
    from darkroom.terminal import make_console

    config, runtime = TrainConfig.of(load_params(PARAMS)), load_runtime()
    configure_libraries(config.is_deterministic)
    from darkroom.learning_curve.page import table, write_curve
    from darkroom.learning_curve.trainings import curve_of, plan_repeats, predict_validation
    from darkroom.retraining.groups import load_groups
    from darkroom.retraining.parts import LabelledImages

    images = LabelledImages("learning-curve")
    groups = load_groups(MANIFEST, images.shards.paths)
    planned, remarks = plan_repeats(config, images, groups, sizes, repeats)
    for remark in remarks:
        click.echo(remark, err=True)
    curve = curve_of(planned, predict_validation(planned, images, runtime), images, groups, remarks)
    write_curve(curve, out)
    if as_json:
        click.echo(json.dumps(curve.to_json(), indent=2))
        return
    make_console().print(table(curve))
    click.echo(f"{curve.sentence} See {out / 'learning_curve.html'}")

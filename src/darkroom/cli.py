"""The command ``darkroom``."""

import csv
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import click

from darkroom.commands.promote import promote
from darkroom.commands.sync import sync
from darkroom.commands.trace import trace
from darkroom.errors import UserError


class UserErrorsWithoutTraceback(click.Group):
    """Prints a mistake of the user's as one message and ends with status 2."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(error, err=True)
            ctx.exit(2)


@click.group(cls=UserErrorsWithoutTraceback, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="darkroom")
def main() -> None:
    """Reproducible image classification. `dvc repro` runs the pipeline; these help around it."""


@main.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="EXPORT")
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write CSV here.")
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    help="Classes an image.  [default: 1; where it may have several labels, those that reach their"
    " threshold]",
)
@click.option("--tiff", is_flag=True, help="Read TIFF files too.")
def predict(
    model: Path, images: tuple[str, ...], out: Path | None, top_k: int | None, tiff: bool
) -> None:
    """Classify IMAGES (files, folders or globs) with the model in the folder EXPORT.

    Prints a line an image: path, class, probability, tab-separated. Where an image may have several
    labels, they are joined by |, and so are their probabilities. Files that are no readable image are
    named on standard error, the others are still done, and the exit status is then 1.
    """
    from darkroom.predict import Failure, Predictor, find_images
    from darkroom.progress import progress_bar

    paths = find_images(images)
    predictor = Predictor(model, tiff)
    joined = predictor.is_multi_label and top_k is None
    num_columns = min(top_k or 1, len(predictor.class_names))
    columns = ["path", *(("labels", "probabilities") if joined else ("class", "probability"))]
    columns += [f"{name}_{k}" for k in range(2, num_columns + 1) for name in ("class", "probability")]
    num_failures = 0
    with ExitStack() as stack:
        file = stack.enter_context(_open_csv(out)) if out else sys.stdout
        table = csv.writer(file, delimiter="," if out else "\t", lineterminator="\n")
        if out or num_columns > 1:
            table.writerow(columns)
        bar = stack.enter_context(progress_bar("predict", len(paths))) if out else None
        for outcome in predictor.predict(paths, top_k):
            if isinstance(outcome, Failure):
                num_failures += 1
                name = click.format_filename(outcome.path)
                click.echo(f"{name}: not classified: {outcome.reason}", err=True)
            else:
                cells = _cells(outcome.classes, outcome.probabilities, joined)
                table.writerow([click.format_filename(outcome.path), *cells])
            if bar:
                bar.advance(1)
    num_done = len(paths) - num_failures
    if out:
        click.echo(f"{out}: {num_done} images classified", err=True)
    if num_failures:
        click.echo(f"{num_failures} of {len(paths)} files could not be classified", err=True)
        sys.exit(1)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The archive.  [default: beside FOLDER]")
@click.option("--force", is_flag=True, help="Replace an archive that is there already.")
def pack(folder: Path, out: Path | None, force: bool) -> None:
    """Pack FOLDER into a tar, which data.path accepts as well as the folder.

    DVC then tracks one file. The same files give the same bytes.
    """
    from darkroom.data.archive import pack
    from darkroom.progress import progress_bar

    if out is None:
        if folder.name in ("", ".."):
            raise UserError(f"{folder} has no name of its own; name the archive with --out")
        out = folder.with_name(f"{folder.name}.tar")
    with progress_bar("pack") as bar:
        num_files = pack(folder, out, bar.expect, bar.advance, overwrite=force)
    click.echo(f"{out}: {num_files:,} files, {out.stat().st_size / 1e6:,.1f} MB")
    click.echo(f"next: dvc add {out}, and in params.yaml data.path: {out}")


@main.command()
@click.option(
    "--file", default="params.yaml", type=click.Path(path_type=Path), help="Another params.yaml."
)
@click.option("--check", is_flag=True, help="Only say whether it is right.")
def params(file: Path, check: bool) -> None:
    """Check params.yaml and list every parameter: value, what is allowed, what it means."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from darkroom.params import flatten, load_params, parameters

    values = flatten(load_params(file))
    if check:
        return
    table = Table("parameter", "value", "allowed", "meaning", box=SIMPLE_HEAD, leading=1)
    for name, allowed, description in parameters():
        value = values[name]
        table.add_row(name, "null" if value is None else str(value), allowed, description)
    Console().print(table)


@main.command()
@click.option(
    "--out", default="lr.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path)
)
def lr(out: Path) -> None:
    """Suggest a learning rate: a range test on the prepared data, drawn into a picture and logged.

    The rate rises from step to step, from 1e-06 to 10; a tenth of the one at which the loss is least is
    suggested. `train.lr: auto` takes the same. Smith, "Cyclical Learning Rates", 2017.
    """
    from darkroom.config import TrainConfig
    from darkroom.params import flatten, load_params
    from darkroom.paths import PARAMS, PREPARED
    from darkroom.runtime import load_runtime
    from darkroom.tracking.destinations import tracked
    from darkroom.training.determinism import configure_libraries

    config, runtime = TrainConfig.of(load_params(PARAMS)), load_runtime()
    configure_libraries(config.is_deterministic)
    from darkroom.reporting.figures import draw_range_test
    from darkroom.training.job import make_job
    from darkroom.training.lr_finder import find_lr

    job = make_job(config, runtime)
    with tracked("lr", runtime) as run:
        run.log_params(flatten(config))
        run.used(PREPARED, job.info.digest)
        found = find_lr(job)
        for step, (rate, loss) in enumerate(zip(found.lrs, found.losses, strict=True)):
            run.log_metrics({"lr/rate": rate, "lr/loss": loss}, step)
        run.log_metrics({"lr/suggestion": found.suggestion})
        draw_range_test(found.lrs, found.losses, found.suggestion, out)
        run.log_artifacts(out)
    click.echo(f"lr: {found.suggestion:g} is suggested for {config.train.optimizer}; see {out}")


@main.command()
@click.argument("recipe", required=False)
def use(recipe: str | None) -> None:
    """Write RECIPE's values into params.yaml; without RECIPE, list what there is.

    Comments and all other values stay. `git diff params.yaml` shows what has changed.
    """
    from darkroom.params import shown
    from darkroom.paths import PARAMS, RECIPES
    from darkroom.recipes import list_recipes, use_recipe

    if recipe is None:
        for name, about in list_recipes(RECIPES).items():
            click.echo(f"{name}\n    {about}")
        return
    changes = use_recipe(recipe, RECIPES, PARAMS)
    for name, before, now in changes:
        click.echo(f"{name}: {shown(before)} -> {shown(now)}")
    click.echo(f"{PARAMS}: {len(changes)} values changed; next: dvc repro", err=True)


@main.command()
@click.argument("pattern", required=False)
def models(pattern: str | None) -> None:
    """List the models that model.name may be: parameters, multiply-adds an image, usual size.

    PATTERN is a part of the name or a glob, such as 'timm:*vit*'. Without one, timm's are only counted.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from darkroom.models.catalogue import NUM_CLASSES, entries, has_timm, matching_names, num_timm
    from darkroom.progress import progress_bar

    names = matching_names(pattern)
    if not names:
        where = "" if has_timm() else "; timm's are not there: pip install 'darkroom[timm]'"
        raise UserError(f"no model is called like {pattern}; `darkroom models` lists them{where}")
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model.name", overflow="fold")
    for heading in ("pixels", "parameters", "million multiply-adds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    with progress_bar("models", len(names), "models") as bar:
        for entry in entries(names):
            millions = f"{entry.num_multiply_adds / 1e6:,.1f}"
            parameters = f"{entry.num_parameters:,}"
            table.add_row(entry.name, f"{entry.side}", parameters, millions, entry.about)
            bar.advance(1)
    Console().print(table)
    click.echo(
        f"{len(names)} model{'s' * (len(names) > 1)}, of RGB images; our own with "
        f"{NUM_CLASSES['own']} classes, libraries' with {NUM_CLASSES['library']:,}"
    )
    if pattern is None:
        about = (
            f"{num_timm():,} more, `darkroom models 'timm:*'` lists them"
            if has_timm()
            else ("a thousand more with pip install 'darkroom[timm]'")
        )
        click.echo(f"timm: {about}")


@main.command()
@click.option(
    "--file", default="params.yaml", type=click.Path(path_type=Path), help="Another params.yaml."
)
@click.option(
    "--size", type=click.IntRange(min=1), help="Pixels of a side.  [default: the prepared data's]"
)
@click.option("--channels", type=click.Choice(["1", "3"]), help="1: grey, 3: RGB.")
@click.option("--classes", type=click.IntRange(min=2), help="How many.")
def summary(file: Path, size: int | None, channels: str | None, classes: int | None) -> None:
    """Show the network that params.yaml chooses, layer by layer, for the prepared data.

    Where there is none, for RGB images of 32 x 32 pixels and 10 classes.
    """
    from darkroom.data.info import load_info
    from darkroom.models.catalogue import blank_spec, make_without_weights
    from darkroom.models.summary import summary_text
    from darkroom.params import load_params
    from darkroom.paths import DATASET

    input_size, num_channels, num_classes = (32, 32), 3, 10
    if DATASET.exists():
        info = load_info(DATASET)
        input_size, num_channels, num_classes = info.input_size, info.channels, len(info.class_names)
    spec = blank_spec(
        input_size=(size, size) if size else input_size,
        channels=int(channels) if channels else num_channels,
        num_classes=classes or num_classes,
        **load_params(file).model.model_dump(exclude={"weights"}),
    )
    height, width = spec.input_size
    colours = "RGB" if spec.channels == 3 else "grey"
    click.echo(
        f"{spec.name} for {colours} images of {height} x {width} pixels, "
        f"{len(spec.class_names)} classes\n"
    )
    click.echo(summary_text(make_without_weights(spec), spec), nl=False)


main.add_command(promote)
main.add_command(sync)
main.add_command(trace)


def _cells(classes: Sequence[str], probabilities: Sequence[float], joined: bool) -> list[str]:
    numbers = [f"{p:.6f}" for p in probabilities]
    if joined:
        return ["|".join(classes), "|".join(numbers)]
    return [cell for pair in zip(classes, numbers, strict=True) for cell in pair]


def _open_csv(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror})") from None

"""darkroom predict: classify images with an exported model."""

import csv
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from darkroom.prediction.decisions import Failure, Prediction
    from darkroom.prediction.predictor import Predictor
    from darkroom.prediction.rows import RowPredictor


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="EXPORT")
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write CSV to this file, completely or not at all."
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write the mask of each image as PNG into this folder, if the model predicts masks.",
)
@click.option(
    "--tile",
    is_flag=True,
    help="With --masks: predict images that are larger than the training images in tiles, at their own"
    " scale, instead of shrinking them.",
)
@click.option(
    "--force", is_flag=True, help="Replace the file of --out whatever it holds, and files in --masks."
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    help="Number of classes per image.  [default: 1; if an image may have several labels, those that"
    " reach their threshold]",
)
@click.option(
    "--abstain",
    is_flag=True,
    help="Print `abstain` instead of a class of which the model is not sure enough (of several labels:"
    " those that are left open), and the set of possible classes.",
)
@click.option("--tiff", is_flag=True, help="Also read TIFF files.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(("onnx", "onnx-fp16", "onnx-int8")),
    default="onnx",
    show_default=True,
    help="The exported format that classifies.",
)
def predict(
    model: Path,
    images: tuple[str, ...],
    out: Path | None,
    masks: Path | None,
    tile: bool,
    force: bool,
    top_k: int | None,
    abstain: bool,
    tiff: bool,
    format_name: str,
) -> None:
    """Classify IMAGES (files, folders or globs) with the model in the folder EXPORT.

    Prints one line per image: path, class and probability, separated by tabs. If an image may have
    several labels, labels and probabilities are joined by |. The last two columns say how unlike the
    training images an image is, and whether it is unfamiliar: over 1, as 5 % of images like the
    validation images are. --abstain uses the thresholds and the sets that `evaluate` has chosen
    (evaluate.target_precision and evaluate.coverage); the classes of a set are joined by |, and a set
    may be empty. If an image may have several labels, a column before the set has the labels that are
    left open. Files that cannot be read are reported on standard error; the other files are still
    classified, and the exit status is 1.

    If the model classifies the rows of a table, IMAGES is one table (CSV, Parquet or JSON Lines), and
    the columns of the result are those of the table, followed by those above. Use --force to replace an
    earlier result.

    If the model predicts masks, --masks is needed. A mask has the size of its image. The columns are
    then the image, its mask, and the share of each class in the mask.
    """
    from darkroom.errors import UserError, counted
    from darkroom.escape import for_line
    from darkroom.prediction.decisions import Failure
    from darkroom.prediction.description import takes_rows
    from darkroom.prediction.masks import mask_files
    from darkroom.prediction.predictor import Predictor, find_images
    from darkroom.prediction.rows import RowPredictor
    from darkroom.prediction.table import check_target, is_own, open_table
    from darkroom.progress import progress_bar

    paths = find_images(images)
    if out:
        if len(paths) > 1:  # an earlier table among the images is not an image
            paths = [path for path in paths if not is_own(path, out)]
        check_target(out, model, paths, force)
    if masks is not None and top_k is not None:
        raise UserError("--top-k: a mask has one class per pixel; use it without --masks")
    if tile and masks is None:
        raise UserError("--tile: only masks are predicted in tiles; use it with --masks FOLDER")
    predictor: Predictor | RowPredictor
    rows: Iterator[list[str] | Failure]
    num_inputs, of_rows, unit = len(paths), takes_rows(model), "image"
    if of_rows:
        if masks is not None or len(paths) != 1:
            raise UserError(f"{model}: takes the rows of one table, and predicts no masks")
        predictor, unit = RowPredictor(model, abstain), "row"
        loaded = predictor.load(paths[0])
        num_inputs, names = len(loaded), list(loaded.columns)
        outcomes = predictor.predict(loaded, top_k)
        columns, rows = _label_table(predictor, outcomes, names, top_k, abstain)
    elif masks is None:
        predictor = Predictor(model, tiff, abstain, format_name=format_name)
        outcomes = predictor.predict(paths, top_k)
        columns, rows = _label_table(predictor, outcomes, ["path"], top_k, abstain)
    else:
        predictor = Predictor(model, tiff, abstain, masks=True, format_name=format_name)
        columns, rows = _mask_table(predictor, paths, mask_files(paths, masks, model, force), tile)
    several = min(top_k or 1, len(predictor.class_names)) > 1
    has_header = bool(out or masks) or of_rows or several
    num_failures = 0
    with ExitStack() as stack:
        file = stack.enter_context(open_table(out)) if out else sys.stdout
        table = csv.writer(file, delimiter="," if out else "\t", lineterminator="\n")
        if has_header:
            table.writerow(columns)
        bar = stack.enter_context(progress_bar("predict", len(paths))) if out else None
        for row in rows:
            if isinstance(row, Failure):
                num_failures += 1
                name = for_line(click.format_filename(row.path))
                click.echo(f"{name}: not classified: {row.reason}", err=True)
            else:
                table.writerow(row)
            if bar:
                bar.advance(1)
    num_done = num_inputs - num_failures
    if out:
        click.echo(f"{out}: {counted(num_done, unit)} classified", err=True)
    if num_failures:
        what = "rows" if of_rows else "files"
        click.echo(f"{num_failures} of {num_inputs} {what} could not be classified", err=True)
        sys.exit(1)


def _label_table(
    predictor: "Predictor | RowPredictor",
    outcomes: "Iterator[Prediction | Failure]",
    first: list[str],
    top_k: int | None,
    abstain: bool,
) -> tuple[list[str], "Iterator[list[str] | Failure]"]:
    """Return the columns, and a row for each image or row with its classes.

    Args:
        first: the first columns: the path of an image, or the columns of a table.
    """
    from darkroom.prediction.decisions import Failure

    num_columns = min(top_k or 1, len(predictor.class_names))
    columns = list(predictor.target.columns if top_k is None else ("class", "probability"))
    columns += [f"{name}_{k}" for k in range(2, num_columns + 1) for name in ("class", "probability")]
    has_sets = abstain and predictor.has_sets
    columns += ["unsure"] if predictor.leaves_open else []
    columns += ["set"] if has_sets else []
    columns += ["unfamiliarity", "unfamiliar"] if predictor.has_unfamiliarity else []
    while taken := set(first) & set(columns):
        columns = [f"predicted_{name}" if name in taken else name for name in columns]

    def rows() -> Iterator[list[str] | Failure]:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                yield outcome
                continue
            numbers = [f"{p:.6f}" for p in outcome.probabilities]
            if top_k is None:
                cells = predictor.target.cells(outcome.classes, numbers)
            else:
                cells = [c for pair in zip(outcome.classes, numbers, strict=True) for c in pair]
            cells += ["|".join(outcome.unsure)] if predictor.leaves_open else []
            cells += ["|".join(outcome.possible)] if has_sets else []
            if (score := outcome.unfamiliarity) is not None:
                cells += [f"{score:.4f}", "true" if score > 1 else "false"]
            yield [*(outcome.cells or [click.format_filename(outcome.path)]), *cells]

    return [*first, *columns], rows()


def _mask_table(
    predictor: "Predictor", paths: list[Path], files: list[Path], tile: bool
) -> tuple[list[str], "Iterator[list[str] | Failure]"]:
    """Return the columns, and a row for each image with the shares of the classes; write the masks."""
    from darkroom.prediction.decisions import Failure
    from darkroom.prediction.masks import class_shares, write_mask

    names = predictor.class_names

    def rows() -> Iterator[list[str] | Failure]:
        for outcome, file in zip(predictor.predict_masks(paths, tile), files, strict=True):
            if isinstance(outcome, Failure):
                yield outcome
                continue
            write_mask(outcome.mask, file)
            shares = [f"{share:.6f}" for share in class_shares(outcome.mask, len(names)).tolist()]
            yield [click.format_filename(outcome.path), click.format_filename(file), *shares]

    return ["path", "mask", *names], rows()

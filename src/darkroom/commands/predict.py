"""darkroom predict: classify images with an exported model."""

import os
import sys
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from darkroom.commands.options import format_option, ray_option

if TYPE_CHECKING:
    from darkroom.prediction.remote import InputFile


class _PlaceParam(click.Path):
    """A path, or an address."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from darkroom.prediction.remote import RemoteFile, file_of

        file = file_of(os.fsdecode(value))
        return file if isinstance(file, RemoteFile) else super().convert(file, param, ctx)


class _ListParam(click.File):
    """A file that is open for reading, also one at an address."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from darkroom.prediction.remote import RemoteFile, file_of

        file = file_of(value) if isinstance(value, str) else value
        if isinstance(file, RemoteFile):
            return file.open()
        return super().convert(value if file is value else os.fspath(file), param, ctx)


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="EXPORT")
@click.argument("images", nargs=-1)
@click.option(
    "--from-file",
    type=_ListParam("rb"),
    metavar="FILE",
    help="Also classify the images that a file lists, one path or address per line; - reads the list"
    " from standard input.",
)
@click.option(
    "--out",
    type=_PlaceParam(),
    metavar="FILE",
    help="Write this file, which may be at an address, completely or not at all: Parquet if it ends with"
    " .parquet, otherwise CSV. If the command is stopped, the same command continues it; no row is lost"
    " or repeated.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="With --out: discard the rows of a command that was stopped, and start again.",
)
@click.option(
    "--masks",
    type=_PlaceParam(),
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
@format_option
@ray_option
def predict(
    model: Path,
    images: tuple[str, ...],
    from_file: BinaryIO | None,
    out: "InputFile | None",
    restart: bool,
    masks: "InputFile | None",
    tile: bool,
    force: bool,
    top_k: int | None,
    abstain: bool,
    tiff: bool,
    format_name: str,
    address: str | None,
) -> None:
    """Classify IMAGES (files, folders, globs or addresses) with the model in the folder EXPORT.

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

    Addresses such as s3://bucket/folder/ are read with the credentials in the environment.

    If the model predicts masks, --masks is needed. A mask has the size of its image. The columns are
    then the image, its mask, and the share of each class in the mask.
    """
    from darkroom.cluster import connected
    from darkroom.digests import file_sha256
    from darkroom.errors import UserError, counted
    from darkroom.models.exported import DESCRIPTION
    from darkroom.prediction.batch import print_rows, versions, write_rows
    from darkroom.prediction.description import takes_rows
    from darkroom.prediction.listing import list_images, read_list
    from darkroom.prediction.table import (
        check_target,
        is_stream,
        open_table,
        row_writer,
        without_target,
    )
    from darkroom.prediction.work import label_work, mask_work, row_work

    if not images and from_file is None:
        raise click.UsageError("name IMAGES (files, folders or globs), or a list with --from-file")
    if restart and out is None:
        raise UserError("--restart: only a command with --out leaves rows; use it with --out FILE")
    if masks is not None and not isinstance(masks, Path):
        raise UserError(f"--masks {masks}: masks are written to this machine; use a folder")
    if masks is not None and top_k is not None:
        raise UserError("--top-k: a mask has one class per pixel; use it without --masks")
    if tile and masks is None:
        raise UserError("--tile: only masks are predicted in tiles; use it with --masks FOLDER")
    paths: Iterable[InputFile] = chain(list_images(images), read_list(from_file or []))
    if out:
        check_target(out, model, force)
        paths = without_target(paths, out)
    cluster = None
    if address is not None:
        if masks is not None or takes_rows(model):
            raise UserError("--ray: rows and masks are predicted on this machine; use it without --ray")
        cluster = click.get_current_context().with_resource(connected(address, None))
    if takes_rows(model):
        tables = list(islice(paths, 2))
        if masks is not None or len(tables) != 1:
            raise UserError(f"{model}: takes the rows of one table, and predicts no masks")
        work = row_work(model, tables[0], top_k, abstain)
    elif masks is None:
        work = label_work(model, tiff, top_k, abstain, format_name, cluster)
    else:
        work = mask_work(model, masks, tile, force, tiff, abstain, format_name)
    if out and not is_stream(out):
        command = {
            "the export": file_sha256(model / DESCRIPTION),
            "the options": [top_k, abstain, tiff, format_name, f"{masks}", tile],
            "the working directory": os.getcwd(),
            "the versions of packages": versions(),
        }
        num_inputs, num_failures = write_rows(work, paths, out, command, restart, _report)
    elif isinstance(out, Path):
        with open_table(out) as file:
            write = row_writer(file, ",")
            num_inputs, num_failures = print_rows(work, paths, write, True, _report)
    else:
        has_header = masks is not None or work.num_rows is not None or (top_k or 1) > 1
        write = row_writer(sys.stdout, "\t")
        num_inputs, num_failures = print_rows(work, paths, write, has_header, _report)
    if out:
        _report(f"{out}: {counted(num_inputs - num_failures, work.unit)} classified")
    if num_failures:
        what = "files" if work.num_rows is None else "rows"
        _report(f"{num_failures} of {num_inputs} {what} could not be classified")
        sys.exit(1)


def _report(message: str) -> None:
    click.echo(message, err=True)

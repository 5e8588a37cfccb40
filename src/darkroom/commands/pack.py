"""darkroom pack: packs a folder of images into one file."""

from pathlib import Path

import click

from darkroom.errors import UserError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The archive.  [default: beside FOLDER]")
@click.option("--force", is_flag=True, help="Replace an existing archive.")
def pack(folder: Path, out: Path | None, force: bool) -> None:
    """Pack FOLDER into a tar archive, which data.path accepts like the folder.

    DVC then tracks a single file. The same files give the same bytes.
    """
    from darkroom.collection.archive import pack
    from darkroom.progress import progress_bar

    if out is None:
        if folder.name in ("", ".."):
            raise UserError(f"{folder} has no name of its own; name the archive with --out")
        out = folder.with_name(f"{folder.name}.tar")
    with progress_bar("pack") as bar:
        num_files = pack(folder, out, bar.expect, bar.advance, overwrite=force)
    click.echo(f"{out}: {num_files:,} files, {out.stat().st_size / 1e6:,.1f} MB")
    click.echo(f"next: dvc add {out}, and in params.yaml data.path: {out}")

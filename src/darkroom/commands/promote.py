"""darkroom promote: chooses the version of the model that is in use."""

from typing import TYPE_CHECKING

import click

from darkroom.errors import UserError
from darkroom.tracking.redacted_output import redacted_output

if TYPE_CHECKING:
    from darkroom.tracking.mlflow.promotion import Version


@click.command()
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--why", metavar="TEXT", help="The reason, which is recorded with the version.")
@click.option(
    "--dry-run",
    "-n",
    is_flag=True,
    help="Only compare the version with the champion, and check its files.",
)
@click.option("--list", "list_only", is_flag=True, help="List the versions: scores, who, when, why.")
@click.option("--force", is_flag=True, help="Promote even a worse version, or without a comparison.")
@redacted_output()
def promote(version: int | None, why: str | None, dry_run: bool, list_only: bool, force: bool) -> None:
    """Make VERSION of the model the champion, the version in use.

    The default is the candidate, which the last `dvc repro` exported. Users of MLflow's
    models:/NAME@champion then get this version. To go back, promote an older version.

    The version's files are first read back from MLflow and compared with the digests recorded at their
    export; a version whose files are missing or differ is not promoted. A version that is worse than the
    champion, as `darkroom compare` judges, needs --force, and so does one whose comparison failed, for
    example because predictions are damaged. Versions that cannot be compared, for example because they
    were tested on different images, are promoted with a remark.
    """
    from darkroom.terminal import make_console
    from darkroom.tracking.address import Address
    from darkroom.tracking.mlflow.promotion import Registry
    from darkroom.tracking.mlflow.versions import comparison, remarks, table_of_versions
    from darkroom.tracking.person import user_name
    from darkroom.tracking.root import project_root

    if why is not None and not why.strip():
        raise UserError("--why is empty; give the reason why this version is better")
    root, console = project_root(), make_console()
    registry = Registry.open(root, Address.of(root))
    new = registry.version(version) if version else registry.candidate
    is_done = new is None or new == registry.champion
    if list_only or (version is None and why is None and not dry_run and is_done):
        console.print(table_of_versions(registry))
        return
    if new is None:
        raise UserError("there is no candidate; name the VERSION (`darkroom promote --list`)")
    if is_done:
        click.echo(registry.read_back(new))
        click.echo(f"version {new.number} is already the champion")
        return
    console.print(comparison(registry, new))
    for remark in remarks(registry, new):
        click.echo(remark, err=True)
    old = registry.champion
    objection = "" if old is None else _objection(old, new)
    click.echo(registry.read_back(new))
    if dry_run:
        return
    if why is None:
        raise UserError(
            f"version {new.number} is not promoted: give the reason with --why 'some words'; "
            "it is recorded with the version"
        )
    if objection and not force:
        raise UserError(f"version {new.number} is not promoted: {objection}; --force promotes it")
    registry.promote(new, why, user_name())
    click.echo(f"version {new.number} is the champion now")
    if old:
        click.echo(f"to go back: darkroom promote {old.number} --why '...'")


def _objection(champion: "Version", new: "Version") -> str:
    """Print how a version compares to the champion; return why not to promote it, or an empty string."""
    from darkroom.comparison.from_mlflow import of_version
    from darkroom.comparison.predictions import NotComparableError
    from darkroom.comparison.verdict import compare

    try:
        comparison = compare(of_version(champion), of_version(new))
    except NotComparableError as error:  # of other data, or of an earlier darkroom
        click.echo(
            f"version {new.number} was not compared with the champion, because they cannot be compared:"
            f" {error}",
            err=True,
        )
        return ""
    except UserError as error:
        click.echo(f"the comparison with the champion failed: {error}", err=True)
        return "the comparison with the champion failed"
    click.echo(comparison.sentence)
    return "it is worse than the champion" if comparison.verdict == "worse" else ""

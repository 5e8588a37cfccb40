"""darkroom promote: chooses the version of the model that is in use."""

from typing import TYPE_CHECKING

import click

from darkroom.errors import UserError
from darkroom.tracking.secrets import redacted_output

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
@click.option("--force", is_flag=True, help="Promote the version even if it is worse than the champion.")
@redacted_output()
def promote(version: int | None, why: str | None, dry_run: bool, list_only: bool, force: bool) -> None:
    """Make VERSION of the model the champion, the version in use.

    The default is the candidate, which the last `dvc repro` exported. Users of MLflow's
    models:/NAME@champion then get this version. To go back, promote an older version.

    The version's files are first read back from MLflow and compared with the digests recorded at their
    export; a version whose files are missing or differ is not promoted. A version that is worse than the
    champion, as `darkroom compare` judges, needs --force.
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
    is_worse = old is not None and _is_worse(old, new)
    click.echo(registry.read_back(new))
    if dry_run:
        return
    if why is None:
        raise UserError(
            f"version {new.number} is not promoted: give the reason with --why 'some words'; "
            "it is recorded with the version"
        )
    if is_worse and not force:
        raise UserError(
            f"version {new.number} is not promoted: it is worse than the champion; --force promotes it"
        )
    registry.promote(new, why, user_name())
    click.echo(f"version {new.number} is the champion now")
    if old:
        click.echo(f"to go back: darkroom promote {old.number} --why '...'")


def _is_worse(champion: "Version", new: "Version") -> bool:
    """Print how a version stands against the champion, and return whether it is worse."""
    from darkroom.comparison.sides import of_version
    from darkroom.comparison.verdict import compare

    try:
        comparison = compare(of_version(champion), of_version(new))
    except UserError as error:  # older versions may have no predictions
        click.echo(f"the champion and version {new.number} cannot be compared: {error}", err=True)
        return False
    click.echo(comparison.sentence)
    return comparison.verdict == "worse"

"""darkroom init: makes a project of one's own, or brings one to the installed version."""

import sys
from pathlib import Path

import click


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--recipe", metavar="R", help="A recipe to begin with; `darkroom use` lists them.")
@click.option(
    "--images",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Your images, one folder per class, or a .tar of them; they are copied.",
)
@click.option(
    "--ci",
    type=click.Choice(["github", "gitlab", "none"]),
    help="For which hosting a workflow is written.  [default: github; with --no-git: none]",
)
@click.option("--no-git", is_flag=True, help="Without a git repository.")
@click.option("--upgrade", is_flag=True, help="Show what the installed version changes in a project.")
@click.option("--yes", is_flag=True, help="With --upgrade: apply it without asking.")
def init(
    folder: Path | None,
    recipe: str | None,
    images: Path | None,
    ci: str | None,
    no_git: bool,
    upgrade: bool,
    yes: bool,
) -> None:
    """Make a project of your own in FOLDER, a new folder.

    It has dvc.yaml, params.yaml, a script per stage, a CI workflow and a README; `dvc repro` runs it.
    Without --images, it classifies scikit-learn's handwritten digits. --images copies your images to
    data/mine and adds them to DVC; the originals are only read.

    With --upgrade, FOLDER is an existing project (default: the working folder). What the installed
    version of darkroom changes is shown as a diff, and is applied when you agree. A file that you have
    edited is never overwritten: its new version is written beside it, as FILE.new.
    """
    from darkroom.errors import UserError

    if upgrade:
        if recipe or images or ci or no_git:
            raise UserError("--upgrade takes no option but --yes; `darkroom use` applies recipes")
        _upgrade(folder or Path(), yes)
        return
    if folder is None:
        raise UserError("name a new folder for the project: darkroom init mine")
    if yes:
        raise UserError("--yes is for --upgrade")
    _create(folder, recipe, images, ci, no_git)


def _create(folder: Path, recipe: str | None, images: Path | None, ci: str | None, no_git: bool) -> None:
    from darkroom.progress import progress_bar
    from darkroom.project.create import Wish, check_place, create, describe
    from darkroom.project.images import find_images

    check_place(folder, with_git=not no_git)
    hosting = ci or ("none" if no_git else "github")
    wish = Wish(
        folder=folder,
        recipe=recipe,
        images=find_images(images, folder) if images else None,
        with_git=not no_git,
        hosting=None if hosting == "none" else hosting,
    )
    with progress_bar("copy", len(wish.images.files) if wish.images else 0, "files") as bar:
        written = create(wish, bar.advance)
    for line in describe(wish, written):
        click.echo(f"init: {line}")
    here = folder.resolve() == Path.cwd()
    click.echo("next: dvc repro" if here else f"next: cd {folder}, then dvc repro", err=True)


def _upgrade(root: Path, yes: bool) -> None:
    from darkroom.project.upgrade import plan_upgrade

    upgrade = plan_upgrade(root)
    version = upgrade.record.version
    if not upgrade.is_needed:
        click.echo(f"init: nothing to change: the project is that of darkroom {version}")
        return
    for change in upgrade.changes:
        click.echo(change.diff())
    for remark in upgrade.remarks:
        click.echo(f"params.yaml: {remark}")
    click.echo(f"init: from darkroom {upgrade.before} to {version}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            click.echo("init: nothing is written; `darkroom init --upgrade --yes` applies it", err=True)
            sys.exit(1)
        click.confirm("Apply it?", abort=True, err=True)
    upgrade.apply(root)
    for change in upgrade.changes:
        if change.is_edited:
            click.echo(f"init: {change.path} has edits: merge {change.target} into it, and delete that")
    click.echo("next: darkroom plan shows what runs again", err=True)

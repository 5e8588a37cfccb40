"""darkroom verify: finds damaged files among those that DVC tracks, or in an exported folder."""

import sys
from pathlib import Path

import click


@click.command()
@click.argument("path", required=False, metavar="[EXPORT]", type=click.Path(path_type=Path, exists=True))
@click.option("--all", "names_all", is_flag=True, help="Name every damaged file.")
def verify(path: Path | None, names_all: bool) -> None:
    """Find damaged files.

    Hashes everything that dvc.lock and .dvc files name, in the project and in DVC's cache, and
    compares it with the recorded hashes. Each finding says how to repair it: DVC restores damaged
    files of its cache as if they were intact, so they have to be deleted first. Nothing is changed.

    With EXPORT, an exported folder or a model file, only that is checked, which does not need DVC.

    The exit status is 0 if everything is intact, 1 if something is damaged, missing or changed.
    """
    if path is not None:
        _verify_export(path)
        return
    from darkroom.progress import progress_bar
    from darkroom.tracking.ledger.findings import NUM_NAMED, summarised
    from darkroom.tracking.ledger.soundness import Soundness
    from darkroom.tracking.ledger.tracked import load_project
    from darkroom.tracking.root import project_root

    project = load_project(project_root())
    for remark in project.remarks:
        click.echo(f"verify: {remark}", err=True)
    total = sum(item.size * (2 if item.is_cached else 1) for item in project.tracked)
    num_findings = 0
    with progress_bar("verify", total, "bytes") as bar:
        soundness = Soundness(project, bar.advance, sys.maxsize if names_all else NUM_NAMED)
        findings = summarised(list(soundness.check()), project)
    for finding in findings:
        num_findings += 1
        click.echo(f"{finding.kind}: {finding.subject}: {finding.problem}")
        click.echo(f"    {finding.remedy}")
    num_owners = len({item.owner for item in project.tracked})
    click.echo(
        f"verify: {soundness.num_files:,} files of {len(project.tracked)} outputs and inputs of "
        f"{num_owners} stages and .dvc files: "
        + (f"{num_findings} not as recorded" if num_findings else "all as recorded"),
        err=True,
    )
    if num_findings:
        sys.exit(1)


def _verify_export(path: Path) -> None:
    """Check an exported folder, or a model file, against the digests that it holds."""
    from darkroom.errors import UserError
    from darkroom.models.exported import DESCRIPTION, check_exported, load_description
    from darkroom.models.own_digest import check_digest
    from darkroom.progress import progress_bar

    if path.is_file():
        check_digest(path)
        click.echo(f"verify: {path}: all as recorded", err=True)
        return
    _, digests = load_description(path)
    problems = []
    with progress_bar("verify", sum(digest.size for digest in digests.values()), "bytes") as bar:
        for name, digest in sorted(digests.items()):
            try:
                check_exported(path, digests, name)
            except UserError as error:
                problems.append(f"{error}")
            bar.advance(digest.size)
    files = (file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())
    others = sorted({*files} - {*digests, DESCRIPTION})
    for name in others:
        click.echo(f"verify: {path / name}: {DESCRIPTION} does not name it; not checked", err=True)
    for problem in problems:
        click.echo(problem)
    summary = f"{len(problems)} not as recorded" if problems else "all as recorded"
    click.echo(f"verify: {path}: {len(digests)} files and {DESCRIPTION}: {summary}", err=True)
    if problems:
        sys.exit(1)

"""darkroom verify: finds damaged files among those that DVC tracks, or in an exported folder."""

import sys
from pathlib import Path

import click

from darkroom.commands.options import signature_option
from darkroom.errors import UserError


@click.command()
@click.argument("path", required=False, metavar="[EXPORT]", type=click.Path(path_type=Path, exists=True))
@click.option("--all", "names_all", is_flag=True, help="Name every damaged file.")
@click.option(
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A public Ed25519 key in PEM: EXPORT must be signed with its private key.",
)
@signature_option
def verify(path: Path | None, names_all: bool, key: Path | None, signature: Path | None) -> None:
    """Find damaged files.

    Hashes everything that dvc.lock and .dvc files name, in the project and in DVC's cache, and
    compares it with the recorded hashes. Each finding says how to repair it: DVC restores damaged
    files of its cache as if they were intact, so they have to be deleted first. Nothing is changed.

    With EXPORT, an exported folder or a model file, only that is checked, which does not need DVC: every
    file of a folder against model.json and certificate.json. With --key, the certificate must also be
    signed (`darkroom sign`), so that files which somebody has exchanged together with their digests
    are found.

    The exit status is 0 if everything is intact, 1 if something is damaged, missing or changed, or if
    the signature does not hold.
    """
    if (key or signature) and (path is None or path.is_file()):
        raise UserError("--key and --signature: name the exported folder that is signed")
    if signature and not key:
        raise UserError("--signature: needs --key, the public key")
    if path is not None and path.is_file():
        from darkroom.models.own_digest import check_digest

        check_digest(path)
        click.echo(f"verify: {path}: all as recorded", err=True)
        return
    if path is not None:
        _verify_export(path, key, signature)
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


def _verify_export(path: Path, key: Path | None, signature: Path | None) -> None:
    """Check an exported folder against its digests, its certificate and, with a key, its signature."""
    from darkroom.export.folder import check_folder, exported_bytes
    from darkroom.export.signature import (
        BadSignature,
        check_signature,
        key_id,
        load_public_key,
        signature_path,
    )
    from darkroom.export.statement import CERTIFICATE
    from darkroom.models.exported import DESCRIPTION
    from darkroom.progress import progress_bar

    public = load_public_key(key) if key else None
    with progress_bar("verify", exported_bytes(path), "bytes") as bar:
        checked = check_folder(path, bar.advance)
    problems, signed = list(checked.problems), signature or signature_path(path)
    remark = f"{signed} is not checked without --key" if signed.exists() else "not signed"
    if public:
        remark = f"signed with the key {key_id(public)[:16]}..."
        try:
            check_signature(checked.certificate, public, signed)
        except BadSignature as error:
            remark = "no valid signature"
            problems.append(f"{signed}: {error}")
    for name in checked.others:
        click.echo(f"verify: {path / name}: {DESCRIPTION} does not name it; not checked", err=True)
    for problem in problems:
        click.echo(problem)
    files = f"{checked.num_files} files, {DESCRIPTION} and {CERTIFICATE}"
    summary = f"{len(problems)} not as recorded" if problems else "all as recorded"
    click.echo(
        f"verify: {path}: {files}: {summary}; {remark}",
        err=True,
    )
    if problems:
        sys.exit(1)

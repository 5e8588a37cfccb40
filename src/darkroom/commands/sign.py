"""darkroom sign: signs the certificate of an exported folder."""

import sys
from functools import partial
from pathlib import Path

import click

from darkroom.commands.options import signature_option


@click.command()
@click.argument("path", metavar="EXPORT", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Your private Ed25519 key in PEM. The password of an encrypted key is asked for, or read "
    "from standard input.",
)
@signature_option
def sign(path: Path, key: Path, signature: Path | None) -> None:
    """Sign the certificate of an exported folder.

    The certificate, certificate.json, names every file of EXPORT with its digest, so the signature
    covers them all. All files are checked first. The signature is written beside the folder, because
    the folder is an output of the pipeline; pass on both. `darkroom verify EXPORT --key FILE` checks
    it with the public key.

    The exit status is 0 if the export is signed, 1 if something in it is damaged or missing.
    """
    from darkroom.export.folder import check_folder, exported_bytes
    from darkroom.export.signature import key_id, load_private_key, signature_path
    from darkroom.export.signature import sign as write_signature
    from darkroom.progress import progress_bar

    private = load_private_key(key, partial(_password, key))
    with progress_bar("sign", exported_bytes(path), "bytes") as bar:
        checked = check_folder(path, bar.advance)
    for problem in checked.problems:
        click.echo(problem)
    if checked.problems:
        click.echo(f"sign: {path}: {len(checked.problems)} not as recorded: not signed", err=True)
        sys.exit(1)
    written = signature or signature_path(path)
    write_signature(checked.certificate, private, written)
    key_name = key_id(private.public_key())
    click.echo(f"sign: {written} signs {checked.num_files} files with the key {key_name[:16]}...")


def _password(key: Path) -> str:
    if sys.stdin.isatty():
        return f"{click.prompt(f'Password of {key}', hide_input=True, err=True)}"
    return sys.stdin.readline().rstrip("\n")

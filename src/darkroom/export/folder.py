"""Checks every file of an exported folder against model.json and the certificate."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import UserError
from darkroom.export.statement import CERTIFICATE, certificate_problems, load_certificate
from darkroom.models.exported import DESCRIPTION, check_exported, load_description


@dataclass(frozen=True)
class Checked:
    """What was found in an exported folder."""

    num_files: int
    """Number of files that model.json records."""
    problems: list[str]
    """A message for each file that is missing, damaged or from another export."""
    others: list[str]
    """Names of files that are not a part of the export."""
    certificate: bytes
    """The content of the certificate; empty if it is damaged."""


def exported_bytes(folder: Path) -> int:
    """Return the size of the files that model.json records; raises UserError as ``load_description``."""
    return sum(digest.size for digest in load_description(folder)[1].values())


def check_folder(folder: Path, advance: Callable[[int], object] = lambda num_bytes: None) -> Checked:
    """Hash all files of an exported folder, and compare them with model.json and the certificate.

    Args:
        advance: is called with the size of each file after it was hashed.

    Raises:
        UserError: model.json is missing, damaged or from an earlier version.
    """
    _, digests = load_description(folder)
    problems = []
    for name, digest in sorted(digests.items()):
        try:
            check_exported(folder, digests, name)
        except UserError as error:
            problems.append(f"{error}")
        advance(digest.size)
    certificate = b""
    try:
        certificate, certified, _ = load_certificate(folder)
        problems += certificate_problems(folder, digests, certified)
    except UserError as error:
        problems.append(f"{error}")
    files = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    others = sorted({*files} - {*digests, DESCRIPTION, CERTIFICATE})
    return Checked(len(digests), problems, others, certificate)

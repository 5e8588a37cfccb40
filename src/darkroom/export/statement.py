"""certificate.json: an in-toto statement on an export, with a digest per file and what it was made from.

The format is in-toto's Statement v1. model.json has the digests that users of the model check; the
certificate has the same ones and that of model.json, so that one signature covers the whole folder.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from darkroom.bounded_json import parse_json, read_bounded
from darkroom.digests import FileDigest, Mismatch, file_sha256, seal, unseal
from darkroom.errors import UserError, brief
from darkroom.models.exported import DESCRIPTION, MAX_BYTES, REMEDY, load_description

CERTIFICATE = "certificate.json"

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:darkroom:export:v1"


class _Digest(BaseModel, extra="forbid"):
    sha256: str


class _Subject(BaseModel, extra="forbid"):
    name: str
    digest: _Digest


_SUBJECTS = TypeAdapter(list[_Subject])


def write_certificate(folder: Path, predicate: Mapping[str, Any]) -> Path:
    """Write the certificate of an exported folder. All other files must have been written.

    Args:
        predicate: what JSON can represent, without times and other things that change on a rerun.

    Raises:
        OSError: a file cannot be read or written.
        UserError: model.json is missing or damaged.
    """
    _, digests = load_description(folder)
    names = _digests_of_all(folder, digests)
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": names[name]}} for name in sorted(names)],
        "predicateType": PREDICATE_TYPE,
        "predicate": seal(predicate),
    }
    path = folder / CERTIFICATE
    path.write_bytes(_encoded(statement))
    return path


def load_certificate(folder: Path) -> tuple[bytes, dict[str, str], dict[str, Any]]:
    """Read certificate.json.

    Returns:
        Its bytes, the SHA-256 of each file of the export by name, and the predicate.

    Raises:
        UserError: it is missing, damaged or edited.
    """
    path = folder / CERTIFICATE
    try:
        content = read_bounded(path, MAX_BYTES)
        document = parse_json(content)
        if content != _encoded(document):  # so that no byte can change, not even between values
            raise _damaged(path, "not written by darkroom")
    except FileNotFoundError:
        raise UserError(
            f"{path}: the file is missing; {REMEDY} (exports of earlier versions have no certificate)"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, brief(error)) from None
    try:
        types = STATEMENT_TYPE, PREDICATE_TYPE
        if (
            not isinstance(document, dict)
            or (document.get("_type"), document.get("predicateType")) != types
        ):
            raise _damaged(path, f"not an in-toto statement of the type {PREDICATE_TYPE}")
        subjects = _SUBJECTS.validate_python(document.get("subject"), strict=True)
        predicate = unseal(document.get("predicate"))
    except ValidationError:
        raise _damaged(path, "subject: not a digest of each file") from None
    except Mismatch as error:
        raise _damaged(path, f"predicate: {error}") from None
    return content, {subject.name: subject.digest.sha256 for subject in subjects}, predicate


def certificate_problems(
    folder: Path, digests: Mapping[str, FileDigest], certified: Mapping[str, str]
) -> Iterator[str]:
    """Yield a message for each file that the certificate and model.json do not agree on.

    Args:
        digests: of the files, from ``load_description``; they are compared with the files elsewhere.
        certified: of the files, from ``load_certificate``.
    """
    found = _digests_of_all(folder, digests)
    for name in sorted({*certified, *found}):
        if name not in found:
            yield f"{folder / name}: {CERTIFICATE} names the file, {DESCRIPTION} does not; {REMEDY}"
        elif name not in certified:
            yield f"{folder / name}: {DESCRIPTION} names the file, {CERTIFICATE} does not; {REMEDY}"
        elif certified[name] != found[name]:
            source = "its bytes are" if name == DESCRIPTION else f"{DESCRIPTION} records"
            yield f"{folder / name}: {CERTIFICATE} has another SHA-256 than {source}; {REMEDY}"


def _digests_of_all(folder: Path, digests: Mapping[str, FileDigest]) -> dict[str, str]:
    """Return the SHA-256 that model.json records of each file, and that of model.json."""
    recorded = {name: digest.sha256 for name, digest in digests.items()}
    return {**recorded, DESCRIPTION: file_sha256(folder / DESCRIPTION)}


def _encoded(document: object) -> bytes:
    return f"{json.dumps(document, indent=2, sort_keys=True)}\n".encode()


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: damaged or edited ({problem}); {REMEDY}")

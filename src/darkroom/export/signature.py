"""Signatures of certificates: DSSE envelopes (Dead Simple Signing Envelope) with Ed25519 keys.

An Ed25519 signature is a function of the key and the content, so signing twice gives the same bytes.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from darkroom.errors import UserError
from darkroom.whole_files import whole_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"

ENDING = ".dsse.json"

MAX_BYTES = 32 * 2**20
"""Maximum size of an envelope: a certificate in base64, and signatures."""

MAX_KEY_BYTES = 2**16

MAKE_KEYS = (
    "make a pair of keys with `openssl genpkey -algorithm ed25519 -out private.pem` and "
    "`openssl pkey -in private.pem -pubout -out public.pem`"
)


class _Signature(BaseModel, strict=True):
    sig: str


class _Envelope(BaseModel, strict=True):
    payload: str
    payloadType: str  # noqa: N815
    signatures: list[_Signature]


class BadSignature(Exception):
    """A signature does not hold; the message says why."""


def signature_path(folder: Path) -> Path:
    """Return the file beside an exported folder; the folder itself is an output of DVC."""
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}{ENDING}")


def sign(content: bytes, key: "Ed25519PrivateKey", path: Path) -> None:
    """Write the envelope of a content, and replace an earlier envelope."""
    signature = key.sign(_authenticated(PAYLOAD_TYPE, content))
    document = {
        "payload": base64.b64encode(content).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    with whole_file(path) as part:
        part.write_text(f"{json.dumps(document, indent=2, sort_keys=True)}\n", encoding="ascii")


def check_signature(content: bytes, key: "Ed25519PublicKey", path: Path) -> None:
    """Check that an envelope has a signature of a content by a key.

    Raises:
        BadSignature: it has none, or cannot be read.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadSignature("larger than an envelope can be")
        envelope = _Envelope.model_validate_json(path.read_bytes())
        payload = base64.b64decode(envelope.payload, validate=True)
        signatures = [base64.b64decode(each.sig, validate=True) for each in envelope.signatures]
    except FileNotFoundError:
        raise BadSignature("there is no such file; `darkroom sign` writes it") from None
    except OSError as error:
        raise BadSignature(f"cannot be read ({error.strerror or error})") from None
    except (ValidationError, ValueError):
        raise BadSignature("not a DSSE envelope") from None
    if envelope.payloadType != PAYLOAD_TYPE or payload != content:
        raise BadSignature("signs another certificate than the one in the folder")
    for signature in signatures:
        try:
            key.verify(signature, _authenticated(envelope.payloadType, payload))
            return
        except InvalidSignature:
            continue
    raise BadSignature(f"no signature by the key {key_id(key)[:16]}...")


def load_private_key(path: Path, ask: Callable[[], str]) -> "Ed25519PrivateKey":
    """Read a private key from a PEM file.

    Args:
        ask: returns the password; is called if the key is encrypted.

    Raises:
        UserError: the file cannot be read, has no Ed25519 key, or the password is wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _key_bytes(path)
    try:
        try:
            key = load_pem_private_key(content, None)
        except TypeError:  # it is encrypted
            password = ask().encode()
            if not password:
                raise UserError(f"{path}: is encrypted; its password is needed") from None
            try:
                key = load_pem_private_key(content, password)
            except ValueError:
                raise UserError(f"{path}: the password is wrong") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{path}: not a private key in PEM; {MAKE_KEYS}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{path}: not an Ed25519 key; {MAKE_KEYS}")
    return key


def load_public_key(path: Path) -> "Ed25519PublicKey":
    """Read a public key from a PEM file.

    Raises:
        UserError: the file cannot be read, or has no Ed25519 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_key_bytes(path))
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{path}: not a public key in PEM; {MAKE_KEYS}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UserError(f"{path}: not an Ed25519 key; {MAKE_KEYS}")
    return key


def key_id(key: "Ed25519PublicKey") -> str:
    """Return the SHA-256 of a public key in DER, as ``openssl pkey -pubin -outform DER`` writes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _key_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _authenticated(payload_type: str, payload: bytes) -> bytes:
    """Return what DSSE signs: the pre-authentication encoding of type and content."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)

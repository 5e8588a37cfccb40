"""The certificate of an export names every file; its signature finds what somebody has exchanged."""

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support import make_spec

from darkroom.bounded_json import load_json
from darkroom.cli import main
from darkroom.export.statement import PREDICATE_TYPE, write_certificate
from darkroom.models.exported import describe_export, load_description
from darkroom.reporting.tables import write_json

PREDICATE = {"data": {"sha256": "0" * 64}, "metrics": {"f1_macro": 0.5}}


def run(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], input=given, catch_exceptions=False)


def describe(folder: Path) -> None:
    """Writes model.json and the certificate as they belong to the files that are there."""
    own = {"model.json", "certificate.json"}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in own)
    write_json(describe_export(make_spec().preprocessing(), folder, files), folder / "model.json")
    write_certificate(folder, PREDICATE)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    (folder / "golden").mkdir(parents=True)
    for seed, name in enumerate(("model.onnx", "golden/0.png", "golden/0.u8")):
        (folder / name).write_bytes(np.random.default_rng(seed).bytes(500))
    describe(folder)
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of keys, made by OpenSSL."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / f"{name}.pem")
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub")
    openssl("pkey", "-in", folder / "mine.pem", "-aes256", "-passout", "pass:x y", "-out",
            folder / "locked.pem")  # fmt: skip
    for kind, *options in (("rsa",), ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")):
        openssl("genpkey", "-algorithm", kind, *options, "-out", folder / f"{kind}.pem")
        openssl("pkey", "-in", folder / f"{kind}.pem", "-pubout", "-out", folder / f"{kind}.pub")
    (folder / "text.pem").write_text("my key")
    (folder / "text.pub").write_text("my key")
    return folder


def openssl(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


# the certificate


def test_it_names_every_file_with_its_sha256(export: Path) -> None:
    statement = load_json(export / "certificate.json")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == PREDICATE_TYPE
    assert {each["name"]: each["digest"] for each in statement["subject"]} == {
        path.relative_to(export).as_posix(): {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in export.rglob("*")
        if path.is_file() and path.name != "certificate.json"
    }
    assert PREDICATE.items() <= statement["predicate"].items()


def test_it_has_the_same_bytes_when_it_is_written_again(export: Path) -> None:
    before = (export / "certificate.json").read_bytes()
    write_certificate(export, dict(reversed(PREDICATE.items())))
    assert (export / "certificate.json").read_bytes() == before
    write_certificate(export, {**PREDICATE, "metrics": {"f1_macro": 0.6}})
    assert (export / "certificate.json").read_bytes() != before


def edit_certificate(folder: Path, change: Callable[[dict], object]) -> None:
    statement = load_json(folder / "certificate.json")
    change(statement)
    text = json.dumps(statement, indent=2, sort_keys=True)
    (folder / "certificate.json").write_text(f"{text}\n")


def exchange_a_file_and_its_digest(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"other")
    values, digests = load_description(folder)
    files = [folder / name for name in digests]
    write_json(describe_export(values, folder, files), folder / "model.json")


def drop_a_file_from_the_description(folder: Path) -> None:
    values, digests = load_description(folder)
    files = [folder / name for name in digests if name != "golden/0.u8"]
    write_json(describe_export(values, folder, files), folder / "model.json")


def other_class_names(folder: Path) -> None:
    values, digests = load_description(folder)
    values["class_names"].reverse()
    files = [folder / name for name in digests]
    write_json(describe_export(values, folder, files), folder / "model.json")


EDITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no certificate": (lambda folder: (folder / "certificate.json").unlink(), "the file is missing"),
    "not JSON": (lambda folder: (folder / "certificate.json").write_text("{"), "damaged or edited"),
    "deep JSON": (lambda folder: (folder / "certificate.json").write_text("[" * 99_999), "damaged or"),
    "a list": (lambda folder: (folder / "certificate.json").write_text("[]\n"), "damaged or edited"),
    "a blank more": (
        lambda folder: (folder / "certificate.json").open("a").write(" "),
        "not written by darkroom",
    ),
    "a better score": (
        lambda folder: edit_certificate(
            folder, lambda statement: statement["predicate"]["metrics"].update(f1_macro=0.99)
        ),
        "content_sha256 belongs to other values",
    ),
    "another type": (
        lambda folder: edit_certificate(
            folder, lambda statement: statement.update(predicateType="urn:other")
        ),
        "not an in-toto statement",
    ),
    "no subjects": (
        lambda folder: edit_certificate(folder, lambda statement: statement.pop("subject")),
        "subject: not a digest of each file",
    ),
    "a subject less": (
        lambda folder: edit_certificate(folder, lambda statement: statement["subject"].pop()),
        "certificate.json does not",
    ),
    "a subject more": (
        lambda folder: edit_certificate(
            folder,
            lambda statement: statement["subject"].append({"name": "x", "digest": {"sha256": "0" * 64}}),
        ),
        "certificate.json names the file, model.json does not",
    ),
    "a file and its digest": (
        exchange_a_file_and_its_digest,
        "model.onnx: certificate.json has another",
    ),
    "a file less": (drop_a_file_from_the_description, "golden/0.u8: certificate.json names the file"),
    "class names": (
        other_class_names,
        "model.json: certificate.json has another SHA-256 than its bytes",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_found(export: Path, edit: str) -> None:
    do, expected = EDITS[edit]
    assert run("verify", export).exit_code == 0
    do(export)
    result = run("verify", export)
    assert result.exit_code == 1
    assert expected in result.stdout
    assert "not as recorded" in result.stderr


# the signature


def test_a_signed_export_is_verified_with_the_public_key(export: Path, keys: Path) -> None:
    assert "not signed" in run("verify", export).stderr
    unsigned = run("verify", export, "--key", keys / "mine.pub")
    assert unsigned.exit_code == 1
    assert "export.dsse.json: there is no such file; `darkroom sign` writes it" in unsigned.stdout
    assert run("sign", export, "--key", keys / "mine.pem").exit_code == 0
    assert sorted(path.name for path in export.parent.iterdir()) == ["export", "export.dsse.json"]
    signed = run("verify", f"{export}/", "--key", keys / "mine.pub")
    assert (signed.exit_code, signed.stdout) == (0, "")
    assert "all as recorded; signed with the key" in signed.stderr
    assert "is not checked without --key" in run("verify", export).stderr
    wrong = run("verify", export, "--key", keys / "other.pub")
    assert wrong.exit_code == 1
    assert "no signature by the key" in wrong.stdout


def test_openssl_verifies_the_signature(export: Path, keys: Path, tmp_path: Path) -> None:
    """What is signed is put together here after the specification of DSSE."""
    run("sign", export, "--key", keys / "mine.pem")
    envelope = load_json(tmp_path / "export.dsse.json")
    content = (export / "certificate.json").read_bytes()
    assert base64.b64decode(envelope["payload"]) == content
    kind = "application/vnd.in-toto+json"
    assert envelope["payloadType"] == kind
    signed = f"DSSEv1 {len(kind)} {kind} {len(content)} ".encode() + content
    (tmp_path / "signed").write_bytes(signed)
    [signature] = envelope["signatures"]
    (tmp_path / "sig").write_bytes(base64.b64decode(signature["sig"]))
    check = ["pkeyutl", "-verify", "-pubin", "-inkey", keys / "mine.pub", "-rawin", "-in",
             tmp_path / "signed", "-sigfile", tmp_path / "sig"]  # fmt: skip
    openssl(*check)
    der = openssl("pkey", "-pubin", "-in", keys / "mine.pub", "-outform", "DER").stdout
    assert signature["keyid"] == hashlib.sha256(der).hexdigest()
    (tmp_path / "signed").write_bytes(signed + b" ")
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*check)


def test_signing_twice_gives_the_same_bytes(export: Path, keys: Path, tmp_path: Path) -> None:
    run("sign", export, "--key", keys / "mine.pem")
    run("sign", export, "--key", keys / "locked.pem", "--signature", tmp_path / "again", given="x y\n")
    run("sign", export, "--key", keys / "other.pem", "--signature", tmp_path / "other")
    first = (tmp_path / "export.dsse.json").read_bytes()
    assert (tmp_path / "again").read_bytes() == first != (tmp_path / "other").read_bytes()
    other = run("verify", export, "--key", keys / "other.pub", "--signature", tmp_path / "other")
    assert other.exit_code == 0


def test_an_attacker_who_computes_all_digests_anew_is_found_by_the_key_alone(
    export: Path, keys: Path, tmp_path: Path
) -> None:
    run("sign", export, "--key", keys / "mine.pem")
    signature = tmp_path / "export.dsse.json"
    honest = signature.read_bytes()
    (export / "model.onnx").write_bytes(b"another model")
    describe(export)
    assert run("verify", export).exit_code == 0
    result = run("verify", export, "--key", keys / "mine.pub")
    assert result.exit_code == 1
    assert "signs another certificate than the one in the folder" in result.stdout
    run("sign", export, "--key", keys / "other.pem")
    result = run("verify", export, "--key", keys / "mine.pub")
    assert result.exit_code == 1
    assert "no signature by the key" in result.stdout
    envelope = json.loads(signature.read_bytes())  # and with the signature of the honest certificate
    envelope["signatures"] = json.loads(honest)["signatures"]
    signature.write_text(json.dumps(envelope))
    assert run("verify", export, "--key", keys / "mine.pub").exit_code == 1


def test_a_flip_in_the_envelope_is_found(export: Path, keys: Path, tmp_path: Path) -> None:
    run("sign", export, "--key", keys / "mine.pem")
    signature = tmp_path / "export.dsse.json"
    whole = signature.read_bytes()
    envelope = json.loads(whole)
    for text in (envelope["payload"], envelope["payloadType"], envelope["signatures"][0]["sig"]):
        content = bytearray(whole)
        content[whole.index(text.encode()) + len(text) // 3] ^= 1
        signature.write_bytes(content)
        assert run("verify", export, "--key", keys / "mine.pub").exit_code == 1
    for text in ("", "[]", "{}", '{"payload": "x", "payloadType": "x", "signatures": []}'):
        signature.write_text(text)
        result = run("verify", export, "--key", keys / "mine.pub")
        assert (result.exit_code, "not a DSSE envelope" in result.stdout) == (1, True)
    signature.write_bytes(whole)
    assert run("verify", export, "--key", keys / "mine.pub").exit_code == 0


def test_a_damaged_export_is_not_signed(export: Path, keys: Path, tmp_path: Path) -> None:
    (export / "golden/0.png").write_bytes(b"x")
    result = run("sign", export, "--key", keys / "mine.pem")
    assert result.exit_code == 1
    assert "golden/0.png" in result.stdout
    assert "not signed" in result.stderr
    assert not (tmp_path / "export.dsse.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "in PEM; make a pair of keys with `openssl genpkey -algorithm ed25519"),
        ("rsa", "not an Ed25519 key; make a pair"),
        ("EC", "not an Ed25519 key; make a pair"),
        ("absent", "cannot be read (No such file or directory)"),
    ],
)
def test_another_key_is_refused_before_any_work(
    export: Path, keys: Path, name: str, message: str
) -> None:
    for command, ending in (("sign", "pem"), ("verify", "pub")):
        result = run(command, export, "--key", keys / f"{name}.{ending}")
        assert result.exit_code == 2
        assert f"{name}.{ending}: " in result.stderr
        assert message in result.stderr


def test_the_password_of_a_key_is_needed(export: Path, keys: Path, tmp_path: Path) -> None:
    result = run("sign", export, "--key", keys / "locked.pem", given="wrong\n")
    assert result.exit_code == 2
    assert "locked.pem: the password is wrong" in result.stderr
    assert run("sign", export, "--key", keys / "locked.pem").exit_code == 2
    assert not (tmp_path / "export.dsse.json").exists()


def test_options_that_do_not_go_together_are_refused(export: Path, keys: Path) -> None:
    for arguments in (
        ["verify", "--key", keys / "mine.pub"],
        ["verify", export / "model.onnx", "--key", keys / "mine.pub"],
        ["verify", export, "--signature", "x"],
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "--signature: " in result.stderr

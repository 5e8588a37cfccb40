"""Secrets do not reach what is written, whatever holds them."""

import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.tracking.secrets.redaction import redact

MARK = "OPENSSH PRIVATE KEY-----"
KEY = f"-----BEGIN {MARK}\nb3BlbnNzaC1rZXktdjE\nAAAABG5vbmUAAAAE\n-----END {MARK}"


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        (KEY, ["b3BlbnNzaC1rZXktdjE", "AAAABG5vbmUAAAAE"]),
        ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Zq7xYw9k==;Suffix=x", ["Zq7xYw9k=="]),
        ("host=db user=ada password=Zq7xYw9k dbname=runs", ["Zq7xYw9k"]),
        ("host=db user=ada password='Zq7 xYw9k' dbname=runs", ["Zq7 xYw9k"]),
        ("Driver={SQL Server};Server=db;Uid=ada;Pwd={Zq7;xYw9k};", ["Zq7;xYw9k"]),
        ("ada:Zq7xYw9k@tcp(db:3306)/runs", ["Zq7xYw9k"]),
        ('{"type": "service_account", "private_key": "Zq7xYw9k", "x": 1}', ["Zq7xYw9k"]),
        ("-Xmx1g -Ddb.password=Zq7xYw9k", ["Zq7xYw9k"]),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%253Dx%253BPWD%253DZq7xYw9k", ["Zq7xYw9k"]),
        ("//ada:Zq7xYw9k@host/x", ["Zq7xYw9k"]),
        ("https://host/mlflow;jsessionid=Zq7xYw9k", ["Zq7xYw9k"]),
        ("https://a:Zq7xYw9k@one https://b:Kl8mNo6p@two", ["Zq7xYw9k", "Kl8mNo6p"]),
    ],
)
def test_secrets_within_the_value_of_any_variable_are_hidden(value: str, secrets: list[str]) -> None:
    for name in ("OPTIONS", "DB_CONNECTION_STRING"):
        for secret in secrets:
            assert secret not in redact(f"error near {secret} of it", {name: value})
            assert secret not in redact(value, {name: value})


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer Zq7xYw9kLmNo",
        "{'Authorization': 'Basic Zq7xYw9kLmNo'}",
        "Cookie: session=Zq7xYw9kLmNo",
        "password=Zq7xYw9kLmNo",
        '{"password": "Zq7xYw9kLmNo"}',
        "DRIVER={x};PWD=Zq7xYw9kLmNo;",
        "token ghp_Zq7xYw9kLmNoZq7xYw9kLmNo is bad",
        "hf_Zq7xYw9kLmNoZq7xYw9kLmNo",
        "https://host/x?X-Amz-Signature=Zq7xYw9kLmNo&X-Amz-Date=1",
        "https://user:Zq7xYw9kLmNo",  # cut off
    ],
)
def test_what_is_a_secret_by_its_looks_is_hidden(text: str) -> None:
    assert "Zq7xYw9kLmNo" not in redact(text, {})


@pytest.mark.parametrize(
    "text",
    [
        "mail a@b",
        "http://127.0.0.1:5000/#/experiments/1/runs?searchFilter",
        "file:///home/ada/project/mlartifacts",
        "sqlite:////tmp/a_folder_with_a_long_name_7/mlflow.db",
        "models:/m-0123456789abcdef0123456789abcdef",
        "https://download.pytorch.org/models/resnet18-f37072fd.pth could not be reached",
        "train.lr: 0.1 is not allowed; it must be a number above 0",
        "see https://host: it is down",
        "class_weights={cat: 2.0}, key=lambda",
        "0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert redact(text, {"API_KEY": "short", "DB_PASS": "mlflow", "X_TOKEN": "1"}) == text


def test_a_short_secret_is_no_part_of_a_word() -> None:
    environ = {"DB_PASS": "ab12"}
    assert redact("ab12, digest 77ab12ff", environ) == "***, digest 77ab12ff"


def test_settings_of_dvc_and_git_hold_secrets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".dvc/config.local").write_text(
        "['remote \"r\"']\n    password = Zq7 xYw9k\n    port = 22\n"
    )
    (tmp_path / ".dvc/config").write_text("['remote \"r\"']\n    url = https://a:Kl8mNo6p@host/x\n")
    (tmp_path / ".git/config").write_text(
        '[remote "o"]\n    url = https://x-access-token:Rs4tUv2w@host/x\n'
    )
    monkeypatch.chdir(tmp_path)
    assert redact("Zq7 xYw9k, Kl8mNo6p, Rs4tUv2w, 22, host") == "***, ***, ***, 22, host"


PROGRAM = """
import logging, sys, threading
from darkroom.tracking.redacted_output import redacted_output
with redacted_output():
    print("printed Zq7xYw9k", end="")
    print()
    sys.stderr.write("written Zq7xYw9k\\n")
    logging.warning("logged %s", "Zq7xYw9k")
    thread = threading.Thread(target=lambda: 1 / int("Zq7xYw9k"))
    thread.start()
    thread.join()
    raise ValueError("raised Zq7xYw9k")
"""


def test_whatever_a_process_prints_is_redacted_tracebacks_included() -> None:
    environ = {"PYTHONPATH": ":".join(sys.path), "DB_PASS": "Zq7xYw9k"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True)
    assert done.stdout == "printed ***\n"
    assert "Zq7xYw9k" not in done.stderr
    for part in ("written ***", "logged ***", "invalid literal", "ValueError: raised ***"):
        assert part in done.stderr
    assert done.returncode == 1

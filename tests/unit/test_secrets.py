"""Secrets do not reach what is written, however an address or a variable holds them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.tracking.secrets import is_secret_name, redact, shown_address

S = "Zq7/x'Y\"w@9k L"
"""A password with everything that addresses, quotes and shells care for."""

ADDRESSES = {
    "postgresql://ada:{}@db.example.org:5432/runs": "postgresql://db.example.org:5432/runs",
    "postgresql+psycopg://ada:{}@db/runs?sslmode=require": "postgresql+psycopg://db/runs",
    "postgresql://db/runs?user=ada&password={}": "postgresql://db/runs",
    "postgresql://db/runs?token={}": "postgresql://db/runs",
    "mysql+pymysql://ada:{}@[::1]:3306/runs": "mysql+pymysql://[::1]:3306/runs",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BUID%3Dada%3BPWD%3D{}%3BDATABASE%3Druns": "mssql+pyodbc:///",
    "mssql+pyodbc://ada:{}@host/runs?driver=x": "mssql+pyodbc://host/runs",
    "redis://:{}@host/0": "redis://host/0",
    "http://ada:{}@host:5000": "http://host:5000",
    "https://x-access-token:{}@github.com/me/data": "https://github.com/***",
    "https://{}:x-oauth-basic@github.com/me/data": "https://github.com/***",
    "https://{}@host": "https://host",
    "https://host/t/{}/": "https://host/***",
    "https://host/mlflow/token/{}/api": "https://host/***",
    "https://host/?token={}": "https://host",
    "https://host:443/api?api_key={}&x=1#frag": "https://host:443/***",
    "s3://AKIAIOSFODNN7EXAMPLE:{}@bucket/folder": "s3://bucket/folder",
    "ssh://git:{}@host/data": "ssh://host/data",
    "sqlite:////home/ada/mlflow.db?key={}": "sqlite:////home/ada/mlflow.db",
}
"""An address with room for a secret -> what is shown of it."""

NAMES = [
    "DB_PASS",
    "SSHPASS",
    "PGPASSWORD",
    "MYSQL_PWD",
    "RSYNC_PASSWORD",
    "GIT_PAT",
    "HF_TOKEN",
    "GITHUB_TOKEN",
    "NPM_AUTH",
    "NPM_CONFIG__AUTH",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "SENTRY_DSN",
    "DATABASE_DSN",
    "WANDB_API_KEY",
    "OPENAI_APIKEY",
    "SESSION_COOKIE",
    "COOKIE",
    "GOOGLE_CREDENTIALS",
    "SERVICE_CREDS",
    "ADMIN_PWD",
    "SSH_PRIVATE_KEY",
    "SIGNING_KEY",
    "KEY_PASSPHRASE",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "dbPassword",
    "AZURE_SAS",
    "DB_CONN_STR",
    "BEARER",
    "CLIENT_SECRET",
    "JWT",
    "AUTH_HEADER",
    "STORAGE_ACCOUNTKEY",
    "TS_AUTHKEY",
    "DEPLOY_SSHKEY",
    "SIGNINGKEY",
    "LICENSEKEY",
    "JSESSIONID",
    "ACCESSCODE",
    "WEBHOOKURL",
    "GH_OAUTH",
    "API_TKN",
    "GITHUB_PERSONAL_ACCESS",
    "TOTP_SEED",
    "AUTHORIZATION",
    "KENNWORT",
]

HARMLESS = [
    "HOME",
    "PATH",
    "USER",
    "KEYBOARD",
    "GIT_AUTHOR_NAME",
    "PATTERN",
    "COMPASS_URL",
    "PASSENGER",
    "MONKEY",
    "HOTKEY",
    "XDG_SESSION_TYPE",
    "RANDOM_SEED",
    "POSTCODE",
    "DSNAME",
    "AUTHOR",
    "PATCH",
    "MLFLOW_TRACKING_URI",
]

PLAIN = [
    "Zq7xYw9kL",
    "Zq7_xY-w9k",
    "correct horse",
    "Zq7/xYw+9k==",
    "Zq7'xYw9k",
    'Zq7"xYw9k',
    "Zq7@xYw:9k",
]


def traces(secret: str) -> list[str]:
    """A secret, and its parts that are long enough to help anybody."""
    return [secret, *(part for part in secret.replace("/", "@").split("@") if len(part) > 5)]


@pytest.mark.parametrize(("address", "shown"), ADDRESSES.items())
@pytest.mark.parametrize("secret", [*PLAIN, S])
def test_of_an_address_only_scheme_host_and_database_are_shown(
    address: str, shown: str, secret: str
) -> None:
    if any(mark in secret for mark in "/@\"'") and "/{}/" in address:
        pytest.skip("that is another path")
    if ":" in secret and not re.search("[:=D]{}", address):
        pytest.skip("that is a user with a password")
    uri = address.format(secret)
    assert shown_address(uri) == shown
    environ = {"MLFLOW_TRACKING_URI": uri}
    for text in (
        uri,
        f"could not reach {uri!r}: timeout",
        f"Failed to parse: {uri}, see the docs",
        f"password {secret} is wrong",
        f"{[secret]}",
        uri.replace("//", "/"),  # as a path
        *(f"invalid port: '{part}'" for part in traces(secret)),
    ):
        for trace in traces(secret):
            assert trace not in redact(text, environ), redact(text, environ)


@pytest.mark.parametrize("address", [one for one in ADDRESSES if not one.startswith("mssql+pyodbc:///")])
def test_an_address_that_no_variable_names_is_hidden_too(address: str) -> None:
    for secret in ("Zq7xYw9kLmN", "Zq7/xYw9kLmN", "Zq7'xYw9kLmN", "Zq7@xYw9kLmN"):
        if "/{}/" in address and secret != "Zq7xYw9kLmN":
            continue
        text = f"Connection to {address.format(secret)} failed"
        assert "xYw9kLmN" not in redact(text, {})
        assert redact(text, {}).startswith("Connection to ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("secret", PLAIN)
def test_the_value_of_a_secret_variable_is_hidden_wherever_it_occurs(name: str, secret: str) -> None:
    from urllib.parse import quote

    environ = {name: secret, "OTHER": "harmless"}
    text = f"it said {secret}, or {quote(secret, safe='')}, or {secret!r}, and harmless"
    assert redact(text, environ) == "it said ***, or ***, or '***', and harmless".replace(
        "'***'", redact(f"{secret!r}", environ)
    )
    assert secret not in redact(f"{secret!r}", environ)


@pytest.mark.parametrize("name", HARMLESS)
def test_other_variables_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)
    assert (
        redact("a value of digits 12345678", {name: "digits 12345678"}) == "a value of digits 12345678"
    )


def test_in_the_tracking_address_short_tokens_of_a_path_are_hidden_too() -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://host/mlflow/Zq7xYw9k/"}
    text = "Max retries exceeded with url: /mlflow/Zq7xYw9k/api/2.0 (mlflow on host)"
    assert redact(text, environ) == text.replace("Zq7xYw9k", "***")
    assert shown_address("http://ada%3AZq7xYw9k%40host/x") == "http://***/***"
    assert shown_address("http://[fe80::1%25eth0]:5000") == "http://[fe80::1%25eth0]:5000"


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

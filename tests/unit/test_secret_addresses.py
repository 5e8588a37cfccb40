"""Of an address, only what is safe to show is shown, however it holds a secret."""

import re

import pytest
from passwords import PLAIN

from darkroom.tracking.secrets.addresses import shown_address
from darkroom.tracking.secrets.redaction import redact

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


def test_in_the_tracking_address_short_tokens_of_a_path_are_hidden_too() -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://host/mlflow/Zq7xYw9k/"}
    text = "Max retries exceeded with url: /mlflow/Zq7xYw9k/api/2.0 (mlflow on host)"
    assert redact(text, environ) == text.replace("Zq7xYw9k", "***")
    assert shown_address("http://ada%3AZq7xYw9k%40host/x") == "http://***/***"
    assert shown_address("http://[fe80::1%25eth0]:5000") == "http://[fe80::1%25eth0]:5000"

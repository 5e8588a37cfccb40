"""Secrets do not reach what is written."""

from pathlib import Path

import pytest

from darkroom.tracking.address import Address, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:hunter2@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://user:p@ss:w@host/db and more", "postgresql://***@host/db and more"),
        ("http://token@host", "http://***@host"),
        ("see http://host/a@b", "see http://host/a@b"),
        ("mail a@b", "mail a@b"),
    ],
)
def test_who_logs_in_to_an_address_is_hidden(text: str, shown: str) -> None:
    assert redact(text, {}) == shown


def test_values_of_secret_variables_are_hidden_wherever_they_occur() -> None:
    environ = {
        "MLFLOW_TRACKING_PASSWORD": "correct horse",
        "MLFLOW_TRACKING_TOKEN": "tttttttt",
        "AWS_SECRET_ACCESS_KEY": "aws/secret+key",
        "API_KEY": "short",  # would hide words
        "HOME": "/home/somebody",
    }
    text = "correct horse, tttttttt, aws/secret+key, short, /home/somebody"
    assert redact(text, environ) == "***, ***, ***, short, /home/somebody"


def test_a_password_in_an_address_is_hidden_without_the_address_too() -> None:
    environ = {"MLFLOW_TRACKING_URI": "http://user:hunter%402-secret@host"}
    assert redact("hunter%402-secret or hunter@2-secret", environ) == "*** or ***"


def test_secrets_do_not_tell_addresses_apart_but_all_else_does() -> None:
    def digest(uri: str, experiment: str = "") -> str:
        environ = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": experiment}
        return Address.of(root, environ).digest

    root = Path("/project")
    assert digest("http://a:b@host") == digest("http://host/") == digest("http://c@host")
    assert len({digest("http://host"), digest("http://host", "x"), digest("http://other")}) == 3
    assert Address.of(root, {}).digest == Address.of(Path("/moved"), {}).digest
    assert f"{Address.of(root, {'MLFLOW_TRACKING_URI': 'http://a:b@host'})}" == "http://***@host"

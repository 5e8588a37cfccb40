"""The names of variables tell which values are secrets."""

from urllib.parse import quote

import pytest
from passwords import PLAIN

from darkroom.tracking.secrets.names import is_secret_name
from darkroom.tracking.secrets.redaction import redact

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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("secret", PLAIN)
def test_the_value_of_a_secret_variable_is_hidden_wherever_it_occurs(name: str, secret: str) -> None:
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

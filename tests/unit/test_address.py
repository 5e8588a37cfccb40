"""Which MLflow the environment asks for."""

from pathlib import Path

from darkroom.tracking.address import Address


def test_secrets_do_not_tell_addresses_apart_but_all_else_does() -> None:
    def digest(uri: str, experiment: str = "") -> str:
        environ = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": experiment}
        return Address.of(root, environ).digest

    root = Path("/project")
    assert digest("http://a:b@host") == digest("http://host/") == digest("http://c@host")
    assert len({digest("http://host"), digest("http://host", "x"), digest("http://other")}) == 3
    assert Address.of(root, {}).digest == Address.of(Path("/moved"), {}).digest
    assert f"{Address.of(root, {'MLFLOW_TRACKING_URI': 'http://a:b@host'})}" == "http://host"


def test_a_new_password_is_no_new_address() -> None:
    for template in (
        "postgresql://ada:{}@db/runs",
        "postgresql://db/runs?user=ada&password={}",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3D{}%3BDATABASE%3Druns",
        "https://host/?token={}",
    ):
        old, new = (
            Address(template.format(password), "x", False) for password in ("Zq7xYw9k", "Kl8m/o")
        )
        assert old.digest == new.digest
        assert "Zq7xYw9k" not in f"{old!r} {old}"
    runs, others = (
        Address(f"postgresql://db/{name}?password=x", "x", False) for name in ("runs", "others")
    )
    assert runs.digest != others.digest


def test_an_address_without_secrets_keeps_the_digest_by_which_journals_wait_for_it() -> None:
    import hashlib

    for uri in (
        "http://host:5000",
        "sqlite:////x/y@z/mlflow.db",
        "postgresql://db/runs?sslmode=require",
    ):
        expected = hashlib.sha256(f"{uri}\nx".encode()).hexdigest()[:16]
        assert Address(uri, "x", False).digest == expected

"""A team's MLflow in small: PostgreSQL, an object store and `mlflow server`, on loopback alone.

PostgreSQL is the real one. The object store is moto's, which speaks S3 and keeps objects in memory;
it is stopped and started again without losing them, and checks the keys that it is shown.
"""

import importlib.util
import json
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from project import free_port

PATIENCE_SECONDS = 120.0
"""How long a slow machine may take for one thing to happen."""

DATABASE_PASSWORD = "secret-of-the-database-71aa"
BUCKET = "runs"

_NEEDED = {"psycopg": "psycopg[binary]", "boto3": "boto3", "moto": "moto", "flask_wtf": "Flask-WTF"}


def _binaries() -> Path | None:
    """Returns the folder of PostgreSQL's programs; Debian has it outside PATH, the newest last."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    found = shutil.which("postgres") or (debian[-1] if debian else None)
    return Path(found).resolve().parent if found else None


def _missing() -> str:
    if _binaries() is None:
        return "needs PostgreSQL; on Debian: apt-get install postgresql"
    absent = [package for name, package in _NEEDED.items() if importlib.util.find_spec(name) is None]
    if absent:
        return f"needs {', '.join(absent)}, of the dependency group dev"
    if os.geteuid() == 0 and _postgres_user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


def _postgres_user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


needs_servers = pytest.mark.skipif(bool(_missing()), reason=_missing())


def until(what: str, look: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Waits until ``look`` finds something, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Database:
    """A PostgreSQL of its own, with one database and one user, who has a password."""

    def __init__(self, folder: Path) -> None:
        binaries = _binaries()
        assert binaries is not None
        self._binaries, self._folder = binaries, folder
        # which does not run as root
        user = _postgres_user() if os.geteuid() == 0 else None
        self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        self._port = free_port()
        password = folder / "password"
        password.write_text(DATABASE_PASSWORD)
        if user:
            os.chown(password, user.pw_uid, user.pw_gid)
        self._run(
            "initdb", "-N", "-D", "data", "-U", "mlflow", "-A", "scram-sha-256", "--pwfile=password"
        )
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", f"{self._port}", "-U", "mlflow", "mlflow")

    @property
    def uri(self) -> str:
        return f"postgresql://mlflow:{DATABASE_PASSWORD}@127.0.0.1:{self._port}/mlflow"

    def _run(self, program: str, *arguments: str) -> None:
        env = {**os.environ, "PGPASSWORD": DATABASE_PASSWORD, "LC_ALL": "C.UTF-8"}
        command = [self._binaries / program, *arguments]
        subprocess.run(command, cwd=self._folder, env=env, check=True, capture_output=True, **self._as)

    def start(self) -> None:
        command = [self._binaries / "postgres", "-D", "data", "-p", f"{self._port}", "-k", ""]
        with (self._folder.with_suffix(".log")).open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stderr=log, stdout=log, **self._as
            )
        until("PostgreSQL answers", self._is_ready)

    def _is_ready(self) -> bool:
        command = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", f"{self._port}"]
        return subprocess.run(command, cwd=self._folder, **self._as).returncode == 0

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stops it: SIGINT in order, SIGQUIT as if the plug had been pulled."""
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)


@contextmanager
def database() -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="darkroom-postgres-"))  # the user postgres can reach it
    try:
        running = Database(folder)
        try:
            yield running
        finally:
            running.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


class ObjectStore:
    """A bucket that is reached by S3's protocol, with a key that is checked."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._port = free_port()
        self.start()
        self.key, self.secret = "none", "none"  # until there is one, anyone may do anything
        iam = self._client("iam")
        iam.create_user(UserName="team")
        anything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": anything})
        iam.put_user_policy(UserName="team", PolicyName="anything", PolicyDocument=policy)
        made = iam.create_access_key(UserName="team")["AccessKey"]
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]
        self._ask_moto("reset-auth", b"0")  # from now on, signatures are checked
        self._client("s3").create_bucket(Bucket=BUCKET)

    def close(self) -> None:
        """Ends it, and lets another one of this process begin anew."""
        self._ask_moto("reset-auth", b"inf")
        self._ask_moto("reset", b"")
        self.stop()

    def _ask_moto(self, what: str, body: bytes) -> None:
        address, plain = f"{self.endpoint}/moto-api/{what}", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(address, body, plain)).close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to reach the bucket."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",  # else boto tries for half a minute where nothing answers
        }

    def _client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        self._server._server.server_close()  # else connections would wait to be accepted

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Returns everything below ``prefix``, by its key without that."""
        client = self._client("s3")
        listed = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [item["Key"] for page in listed for item in page.get("Contents", [])]
        return {
            key.removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }


@contextmanager
def mlflow_server(folder: Path, *options: str, **env: str) -> Iterator[str]:
    """Runs `mlflow server` in ``folder`` and yields its address."""
    folder.mkdir()
    port = free_port()
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))
    }
    command = [sys.executable, "-m", "mlflow", "server", "--port", f"{port}", "--workers", "1", *options]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, **quiet, **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "server.log").read_text()
        try:
            return urllib.request.urlopen(f"{address}/health", timeout=5).status == 200
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    try:
        until("mlflow server answers", answers)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)

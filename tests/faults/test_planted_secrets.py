"""Secrets in addresses and variables, with real stages, senders and servers: none is found anywhere."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from effort import ALL
from mlflow_server import MlflowServer
from project import ROOT, Project, free_port

pytestmark = pytest.mark.slow

NAMES = (
    "DB_PASS",
    "SSHPASS",
    "PGPASSWORD",
    "MYSQL_PWD",
    "GIT_PAT",
    "HF_TOKEN",
    "NPM_AUTH",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "SENTRY_DSN",
    "WANDB_API_KEY",
    "SESSION_COOKIE",
    "GOOGLE_CREDENTIALS",
    "ADMIN_PWD",
    "SSH_PRIVATE_KEY",
    "SIGNING_KEY",
    "KEY_PASSPHRASE",
    "CLIENT_SECRET",
    "AUTH_HEADER",
    "STORAGE_ACCOUNTKEY",
    "DB_CONN_STR",
    "REDIS_PASS",
    "MQ_PASSWD",
    "SMTP_PASSWORD",
    "VAULT_SECRET_ID",
    "GITLAB_TOKEN",
    "CI_JOB_JWT",
    "DATABASE_DSN",
    "STRIPE_API_KEY",
    "ENCRYPTION_KEY",
    "SLACK_WEBHOOK_URL",
    "TWINE_PASSWORD",
    "GH_PAT",
    "LDAP_BINDPW",
    "RSYNC_PASSWORD",
    "SERVICE_CREDENTIAL",
    "SAS_TOKEN",
    "MASTERKEY",
    "REQUEST_HMAC",
    "AWS_CREDS",
    "BASIC_AUTH",
    "VPN_PASSCODE",
    "BACKUP_BEARER",
)
SHAPES = ("Zq{:03d}plain", "Zq{:03d}/sl+ash==", "Zq{:03d} two words", "Zq{:03d}'quo\"te", "Zq{:03d}@a:t")
VARIABLES = {name: SHAPES[i % len(SHAPES)].format(i) for i, name in enumerate(NAMES)}
MIXED = {
    "JAVA_OPTS": "-Ddb.password=Zq100java -Xmx1g",
    "UPSTREAM": "https://x-access-token:Zq101git@git.example.org/me/data",
    "REPORTS": "amqp://ada:Zq102/queue@mq/reports",
    "PRESIGNED": "https://bucket/x?X-Amz-Signature=Zq103signed&X-Amz-Date=1",
    "PROXY_SETTINGS": "host=db user=ada password='Zq104 libpq' dbname=x",
    "DEPLOYMENT": '{"user": "ada", "private_key": "Zq105json"}',
}

ADDRESSES = (
    "postgresql://ada:{}@127.0.0.1:{port}/runs",
    "postgresql+psycopg2://ada:{}@127.0.0.1:{port}/runs?sslmode=disable",
    "postgresql://127.0.0.1:{port}/runs?user=ada&password={}",
    "mysql+pymysql://ada:{}@127.0.0.1:{port}/runs",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3D{}",
    "http://ada:{}@127.0.0.1:{port}",
    "http://{}@127.0.0.1:{port}",
    "http://127.0.0.1:{port}/t/{}/",
    "http://127.0.0.1:{port}/?token={}",
    "ada:{}@127.0.0.1:{port}",
    "sqlite:///{{folder}}/x.db?password={}",
    "nonsense://ada:{}@host/x",
)
PASSWORDS = ("Zq{:03d}plain9", "Zq{:03d}/Kl8sl9", "Zq{:03d}'Kl8q\"9", "Zq{:03d}@Kl8a9")

DARKROOM = f"{Path(sys.executable).parent / 'darkroom'}"

STAGE = """
import os, sys
from pathlib import Path
from darkroom.errors import UserError
from darkroom.tracking.destinations import tracked
from darkroom.runtime import load_runtime
from darkroom.tracking.run import warn
from darkroom.tracking.redacted_output import redacted_output

@redacted_output()
def main():
    texts = {name: os.environ[name] for name in os.environ["TOLD"].split()}
    with tracked("prepare", load_runtime()) as run:
        run.log_params({f"told.{name}": text for name, text in texts.items()})
        run.log_tags({f"told.{name}": f"{name} is {text}" for name, text in texts.items()})
        run.describe("Told", texts)
        source = Path(texts["MLFLOW_TRACKING_URI"])
        run.log_dataset("told", "0" * 16, source, {"told": [*texts.values()]})
        for text in texts.values():
            print("printed", text)
            print("written", text, file=sys.stderr)
        warn("warned", UserError(f"{texts}"))
        raise RuntimeError(f"raised {texts}")

main()
"""


def environment(uri: str, root: Path, **more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "DVC_", "DARKROOM_", "GIT_"))
    }
    secrets = {**VARIABLES, **MIXED, "MLFLOW_TRACKING_URI": uri}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = " ".join(secrets)
    quick = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "DARKROOM_MLFLOW_SECONDS": "15"}
    places = {"DVC_ROOT": f"{root}", "PATH": path, "PYTHONPATH": f"{ROOT / 'src'}"}
    return {**kept, **secrets, "TOLD": names, **places, **quick, **more}


def found(text: str, secrets: list[str]) -> list[str]:
    """The secrets, or parts that libraries cut of them, that stand in a text."""
    parts = {part for secret in secrets for part in re.split(r"[/@:'\" ]", secret)}
    return sorted(part for part in parts if len(part) > 5 and part in text)


def written(folder: Path) -> str:
    """Everything in a folder's files, names included, except git's and DVC's own settings."""
    return "\n".join(
        f"{path} {path.read_bytes().decode('latin-1')}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("config", "config.local")
    )


def command_lines() -> str:
    """What `ps` shows anybody."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_bytes().decode("latin-1"))
        except OSError:
            continue
    return "\n".join(lines)


def run(command: list[str], root: Path, env: dict[str, str]) -> tuple[str, str]:
    """Runs a command; returns what it printed, and all command lines meanwhile."""
    with (root.parent / "output.txt").open("w+b") as output:
        process = subprocess.Popen(command, cwd=root, env=env, stdout=output, stderr=output)
        seen, until = "", time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            seen += command_lines()
            time.sleep(0.3)
        process.kill()
        process.wait()
        output.seek(0)
        return output.read().decode("latin-1"), seen


class Heard(NamedTuple):
    """What commands let out."""

    printed: str
    seen: str
    """The command lines of all processes meanwhile."""
    written: str


COMMANDS = (["sync"], ["promote"], ["trace", "HEAD"])


def hear(number: int, uri: str, root: Path) -> Heard:
    """Runs a stage and one of the commands with a tracking address that cannot be reached."""
    env = environment(uri, root)
    chosen = COMMANDS if ALL else [COMMANDS[number % len(COMMANDS)]]
    commands = [[sys.executable, "-c", STAGE], *([DARKROOM, *arguments] for arguments in chosen)]
    heard = [run(command, root, env) for command in commands]
    if uri.startswith("postgresql://ada"):
        heard.append(run(["bash", f"{ROOT / 'tools/ui.sh'}"], root, {**env, "PORT": f"{free_port()}"}))
    printed, seen = map("".join, zip(*heard, strict=True))
    return Heard(printed, seen, written(root))


def wait_for_senders(root: Path) -> None:
    until = time.monotonic() + 90
    while f"{root}" in command_lines().replace(f"{ROOT}", "") and time.monotonic() < until:
        time.sleep(0.3)


@contextmanager
def git_project(folder: Path) -> Iterator[Path]:
    """A project's root; senders that are still at work for it at the end are ended."""
    root = folder / "project"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet", root], check=True)
    yield root
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_sender = f"mlflow.sender\0{root}" in (process / "cmdline").read_text()
        except OSError:
            continue
        if is_sender:
            os.kill(int(process.name), 15)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    with git_project(tmp_path) as root:
        yield root


def addresses() -> Iterator[tuple[str, str]]:
    for i, template in enumerate(ADDRESSES):
        secret = PASSWORDS[i % len(PASSWORDS)].format(200 + i)
        if "/t/" in template:
            secret = PASSWORDS[0].format(200 + i)
        yield template.format(secret, port=free_port()), secret


CHOSEN = range(len(ADDRESSES)) if ALL else (0, 5)
"""A sample of the kinds of address; test_secret_addresses.py has many more."""

OUT_OF_REACH = [address for number, address in enumerate(addresses()) if number in CHOSEN]


@pytest.fixture(scope="module")
def out_of_reach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Future[Heard]]]:
    """What is heard with each of ``OUT_OF_REACH``, side by side: most of the time is spent waiting."""
    with ExitStack() as stack:
        roots = [
            stack.enter_context(git_project(tmp_path_factory.mktemp("unreachable")))
            for _ in OUT_OF_REACH
        ]
        with ThreadPoolExecutor(4) as pool:
            yield [
                pool.submit(hear, number, uri.replace("{folder}", f"{root}"), root)
                for number, ((uri, _), root) in enumerate(zip(OUT_OF_REACH, roots, strict=True))
            ]


@pytest.mark.parametrize(
    "number",
    range(len(OUT_OF_REACH)),
    ids=[re.sub("{.*?}", "_", ADDRESSES[number]) for number in CHOSEN],
)
def test_with_an_mlflow_out_of_reach(number: int, out_of_reach: list[Future[Heard]]) -> None:
    secret = OUT_OF_REACH[number][1]
    secrets = [*VARIABLES.values(), *re.findall(r"Zq\d+[\w/ ]*", " ".join(MIXED.values())), secret]
    assert len(secrets) > 28
    heard = out_of_reach[number].result()
    assert "raised" in heard.printed
    assert "printed" in heard.printed
    assert re.search(r"mljournal/\S*-prepare-\S*/journal\.jsonl ", heard.written)
    for text in heard:
        assert found(text, secrets) == []


@pytest.mark.parametrize("login", ["", "ada:Zq300/Kl8sl9@", "Zq301token9x@"])
def test_with_an_mlflow_that_takes_everything(login: str, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    server = MlflowServer(folder)
    server.start()
    try:
        uri = server.uri.replace("://", f"://{login.replace('/', '%2F')}") if login else ""
        env = environment(uri, root)
        if not uri:  # the project's own database
            env["MLFLOW_TRACKING_URI"] = ""
        secrets = [*VARIABLES.values(), "Zq100java", "Zq101git", "Zq102", "Zq103signed", "Zq104 libpq"]
        secrets += re.findall(r"Zq30\d[\w/]*", login)
        output, seen = run([sys.executable, "-c", STAGE], root, env)
        wait_for_senders(root)
        told, at_work = run([DARKROOM, "sync"], root, env)
        kept = written(root) + written(folder)
        assert "told.DB_PASS" in kept
        assert found(output + told, secrets) == []
        assert found(seen + at_work, secrets) == []
        assert found(kept, secrets) == []
    finally:
        server.kill()


def test_a_stage_of_the_project(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    shutil.rmtree(project.folder / ".git")
    secret = "Zq400/Kl8sl9"
    env = environment(f"postgresql://ada:{secret}@127.0.0.1:{free_port()}/runs", project.folder)
    env["PYTHONPATH"] = f"{project.folder / 'src'}"
    output, seen = run([sys.executable, "stages/fetch.py"], project.folder, env)
    assert "1,797 images" in output
    project.set_params(data__path=f"https://ada:{secret}@host/data")
    more, _ = run([sys.executable, "stages/prepare.py"], project.folder, env)
    assert "data.path: " in more
    (project.folder / "params.yaml").unlink()
    secrets = [*VARIABLES.values(), secret]
    assert found(output + more, secrets) == []
    assert found(seen, secrets) == []
    assert found(written(project.folder), secrets) == []

"""`darkroom predict` with addresses: real S3 over loopback, faulty servers, and fsspec's memory."""

import csv
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from served_exports import IMAGES, draw, write_export, write_row_export

from darkroom.cli import main
from darkroom.errors import UserError
from darkroom.prediction import remote, stores
from darkroom.prediction.listing import list_images
from darkroom.prediction.remote import RemoteFile, file_of
from darkroom.prediction.unfinished import Unfinished

SECRET = "verySecretKey0123456789"
BUCKET = "photos"
RUNS = itertools.count()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("exported") / "export")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of files in every format, two of them broken; credentials; no store is known yet."""
    for name, content in {**IMAGES, "broken.png": draw(9)[:60], "empty.jpg": b""}.items():
        for folder in ("local", "local/in/deep"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(content)
    (tmp_path / "local/.hidden.png").write_bytes(draw(3))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAQQQQQQQQQQQQQQQQ")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    stores.file_system.cache_clear()
    remote._READABLE.clear()
    yield tmp_path
    stores.file_system.cache_clear()


def run(*arguments: object, text: str | None = None) -> Result:
    words = [f"{argument}" for argument in arguments]
    result = CliRunner().invoke(main, ["predict", *words], input=text, catch_exceptions=False)
    print(result.stderr)  # pytest shows it if something fails
    assert SECRET not in result.output
    assert "QQQQ" not in result.output
    return result


def refused(*arguments: object, text: str | None = None) -> str:
    result = run(*arguments, text=text)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def rows(text: str, place: str) -> list[list[str]]:
    """The cells of a table, with the paths below ``place``."""
    found = list(csv.reader(text.splitlines(), delimiter="\t"))
    return [[row[0].removeprefix(f"{place}/"), *row[1:]] for row in found]


# which addresses


def test_an_address_is_told_from_a_path(there: Path) -> None:
    assert file_of("s3://b/a//x?y#z/") == RemoteFile("s3", "b/a//x?y#z")
    assert file_of("S3://b") == RemoteFile("s3", "b")
    for plain in ("a/b.png", "c:/x", "s3:/b/a", "://x", "s3/b"):
        assert file_of(plain) == Path(plain)
    (there / "s3:/b").mkdir(parents=True)
    assert file_of("s3://b") == Path("s3:/b")  # an existing folder of this name stays what it is
    (there / "a b.png").touch()
    assert (
        file_of(f"file://{there}/a%20b.png") == file_of(f"file://{there}/a b.png") == there / "a b.png"
    )
    signed = file_of("https://h/a.png?X-Amz-Signature=1")
    assert (f"{signed}", os.fspath(signed)) == ("https://h/a.png", "https://h/a.png?X-Amz-Signature=1")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (f"s3://user:{SECRET}@bucket/x", "has a login, which others can see; put the credentials"),
        ("s3://", "names nothing; add a bucket or a host"),
        ("az://bucket/x", "needs a package that is not installed (Install adlfs"),
        ("s4://bucket/x", "use s3://, gs://, https:// or a path"),
        ("file://host/x", "not on this machine"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(
    address: str, words: str, exported: Path, there: Path
) -> None:
    assert words in refused(exported, address)


def test_a_store_of_fsspec_gives_the_rows_of_local_files(exported: Path, there: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(f"{there}/local/", "/bucket/local/", recursive=True)
    local = run(exported, "local")
    found = run(exported, "memory://bucket/local/")
    assert rows(found.stdout, "memory://bucket/local") == rows(local.stdout, "local")
    assert found.stderr.replace("memory://bucket/", "") == local.stderr
    assert (found.exit_code, local.stdout.count("\n")) == (1, 12)
    globs = [
        f"{path}"
        for path in list_images(["memory://bucket/local/*/deep/*.p?m", "memory://bucket/local/in"])
    ]
    assert globs[0].endswith("deep/5.ppm")
    assert len(globs) == len(set(globs)) == 8
    assert "no such file, folder with files" in refused(exported, "memory://bucket/none/*.png")
    listed = "memory://bucket/local/0.png\nlocal/0.png\n"
    one, two = run(exported, "--from-file", "-", text=listed).stdout.splitlines()
    assert one.split("\t")[1:] == two.split("\t")[1:]
    memory.pipe("/bucket/list.txt", listed.encode())
    assert run(exported, "--from-file", "memory://bucket/list.txt").stdout.splitlines() == [one, two]
    assert run(exported, "local", "--out", "a.csv").exit_code == 1
    for _ in range(2):  # a table of ours is replaced
        assert run(exported, "local", "--out", "memory://bucket/a.csv").exit_code == 1
        assert memory.cat("/bucket/a.csv") == (there / "a.csv").read_bytes()
    assert not list(there.glob(".*.unfinished"))
    memory.pipe("/bucket/a.csv", b"mine")
    assert "not a table of predictions" in refused(exported, "local", "--out", "memory://bucket/a.csv")
    assert "a folder" in refused(exported, "local", "--out", "memory://bucket/local")
    assert "masks are written to this machine" in refused(exported, "local", "--masks", "memory://b/m")
    assert "a web server cannot be written" in refused(exported, "local", "--out", "https://h/a.csv")


# S3


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of a real S3 server on loopback; ``endpoint`` is its address."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    yield client
    server.stop()


def put(s3: Any, folder: Path) -> str:
    """Copies a folder into the bucket; returns its address."""
    top = f"run{next(RUNS)}"
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{top}/{path.relative_to(folder.parent)}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    return f"s3://{BUCKET}/{top}/{folder.name}"


@pytest.mark.slow
def test_s3_gives_the_bytes_of_local_files(
    s3: Any, exported: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)
    place = put(s3, there / "local")
    local = run(exported, "local", "--out", "a.parquet", "--top-k", 2)
    found = run(exported, f"{place}/", "--out", f"s3://{BUCKET}/new/folder/a.parquet", "--top-k", 2)
    assert (found.exit_code, found.stderr.count("not classified")) == (1, 4)
    assert found.stderr.replace(f"{place.removesuffix('/local')}/", "").replace(
        f"s3://{BUCKET}/new/folder/", ""
    ) == local.stderr  # fmt: skip
    content = s3.get_object(Bucket=BUCKET, Key="new/folder/a.parquet")["Body"].read()
    [table, expected] = [pq.read_table(one) for one in (io.BytesIO(content), "a.parquet")]
    assert [name.removeprefix(f"{place}/") for name in table["path"].to_pylist()] == [
        name.removeprefix("local/") for name in expected["path"].to_pylist()
    ]
    assert table.drop(["path"]) == expected.drop(["path"])
    assert run(exported, "local", "--out", f"s3://{BUCKET}/b.csv").exit_code == 1
    assert run(exported, "local", "--out", "b.csv").exit_code == 1
    same = s3.get_object(Bucket=BUCKET, Key="b.csv")["Body"].read()
    assert same == (there / "b.csv").read_bytes()
    assert "there is no bucket s3://none" in refused(exported, "local", "--out", "s3://none/a.csv")
    assert "cannot be listed" in refused(exported, "s3://none/")
    model = write_row_export(there / "model")
    (there / "rows.csv").write_text("age,colour\n4,red\nx,blue\n60,blue\n")
    s3.upload_file(f"{there}/rows.csv", BUCKET, "rows.csv")
    of_rows = run(model, f"s3://{BUCKET}/rows.csv")
    assert of_rows.stdout == run(model, "rows.csv").stdout
    assert f"s3://{BUCKET}/rows.csv" in of_rows.stderr


@pytest.mark.slow
def test_an_object_that_vanishes_is_named_and_the_same_command_resumes(
    s3: Any, exported: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)
    (there / "many").mkdir()
    for index in range(100):
        (there / f"many/{index:03d}.png").write_bytes(draw(index))
    place = put(s3, there / "many")
    command = exported, place, "--out", f"s3://{BUCKET}/c.csv"
    append, done = Unfinished.append, iter(range(1))

    def stopped(self: Unfinished, *arguments: Any) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt
        append(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "append", stopped)
        assert run(*command).exit_code == 1
    assert [path.name[:7] for path in there.glob(".*.unfinished")] == [".c.csv."]
    begin = Unfinished.begin

    def vanishing(self: Unfinished, *arguments: Any) -> None:
        begin(self, *arguments)  # the images are listed
        for name in ("070", "001"):  # the second one is done already
            s3.delete_object(Bucket=BUCKET, Key=f"{place.split('/')[3]}/many/{name}.png")

    monkeypatch.setattr(Unfinished, "begin", vanishing)
    result = run(*command)
    assert result.exit_code == 1
    assert "resumes after 64 of 100 images" in result.stderr
    assert f"{place}/070.png: not classified: there is no such file any more" in result.stderr
    content = s3.get_object(Bucket=BUCKET, Key="c.csv")["Body"].read().decode()
    names = [row[0] for row in csv.reader(content.splitlines())][1:]
    assert names == [f"{place}/{index:03d}.png" for index in range(100) if index != 70]
    assert not list(there.glob(".*.unfinished"))
    monkeypatch.setattr(Unfinished, "begin", begin)
    (there / "many/070.png").unlink()
    assert run(exported, "many", "--out", "c.csv").exit_code == 0
    assert content.replace(f"{place}/", "many/") == (there / "c.csv").read_text()


@pytest.mark.slow
def test_a_killed_process_is_continued_and_asks_nobody_else(
    s3: Any, exported: Path, there: Path
) -> None:
    (there / "many").mkdir()
    for index in range(64 * 6):
        (there / f"many/{index:03d}.png").write_bytes(draw(index))
    place = put(s3, there / "many")
    with serving({}) as metadata:
        env = {
            **{k: v for k, v in os.environ.items() if k != "AWS_EC2_METADATA_DISABLED"},
            "AWS_ENDPOINT_URL_S3": s3.meta.endpoint_url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.address,
        }  # no region, which would be looked up
        line = [
            sys.executable,
            "-c",
            "from darkroom.cli import main; main()",
            "predict",
            exported,
            place,
        ]
        command = [*map(str, line), "--out", f"s3://{BUCKET}/k.csv"]
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        while process.poll() is None:
            kept = [path.stat().st_size for path in there.glob(".k.csv.*.unfinished/rows")]
            if kept and kept[0] > 10_000:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        assert process.wait() == -signal.SIGKILL, process.communicate()
        result = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True)
        assert (result.returncode, metadata.asked) == (0, [])
    assert "resumes after " in result.stderr
    assert run(exported, "many", "--out", "k.csv").exit_code == 0
    content = s3.get_object(Bucket=BUCKET, Key="k.csv")["Body"].read().decode()
    assert content.replace(f"{place}/", "many/") == (there / "k.csv").read_text()


# servers with faults


class Faulty(ThreadingHTTPServer):
    """Answers with a status, a size and a body for each path."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, int, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.asked = {**answers}, list[str]()
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Faulty

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        status, size, body = self.server.answers.get(path, (404, 0, b""))
        self.send_response(status)
        self.send_header("Content-Length", f"{size}")
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    do_HEAD = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(answers: dict[str, tuple[int, int, bytes]]) -> Iterator[Faulty]:
    server = Faulty(answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


GOOD = draw(0)
ANSWERS = {
    "/b/good.png": (200, len(GOOD), GOOD),
    "/b/denied.png": (403, 0, b""),
    "/b/short.png": (200, len(GOOD), GOOD[:-40]),
    "/b/large.png": (200, 2**40, b""),
}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_faults_of_one_file_are_outcomes_and_those_of_the_store_stop(
    scheme: str, exported: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ANSWERS) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        top = "s3://b" if scheme == "s3" else f"{server.address}/b"
        (there / "good.png").write_bytes(GOOD)

        def given(*names: str) -> str:
            return "".join(f"{top}/{name}.png\n" for name in names)

        # nothing was read before, so it may be that the credentials allow nothing
        message = refused(exported, "--from-file", "-", text=given("denied"))
        assert f"{top}/denied.png: cannot be read" in message
        assert "check the credentials and what they allow, and run the same command again" in message
        good = run(exported, "--from-file", "-", text=given("good"))
        assert good.stdout.split("\t")[1:] == run(exported, "good.png").stdout.split("\t")[1:]
        some = run(exported, "--from-file", "-", text=given("good", "denied", "gone", "good"))
        assert (some.exit_code, some.stdout) == (1, good.stdout * 2)
        reasons = [line.partition("not classified: ")[2] for line in some.stderr.splitlines()[:-1]]
        assert reasons == ["access is denied", "there is no such file any more"]
        if scheme == "s3":  # whose answers say how long they will be
            large = run(exported, "--from-file", "-", text=given("large"))
            assert "at most 536,870,912 are read" in large.stderr
        message = refused(exported, "--from-file", "-", text=given("good", "short"))
        assert f"{top}/short.png: cannot be read" in message
        server.answers["/b/good.png"] = (403, 0, b"")  # the credentials have expired
        message = refused(
            exported,
            "--from-file",
            "-",
            text=given("good", "denied"),
        )
        assert "check the credentials" in message
    message = refused(exported, "--from-file", "-", text=given("good"))
    assert f"{top}/good.png: cannot be read" in message
    assert "check the address" in message


def test_a_signature_is_neither_printed_nor_written(exported: Path, there: Path) -> None:
    with serving(ANSWERS) as server:
        signed = f"{server.address}/b/good.png?X-Amz-Signature={SECRET}"
        assert run(exported, signed, "--out", "a.csv").exit_code == 0
        assert SECRET not in (there / "a.csv").read_text()
        assert f"{server.address}/b/good.png," in (there / "a.csv").read_text()
        run(exported, signed.replace("good", "gone"), "--out", "a.csv")
        run(exported, signed.replace("good", "denied"))


def test_the_negative_twin_another_pixel_changes_a_row(exported: Path, there: Path) -> None:
    other = draw(1)
    with serving(
        {"/b/good.png": (200, len(GOOD), GOOD), "/b/x.png": (200, len(other), other)}
    ) as server:
        one, two = run(
            exported, *(f"{server.address}/b/{n}.png" for n in ("good", "x"))
        ).stdout.splitlines()
    assert one.split("\t")[2:] != two.split("\t")[2:]


def test_a_login_is_refused_before_it_is_used() -> None:
    with pytest.raises(UserError, match=r"^https://\.\.\.@host: has a login") as found:
        file_of(f"https://me:{SECRET}@host/x.png")
    assert SECRET not in f"{found.value}"

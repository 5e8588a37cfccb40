"""Sources of data from a Python file of the user: mistakes, what is kept, and what is never lost."""

import hashlib
import io
import json
import os
import re
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from project import documented
from test_params import edited

from darkroom.collection.collection import open_files
from darkroom.collection.fetched import bring_sets
from darkroom.collection.sources import fetch_set
from darkroom.errors import UserError
from darkroom.params import load_params

FILE = Path("own/fetch/shapes.py")
ITEM = f"file:{FILE}:shapes"
FETCHED, SCRATCH = Path("data/fetched"), Path(".darkroom/fetched")


class Counted:
    """Counts what a source says of its progress."""

    expected = done = 0

    def expect(self, num_images: int) -> None:
        self.expected += num_images

    def advance(self, num_images: int) -> None:
        self.done += num_images


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder: a project with the guide's example, and images of its owner."""
    monkeypatch.chdir(tmp_path)
    FILE.parent.mkdir(parents=True)
    FILE.write_text(documented("own/fetch/shapes.py"))
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/1.png").write_bytes(b"mine")


def bring(*items: str, progress: Any = None) -> dict[str, str]:
    counted = progress or Counted()
    return bring_sets(items, FETCHED, SCRATCH, lambda item, folder: fetch_set(item, folder, counted))


def tree(folder: Path = Path()) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".darkroom" not in path.parts]
    return {path.as_posix(): path.read_bytes() for path in files}


def write(body: str) -> None:
    lines = "\n    ".join(body.splitlines())
    FILE.write_text(f"import os, shutil\n\ndef shapes(folder):\n    {lines}\n")


# mistakes that show when params.yaml is read: nothing is run


def refused(items: str, path: str = "data/fetched/shapes") -> str:
    """The mistakes in params.yaml; empty if there are none."""
    Path("params.yaml").write_text(
        edited({"data.fetch": f"fetch: {items}", "data.path": f"path: {path}"})
    )
    try:
        load_params(Path("params.yaml"))
    except UserError as error:
        return f"{error}"
    return ""


def test_the_example_is_accepted_with_and_without_public_sets() -> None:
    assert refused(f"[{ITEM}]") == ""
    assert refused(f"[digits, {ITEM}]") == ""
    assert refused(f"[digits, {ITEM}]", "data/fetched/digits") == ""
    assert refused(f"[{ITEM}]", "data/shapes") == ""  # of the owner
    assert "data.fetch lists shapes, but not digits" in refused(f"[{ITEM}]", "data/fetched/digits")
    assert "lists digits, but not shapes" in refused("[digits]")


@pytest.mark.parametrize(
    "item",
    [
        *("own/fetch/shapes.py:shapes", "file:shapes.py:shapes", "file:own/train/shapes.py:shapes"),
        *("file:own/fetch/../../shapes.py:shapes", "file:/own/fetch/shapes.py:shapes"),
        *("file:own/fetch/shapes.py", "file:own/fetch/shapes.py:", "file:own/fetch/shapes.py:../mine"),
        *("file:own/fetch/shapes.py:a/b", "file:own/fetch/shapes.py:..", "file:own/fetch/a/b.py:shapes"),
        *("file:own/fetch/shapes.py:shapes; touch x", "file:own/fetch/$(touch x).py:shapes"),
        *("file:own/fetch/shapes.py:shapes\\n", "file:own/fetch/shapes.py:.downloads", "file:"),
        f"file:own/fetch/{'x' * 300}.py:shapes",
    ],
)
def test_another_place_or_name_is_refused(item: str) -> None:
    message = refused(f'["{item}"]')
    assert re.match(r"params\.yaml:\d+: data\.fetch: .* is not allowed; it must be a list", message)
    assert message.endswith("hf--OWNER--NAME or file:own/fetch/FILE.py:NAME")


def test_a_name_of_another_set_is_refused_whatever_its_case() -> None:
    for name in ("mnist", "Digits"):
        FILE.write_text(f"def {name}(folder): pass")
        message = refused(f"[file:{FILE}:{name}]", "data/mine")
        assert f"would be data/fetched/{name}, which is the folder of another set; rename" in message
    FILE.write_text("def shapes(folder): pass\ndef Shapes(folder): pass")
    FILE.with_name("b.py").write_text("def shapes(folder): pass")
    for other in (f"file:{FILE}:Shapes", "file:own/fetch/b.py:shapes"):
        assert "would be data/fetched/shapes, which is the folder of ano" in refused(
            f"[{ITEM}, {other}]"
        )
    assert "contains a data set twice" in refused(f"[{ITEM}, {ITEM}]")


STATIC = {
    "def other(folder): pass": f"{FILE} does not define shapes; it defines other",
    "def shapes(folder)\n": f"{FILE}:1: expected ':'; it is not valid Python",
    "import flowrs\ndef shapes(folder): pass": f"{FILE}:1: the package flowrs is not installed",
    "def shapes(place): pass": f"shapes in {FILE} does not take folder, which is where it must write",
    "def shapes(folder, url): pass": f"{FILE}: shapes requires the argument url, which darkroom does not"
    " pass; it can take folder, progress",
}


@pytest.mark.parametrize("text", STATIC)
def test_a_mistake_shows_when_the_parameters_are_read(text: str) -> None:
    FILE.write_text(text)
    assert f": data.fetch: {STATIC[text]}" in refused(f"[{ITEM}]")


@pytest.mark.parametrize("linked", ["own/fetch/shapes.py", "own/fetch", "own"])
def test_a_link_is_refused(linked: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "there"
    Path(linked).rename(elsewhere)
    Path(linked).symlink_to(elsewhere)
    assert f"data.fetch: {linked} is a link; put the file itself there" in refused(f"[{ITEM}]")
    with pytest.raises(UserError, match="is a link"):
        bring(ITEM)
    Path(linked).unlink()
    elsewhere.rename(linked)
    assert refused(f"[{ITEM}]") == ""


# what works


def test_the_example_writes_what_prepare_reads_and_the_same_again() -> None:
    counted = Counted()
    assert bring(ITEM, progress=counted) == {"shapes": "300 images"}
    assert counted.expected == counted.done == 300
    first = tree(FETCHED)
    assert len(first) == 301
    record = json.loads((FETCHED / "shapes.json").read_text())
    assert record["source"] == {
        "file": f"{FILE}",
        "sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
    }
    image = FETCHED / "shapes/circle/000.png"
    assert record["sha256"]["circle/000.png"] == hashlib.sha256(image.read_bytes()).hexdigest()
    with Image.open(image) as opened:
        assert opened.size == (32, 32)
    assert (
        sum(entry.outcome is None for entry in open_files(FETCHED / "shapes", SCRATCH).entries()) == 300
    )

    FILE.write_text(FILE.read_text() + "# a comment\n")
    bring(ITEM)
    second = tree(FETCHED)
    assert second.pop("data/fetched/shapes.json") != first.pop("data/fetched/shapes.json")
    assert second == first
    FILE.write_text(FILE.read_text().replace("Random(0)", "Random(1)"))
    bring(ITEM)
    assert tree(FETCHED)["data/fetched/shapes/circle/000.png"] != first[image.as_posix()]


def test_the_example_of_an_archive_is_checked_and_extracted(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add("data/mine/1.png", "rose/1.png")
    Path("flowers.tar.gz").write_bytes(buffer.getvalue())
    handler = partial(SimpleHTTPRequestHandler, directory=f"{tmp_path}")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        text = documented("own/fetch/flowers.py")
        text = text.replace("https://example.org", f"http://127.0.0.1:{server.server_address[1]}")
        path, item = FILE.with_name("flowers.py"), "file:own/fetch/flowers.py:flowers"
        path.write_text(text)
        with pytest.raises(
            UserError, match=r"^data\.fetch: own/fetch/flowers\.py:17: ValueError: .*chang"
        ):
            bring(item)
        assert tree(FETCHED) == {}
        path.write_text(text.replace('"..."', f'"{hashlib.sha256(buffer.getvalue()).hexdigest()}"'))
        assert bring(item) == {"flowers": "1 image"}
        server.shutdown()
    assert (FETCHED / "flowers/rose/1.png").read_bytes() == b"mine"


def test_the_function_runs_only_if_its_file_has_changed_or_files_are_missing() -> None:
    write("with open('calls', 'a') as file: file.write('.')\n(folder / '1.csv').write_text('x')")
    other = FILE.with_name("other.py")
    other.write_text("def other(folder): (folder / '1.txt').write_text('y')")

    def calls() -> int:
        return len(Path("calls").read_text())

    assert bring(ITEM) == {"shapes": "1 table"}
    assert bring(ITEM) == {"shapes": "1 table"}
    both = bring(f"file:{other}:other", ITEM)
    assert both == {"other": "1 image", "shapes": "1 table"}
    other.write_text(other.read_text() + "\n")
    bring(f"file:{other}:other", ITEM)
    bring(f"file:{other}:other")
    bring(ITEM)  # from scratch
    assert calls() == 1
    (FETCHED / "shapes/1.csv").unlink()
    bring(ITEM)
    assert calls() == 2
    bring()
    FILE.write_text(FILE.read_text() + "\n")
    bring(ITEM)  # what is in scratch is of the earlier file
    assert calls() == 3
    assert list(SCRATCH.glob(".downloads")) == []


# what is not kept


WRONG = {
    "an exception": ("(folder / '1.png').write_text('x')\n1 / 0", f"{FILE}:5: ZeroDivisionError"),
    "an exit": ("raise SystemExit(0)", f"{FILE}:4: SystemExit: 0"),
    "a file that is missing": ("open('no such')", f"{FILE}:4: FileNotFoundError: "),
    "nothing": ("pass", f"shapes in {FILE} writes no file into the folder that it is given"),
    "a generator": ("yield folder", f"shapes in {FILE} writes no file"),
    "folders": ("(folder / 'cat').mkdir()", f"shapes in {FILE} writes no file"),
    "another folder": (
        "os.chdir(folder.parent)\nfolder.rmdir()\nos.symlink('/etc', folder)",
        f"shapes in {FILE} removes or replaces the folder",
    ),
    "no folder": ("folder.rmdir()", f"shapes in {FILE} removes or replaces the folder"),
    "a link": (
        "os.symlink(os.path.abspath('data/mine/1.png'), folder / '1.png')",
        f"shapes in {FILE} writes '1.png' as a link; copy what it leads to",
    ),
    "a link to a folder": (
        "(folder / 'a').mkdir()\nos.symlink(os.path.abspath('data/mine'), folder / 'a/b')",
        f"shapes in {FILE} writes 'a/b' as a link",
    ),
    "a hard link": (
        "os.link('data/mine/1.png', folder / '1.png')",
        f"shapes in {FILE} writes '1.png' as a hard link; copy the file",
    ),
    "a pipe": ("os.mkfifo(folder / 'a')", "writes 'a', which is neither a file nor a folder"),
    "a name": ("(folder / 'a\\nb').write_text('x')", r"writes 'a\\nb', whose name is not printable"),
    "bytes": ("open(bytes(folder) + b'/\\xff', 'w')", r"writes '\\udcff', whose name is not printable"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_and_the_earlier_set_stays(case: str) -> None:
    body, expected = WRONG[case]
    write("(folder / '0.png').write_text('whole')")
    bring(ITEM)
    before = tree(Path("data"))
    assert before.keys() == {"data/mine/1.png", "data/fetched/shapes.json", "data/fetched/shapes/0.png"}
    write(body)
    with pytest.raises(UserError) as wrong:
        bring(ITEM)
    message = f"{wrong.value}"
    assert message.startswith("data.fetch: ")
    assert expected.replace("\\\\", "\\") in message
    assert message.endswith("; what it wrote was discarded")
    assert "\n" not in message
    assert tree(Path("data")) == before
    assert Path.cwd().joinpath(FILE).is_file()  # the folder that is current is the same
    assert not (SCRATCH / ".downloads").exists()
    write("(folder / '0.png').write_text('better')")
    bring(ITEM)
    assert (FETCHED / "shapes/0.png").read_text() == "better"


MOVES = {
    "shutil": "shutil.move('data/mine', folder / 'mine')",
    "rename": "os.chdir('data')\nos.rename(b'mine/1.png', os.fsencode(folder) + b'/1.png')",
    "pathlib": "import pathlib\npathlib.Path('data/mine/1.png').rename(folder / '1.png')",
}


@pytest.mark.parametrize("way", MOVES)
def test_files_of_the_owner_are_not_moved_into_a_set_that_may_be_discarded(way: str) -> None:
    write(f"(folder / '0.png').write_text('x')\n{MOVES[way]}\n1 / 0")
    with pytest.raises(
        UserError, match=r"shapes\.py:\d: PermissionError: .*/mine.* would be moved into"
    ):
        bring(ITEM)
    assert tree(Path("data")) == {"data/mine/1.png": b"mine"}


def test_other_moves_are_possible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (outside / "temporary").mkdir(parents=True)
    (outside / "mine.png").write_bytes(b"mine")
    (outside / "temporary/2.png").write_text("2")
    monkeypatch.setattr("tempfile.tempdir", f"{outside / 'temporary'}")
    write(
        "(folder / '0.png').write_text('0')\n"
        "os.rename(folder / '0.png', folder / '1.png')\n"
        f"shutil.move({f'{outside}/temporary/2.png'!r}, folder)\n"
        "os.rename('data/mine/1.png', 'data/mine/3.png')"
    )
    bring(ITEM)
    assert tree(Path("data")).keys() == {
        "data/fetched/shapes.json",
        *("data/fetched/shapes/1.png", "data/fetched/shapes/2.png", "data/mine/3.png"),
    }
    write(f"shutil.move({f'{outside}/mine.png'!r}, folder)")
    with pytest.raises(UserError, match="would be moved into"):
        bring(ITEM)
    os.rename(outside / "mine.png", "data/fetched/shapes/4.png")  # nothing watches any more


def test_what_people_put_where_the_set_belongs_is_left_alone() -> None:
    (FETCHED / "shapes").mkdir(parents=True)
    (FETCHED / "shapes/own.png").write_bytes(b"mine")
    before = tree()
    with pytest.raises(UserError, match=r"data/fetched/shapes was not written by fetch"):
        bring(ITEM)
    assert tree() == before
    Path(FETCHED / "shapes").rename("data/kept")
    bring(ITEM)
    (FETCHED / "shapes/own.png").write_bytes(b"mine")
    FILE.write_text(FILE.read_text() + "\n")
    before = tree()
    with pytest.raises(UserError, match=r"data/fetched/shapes/own\.png was not written by fetch"):
        bring(ITEM)
    assert tree() == before
    os.remove(FETCHED / "shapes/own.png")
    bring(ITEM)

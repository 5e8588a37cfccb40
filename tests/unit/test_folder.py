"""The files below a folder: all of them, none from elsewhere, and nothing that blocks."""

import os
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from darkroom.collection.entries import Entry
from darkroom.collection.folder import LINKED_FOLDER, FolderFiles
from darkroom.errors import UserError

DIGEST = "0123456789abcdef0123456789abcd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def make_files(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def listed(root: Path) -> dict[str, Entry]:
    entries = list(FolderFiles(root).entries())
    assert len({entry.path for entry in entries}) == len(entries)
    return {entry.path: entry for entry in entries}


def outcomes(root: Path) -> dict[str, tuple[str | None, str]]:
    return {path: (entry.outcome, entry.reason) for path, entry in listed(root).items()}


def test_every_file_at_any_depth_is_listed_with_its_size_and_read(root: Path) -> None:
    make_files(root, "1.png", "cat/2.png", "cat/a/b/c/3", "ünï/ c\n.png", "empty")
    (root / "empty").write_bytes(b"")
    entries = listed(root)
    walked = [Path(parent, name) for parent, _, names in os.walk(root) for name in names]
    assert sorted(entries) == sorted(str(path.relative_to(root)) for path in walked)
    files = pickle.loads(pickle.dumps(FolderFiles(root)))
    for path, entry in entries.items():
        assert entry == Entry(path, size=(root / path).stat().st_size)
        assert files.read(path, entry.offset, entry.size) == (root / path).read_bytes()


def test_the_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    make_files(root, "cat/1.png")
    (root / "cat/2.png").symlink_to(root / "cat/1.png")
    (tmp_path / "link").symlink_to("mine")
    assert listed(tmp_path / "link") == listed(root)
    assert FolderFiles(tmp_path / "link").name == str(tmp_path / "link")


def test_hidden_files_are_listed_and_no_link_below_them_is_followed(root: Path, tmp_path: Path) -> None:
    hidden = [".DS_Store", ".git/objects/1", "cat/._1.png", "cat/Thumbs.db", "__MACOSX/cat/1.png"]
    make_files(root, *hidden, "cat/1.hidden")
    make_files(tmp_path / "elsewhere", "secret")
    (root / ".git/root").symlink_to(root)  # would be a loop
    (root / ".git/elsewhere").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / ".pipe")
    entries = outcomes(root)
    assert entries.pop("cat/1.hidden") == (None, "")
    assert sorted(entries) == sorted([*hidden, ".git/root", ".git/elsewhere", ".pipe"])
    assert set(entries.values()) == {("hidden", "")}


def test_links_inside_are_followed(root: Path) -> None:
    make_files(root, "cat/1.png", "all/deep/2.png", ".store/3.png")
    (root / "cat/2.png").symlink_to("../all/deep/2.png")
    (root / "cat/3.png").symlink_to(root / ".store/3.png")
    (root / "cat/4.png").symlink_to("3.png")
    (root / "dog").symlink_to("all")
    entries = listed(root)
    assert {path for path, entry in entries.items() if entry.outcome is None} == {
        *("cat/1.png", "cat/2.png", "cat/3.png", "cat/4.png", "all/deep/2.png", "dog/deep/2.png")
    }
    files = FolderFiles(root)
    assert files.read("cat/4.png", 0, entries["cat/4.png"].size) == b".store/3.png"
    assert entries["cat/4.png"].size == len(".store/3.png")
    assert files.read("dog/deep/2.png", 0, entries["dog/deep/2.png"].size) == b"all/deep/2.png"


def test_links_out_are_named_and_never_opened(root: Path, tmp_path: Path) -> None:
    make_files(tmp_path, "mine-too/secret", "secret", "files/md5/01/short")
    os.mkfifo(tmp_path / "pipe")
    (root / "cat").mkdir()
    for name, target in {
        "absolute": tmp_path / "secret",
        "relative": "../../secret",
        "folder": tmp_path,
        "same-start": tmp_path / "mine-too",
        "in-between": "folder/secret",
        "pipe": tmp_path / "pipe",
        "almost-dvc": tmp_path / "files/md5/01/short",
        "system": "/etc/passwd",
    }.items():
        (root / "cat" / name).symlink_to(target)
    entries = outcomes(root)
    assert len(entries) == 8
    reasons = {name: reason for name, (_, reason) in entries.items()}
    to_folders = {name for name, reason in reasons.items() if reason == LINKED_FOLDER}
    assert to_folders == {"cat/folder", "cat/same-start"} & set(reasons)
    assert {outcome for outcome, _ in entries.values()} == {"outside"}
    assert set(reasons.values()) - {LINKED_FOLDER} == {"a link out of the folder"}


def test_a_file_that_dvc_checked_out_as_a_link_is_followed(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / ".dvc/cache/files/md5/01"
    make_files(cache, DIGEST, f"{DIGEST}.dir", f"23{DIGEST[2:]}/secret")
    for name in os.listdir(cache):
        (root / name).symlink_to(cache / name)
    assert outcomes(root) == {
        DIGEST: (None, ""),
        f"{DIGEST}.dir": ("outside", "a link out of the folder"),
        f"23{DIGEST[2:]}": ("unreadable", "not a regular file"),
    }
    assert FolderFiles(root).read(DIGEST, 0, 30) == DIGEST.encode()


def test_links_that_lead_nowhere_are_missing(root: Path, tmp_path: Path) -> None:
    (root / "dangling").symlink_to("no-such-file")
    (root / "elsewhere").symlink_to(tmp_path / "no-such-file")
    (root / "itself").symlink_to("itself")
    (root / "cache").symlink_to(tmp_path / f"files/md5/01/{DIGEST}")
    entries = outcomes(root)
    assert len(entries) == 4
    assert set(entries.values()) == {("missing", "a broken link")}


def test_what_is_no_regular_file_is_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe")
    (root / "linked-pipe").symlink_to("pipe")
    monkeypatch.chdir(root)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        entries = outcomes(root)
    assert entries.keys() == {"pipe", "linked-pipe", "socket"}
    assert set(entries.values()) == {("unreadable", "not a regular file")}


def test_names_that_are_not_utf8_are_escaped_and_not_read(root: Path) -> None:
    folder = os.fsencode(root)
    for name in (b"caf\xe9.png", b"f\xff/1.png", "café.png".encode()):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"12")
    assert outcomes(root) == {
        r"caf\xe9.png": ("unreadable", "its name is not UTF-8"),
        r"f\xff/1.png": ("unreadable", "its name is not UTF-8"),
        "café.png": (None, ""),
    }


def loop_to_root(root: Path) -> str:
    (root / "a/loop").symlink_to(root)
    return "a/loop"


def loop_to_own_folder(root: Path) -> str:
    (root / "a/loop").symlink_to(".")
    return "a/loop"


def loop_in_two_steps(root: Path) -> str:
    (root / "a/to-b").symlink_to("../b")
    (root / "b/to-a").symlink_to("../a")
    return "(a/to-b/to-a|b/to-a/to-b)"


@pytest.mark.parametrize("make_loop", [loop_to_root, loop_to_own_folder, loop_in_two_steps])
def test_a_link_back_into_itself_is_refused(root: Path, make_loop: Callable[[Path], str]) -> None:
    make_files(root, "a/1.png", "b/1.png")
    link = make_loop(root)
    with pytest.raises(
        UserError, match=f"{root}/{link}: this link leads to a folder that contains it; remove it"
    ):
        list(FolderFiles(root).entries())


def test_a_folder_linked_twice_is_no_loop(root: Path) -> None:
    make_files(root, "a/1.png", "b/2.png")
    (root / "a/b").symlink_to("../b")
    (root / "c").symlink_to("a")
    assert sorted(listed(root)) == ["a/1.png", "a/b/2.png", "b/2.png", "c/1.png", "c/b/2.png"]


def test_a_folder_that_cannot_be_listed_is_refused(root: Path) -> None:
    make_files(root, "1.png", "cat/1.png")
    entries = FolderFiles(root).entries()
    next(entries)  # the root is listed
    shutil.rmtree(root / "cat")
    with pytest.raises(UserError, match=r"mine/cat: this folder cannot be listed \(No such file"):
        list(entries)


def test_reading_what_is_gone_raises_an_os_error(root: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        FolderFiles(root).read("1.png", 0, 1)

"""The folder of public sets: what fetch wrote is kept or put away, and all else is left alone."""

import json
import os
import shutil
from pathlib import Path

import pytest

from darkroom.collection.fetched import bring_sets
from darkroom.errors import UserError


class Sets:
    """A project's folder of sets, and how often each was downloaded."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "data/fetched"
        self.scratch = root / ".darkroom/fetched"
        self.downloads: list[str] = []

    def bring(self, *names: str) -> dict[str, int]:
        return bring_sets(names, self.folder, self.scratch, self._fetch)

    def _fetch(self, name: str, folder: Path) -> None:
        self.downloads.append(name)
        for label in ("cat", "dog"):
            (folder / label).mkdir(parents=True)
            (folder / label / "1.png").write_text(f"{label} of {name}")

    def tree(self) -> dict[str, bytes]:
        files = [path for path in self.folder.parent.rglob("*") if path.is_file()]
        return {os.path.relpath(path, self.folder): path.read_bytes() for path in files}


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    return Sets(tmp_path)


def test_only_what_is_new_is_downloaded(sets: Sets) -> None:
    assert sets.bring("a") == {"a": "2 images"}
    one = sets.tree()
    assert sets.bring("a", "b") == {"a": "2 images", "b": "2 images"}
    both = sets.tree()
    assert one.items() < both.items()
    assert sets.bring("b") == {"b": "2 images"}
    assert not (sets.folder / "a").exists()
    assert sets.bring() == {}
    assert sets.tree() == {}
    assert sets.bring("b", "a") == {"b": "2 images", "a": "2 images"}
    assert sets.tree() == both
    assert sets.downloads == ["a", "b"]


def test_the_list_has_the_digest_of_every_file(sets: Sets) -> None:
    sets.bring("a")
    listed = json.loads((sets.folder / "a.json").read_text())
    assert listed["set"] == "a"
    assert listed["sha256"] == {  # by sha256sum
        "cat/1.png": "f7dfaa035e57cb9ba42b41eb633925f1a9aaf2fda6bd79c49b007d770c76b79a",
        "dog/1.png": "947fc75e23f7fe620d1a8ea0e98fed89bfc5022292ff61f6bb79a1ca72b4a322",
    }


def test_what_is_missing_is_brought_again(sets: Sets) -> None:
    sets.bring("a")
    whole = sets.tree()
    (sets.folder / "a/cat/1.png").unlink()
    sets.bring("a")
    assert sets.tree() == whole
    shutil.rmtree(sets.folder / "a")
    sets.bring("a")
    assert sets.tree() == whole
    assert sets.downloads == ["a"] * 3


def add_folder(folder: Path) -> Path:
    (folder / "mine/cat").mkdir(parents=True)
    (folder / "mine/cat/1.png").write_text("my cat")
    return folder / "mine"


def add_file(folder: Path) -> Path:
    (folder / "a/cat/2.png").write_text("my cat")
    return folder / "a/cat/2.png"


def edit_file(folder: Path) -> Path:
    (folder / "a/cat/1.png").write_text("a better cat")
    return folder / "a/cat/1.png"


def add_text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("note")
    return folder / "notes.txt"


def add_json(folder: Path) -> Path:
    (folder / "labels.json").write_text('{"set": "labels", "sha256": 3, "cat": 1}')
    return folder / "labels.json"


def link_outside(link: Path, root: Path) -> Path:
    outside = root / "outside"
    outside.mkdir()
    (outside / "1.png").write_text("mine")
    link.symlink_to(outside)
    return link


def link_folder(folder: Path) -> Path:
    return link_outside(folder / "b", folder.parent)


def link_class(folder: Path) -> Path:
    return link_outside(folder / "a/bird", folder.parent)


def add_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a/pipe")
    return folder / "a/pipe"


def remove_list(folder: Path) -> Path:
    (folder / "a.json").unlink()
    return folder / "a"


@pytest.mark.parametrize("wanted", [(), ("a",), ("b",), ("a", "b")])
@pytest.mark.parametrize(
    "intrude",
    [
        add_folder,
        add_file,
        edit_file,
        add_text,
        add_json,
        link_folder,
        link_class,
        add_pipe,
        remove_list,
    ],
)
def test_what_people_put_there_is_named_and_left_alone(
    sets: Sets, intrude: object, wanted: tuple[str, ...]
) -> None:
    sets.bring("a")
    place = intrude(sets.folder)  # type: ignore[operator]
    before = sets.tree()
    with pytest.raises(UserError, match=r"nothing was changed.*data/mine") as refused:
        sets.bring(*wanted)
    assert f"{refused.value}".startswith(f"{place} was not written by fetch, or was changed since")
    assert sets.tree() == before
    assert sets.downloads == ["a"]


def test_a_folder_of_a_sets_name_that_was_there_first_is_left_alone(sets: Sets) -> None:
    (sets.folder / "a").mkdir(parents=True)
    (sets.folder / "a/1.png").write_text("mine")
    with pytest.raises(UserError, match="nothing was changed"):
        sets.bring("a")
    assert sets.tree() == {"a/1.png": b"mine"}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", range(8))
def test_a_run_that_is_killed_between_any_two_steps_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    whole = Sets(tmp_path / "whole")
    whole.bring("b")
    sets = Sets(tmp_path / "killed")
    sets.bring("a")
    steps = iter(range(call))

    def killing(original: object) -> object:
        def step(*args: object, **kwargs: object) -> object:
            if next(steps, None) is None:
                raise Killed
            return original(*args, **kwargs)  # type: ignore[operator]

        return step

    with monkeypatch.context() as patched:
        for module, name in ((shutil, "copy"), (shutil, "move"), (Path, "unlink")):
            patched.setattr(module, name, killing(getattr(module, name)))
        with pytest.raises(Killed):
            sets.bring("b")
    sets.bring("b")
    assert sets.tree() == whole.tree()


def test_a_set_in_scratch_that_was_changed_is_not_used(sets: Sets) -> None:
    sets.bring("a")
    whole = sets.tree()
    sets.bring()
    (sets.scratch / "a/cat/1.png").write_text("rotten")
    sets.bring("a")
    assert sets.tree() == whole
    assert sets.downloads == ["a", "a"]

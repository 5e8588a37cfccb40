import hashlib
import os
from pathlib import Path

import pytest
from tiny import empty_repository

from darkroom.tracking.ledger.dvc_hash import dvc_md5, listing_md5
from darkroom.tracking.ledger.results import parse_results

NAMES = ("file", "größe.csv", "empty_file", "flat", "nested", "unicode", "empty", "ignored", "linked")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with outputs of many kinds, and what DVC has recorded of them."""
    project = empty_repository(tmp_path_factory.mktemp("hashes"))
    folder = project.folder
    project.dvc("init", "--quiet")
    (folder / ".dvcignore").write_text("# not tracked\n__pycache__\n*.tmp\n.DS_Store\nscratch/\n")
    files = {
        "file": "a\r\nb\n",
        "größe.csv": "ü",
        "empty_file": "",
        "flat/b": "1",
        "flat/a": "2",
        "nested/a/b/c": "3",
        "nested/a.txt": "4",  # `.` sorts before `/`
        "nested/a-b/x": "5",
        "nested/B": "6",
        'unicode/größe/日本 "quoted" \\ \t.txt': "7",
        "unicode/z\u0308.txt": "8",
        "unicode/\U0001f4f7.png": "9",
        "ignored/kept": "10",
        "ignored/__pycache__/x.pyc": "11",
        "ignored/sub/y.tmp": "12",
        "ignored/scratch/z": "13",
        "ignored/.DS_Store": "14",
        "linked/.gitignore": "15",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    (folder / "empty").mkdir()
    (folder / "nested/empty").mkdir()
    os.symlink("../file", folder / "linked/file")
    os.symlink("../flat", folder / "linked/folder")
    outs = "".join(f"      - {name}: {{persist: true}}\n" for name in NAMES)
    (folder / "dvc.yaml").write_text(f"stages:\n  all:\n    cmd: exit\n    outs:\n{outs}")
    expected = {name: dvc_md5(folder / name) for name in NAMES}  # DVC may turn files into links
    project.dvc("repro")
    recorded = parse_results((folder / "dvc.lock").read_text())["all"].outs
    assert {name: content.md5 for name, content in recorded.items()}.keys() == expected.keys()
    return folder, {name: content.md5 for name, content in recorded.items()}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_dvc_records(written: tuple[Path, dict[str, str]], name: str) -> None:
    folder, recorded = written
    assert dvc_md5(folder / name) == recorded[name]


def test_every_change_of_a_folder_changes_it(tmp_path: Path) -> None:
    def md5() -> str:
        return dvc_md5(tmp_path / "out")

    (tmp_path / "out/sub").mkdir(parents=True)
    (tmp_path / "out/sub/a").write_text("1")
    first = md5()
    assert first == md5() == listing_md5({"sub/a": hashlib.md5(b"1").hexdigest()})
    (tmp_path / "out/sub/a").write_text("2")
    assert md5() != first
    (tmp_path / "out/sub/a").write_text("1")
    assert md5() == first
    (tmp_path / "out/sub/a").rename(tmp_path / "out/sub/b")
    assert md5() != first


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        dvc_md5(tmp_path / "none")

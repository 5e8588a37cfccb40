"""The table of ``predict --out``: whole or not at all, and never over what is not its own."""

import os
import stat
from pathlib import Path

import pytest

from darkroom.errors import UserError
from darkroom.prediction.table import check_target, is_predictions, open_table, without_target

FULL = Path("/dev/full")
OURS = "path,class,probability\na.png,cat,0.9\n"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("export", "images", "inner"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images/a.png").write_bytes(b"an image")
    (tmp_path / "export/model.json").write_text("{}")
    return tmp_path


def check(target: str, force: bool = False) -> None:
    check_target(Path(target), Path("export"), force)
    images = [Path("images/a.png"), Path("gone.png")]
    assert list(without_target(images, Path(target))) == images


ALLOWED = {
    "new.csv": None,
    "inner/new.csv": None,
    "ours.csv": OURS,
    "top.csv": "path,class,probability,class_2,probability_2\n",
    "several.csv": "path,labels,probabilities\n",
    "empty.csv": "",
}


@pytest.mark.parametrize("name", ALLOWED)
def test_new_files_and_tables_of_ours_are_written(name: str, there: Path) -> None:
    if (content := ALLOWED[name]) is not None:
        (there / name).write_text(content)
    check(name)


def test_streams_are_written_to(there: Path) -> None:
    os.mkfifo(there / "pipe")
    for name in ("/dev/null", "/dev/stdout", "pipe"):
        check(name)


def test_what_is_not_its_own_is_refused(there: Path) -> None:
    (there / "notes.csv").write_text("path,label\na,b\n")
    (there / "labels.csv").write_text("path,class\n")
    (there / "binary").write_bytes(bytes(10_000))
    for name in ("notes.csv", "labels.csv", "binary"):
        with pytest.raises(UserError, match=f"--out {name}: .*not a table of predictions.*--force"):
            check(name)
        check(name, force=True)


def test_what_nothing_may_replace(there: Path) -> None:
    (there / "ours.csv").write_text(OURS)
    (there / "link.csv").symlink_to("ours.csv")
    (there / "dangling.csv").symlink_to("nothing.csv")
    (there / "hard.png").hardlink_to("images/a.png")
    (there / "way").symlink_to("export", target_is_directory=True)
    refused = {
        "images": "not a regular file",
        ".": "is in|not a regular file",
        "link.csv": "a link; to replace its target",
        "dangling.csv": "a broken link",
        "images/a.png": "is one of the images to classify|not a table of predictions",
        "hard.png": "is one of the images to classify|not a table of predictions",
        "export/preds.csv": "is in export",
        "export/model.json": "is in export",
        "inner/../export/preds.csv": "is in export",
        "way/preds.csv": "is in export",
        "none/preds.csv": "there is no folder none",
        "ours.csv/preds.csv": "there is no folder ours.csv",
    }
    for name, reason in refused.items():
        for force in (False, True):
            with pytest.raises(UserError, match=rf"^--out {name}: .*({reason})"):
                check(name, force)
    assert (there / "images/a.png").read_bytes() == b"an image"


def test_a_table_among_the_images_is_none_of_them(there: Path) -> None:
    (there / "images/preds.csv").write_text(OURS)
    table, image, gone = Path("images/preds.csv"), Path("images/a.png"), Path("images/gone.csv")
    assert list(without_target([image, table], Path("inner/../images/preds.csv"))) == [image]
    assert list(without_target([image, gone], gone)) == [image, gone]
    for alone, target in ((table, table), (image, image)):
        with pytest.raises(UserError, match="is one of the images to classify"):
            list(without_target([alone], target))
    assert not is_predictions(there / "images/a.png")


def test_the_old_table_stays_until_the_new_one_is_whole(there: Path) -> None:
    target = there / "ours.csv"
    target.write_text(OURS)
    target.chmod(0o640)
    with open_table(target) as file:
        file.write("path,class,probability\n")
        file.flush()
        assert target.read_text() == OURS
    assert target.read_text() == "path,class,probability\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    for error in (KeyboardInterrupt(), SystemExit(143), ValueError()):
        with pytest.raises(type(error)), open_table(target) as file:  # noqa: PT012
            file.write("half")
            raise error
        assert target.read_text() == "path,class,probability\n"
    assert sorted(path.name for path in there.iterdir()) == ["export", "images", "inner", "ours.csv"]


def test_a_new_table_has_the_permissions_that_the_user_wants(there: Path) -> None:
    before = os.umask(0o027)
    try:
        with open_table(there / "new.csv") as file:
            file.write("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((there / "new.csv").stat().st_mode) == 0o640


def test_a_full_device_is_named(there: Path) -> None:
    with pytest.raises(UserError, match=r"--out /dev/full: .*No space left"), open_table(FULL) as file:
        file.write("x" * 100_000)

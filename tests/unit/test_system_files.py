"""What is left behind by systems and what describes images, told by names alone."""

import pytest

from darkroom.collection.sidecars import is_sidecar
from darkroom.collection.system_files import is_hidden

LEFT_BEHIND = [
    ".DS_Store",
    "._1.jpg",
    "Thumbs.db",
    "THUMBS.DB",
    "ehthumbs.db",
    "Desktop.INI",
    "@eaDir/1.jpg/SYNOFILE_THUMB_XL.jpg",
    "__MACOSX/cat/1.jpg",
    "lost+found/1.jpg",
    "Icon\r",
    ".Spotlight-V100/x",
    ".Trashes/501/1.jpg",
    "$RECYCLE.BIN/S-1/1.jpg",
    "System Volume Information/x",
    ".picasa.ini",
    ".nomedia",
    ".git/HEAD",
    ".ipynb_checkpoints/1.jpg",
    "1.jpg:Zone.Identifier",
    "found.000/FILE0000.CHK",
    "LOST.DIR/1",
    "WPSettings.dat",
    "pagefile.sys",
    "Desktop DB",
    "~$notes.docx",
    "~snapshot/hourly/1.jpg",
    "@appstore/x",
]
ORDINARY = [
    "1.jpg",
    "thumbs/1.jpg",
    "thumbs.db.png",
    "desktop/1.jpg",
    "icon/1.jpg",
    "Icon",
    "eadir/1.jpg",
    "lost and found/1.jpg",
    "git/1.jpg",
    "a.b.c",
    "cat@home/1.jpg",
    "~cat/1.jpg",
    "found/1.jpg",
    "recycler/1.jpg",
]


@pytest.mark.parametrize("path", LEFT_BEHIND)
@pytest.mark.parametrize("spell", [str, str.upper, str.lower], ids=["as is", "upper", "lower"])
@pytest.mark.parametrize("folder", ["", "cat/", "train/cat/deep/"])
def test_what_systems_leave_behind_is_hidden_anywhere_and_in_any_case(
    path: str, spell: type[str], folder: str
) -> None:
    assert is_hidden(folder + spell(path))


@pytest.mark.parametrize("path", ORDINARY)
def test_what_only_looks_so_is_not_hidden(path: str) -> None:
    assert not is_hidden(path)


@pytest.mark.parametrize(
    "name",
    [
        "1.txt",
        "1.JSON",
        "a/labels.csv",
        "1.xml",
        "1.idx",
        "x.yaml",
        "1.xmp",
        "1.aae",
        "README",
        "1.json.gz",
        "1.tfw",
        "1.docx",
    ],
)
def test_names_of_sidecars(name: str) -> None:
    assert is_sidecar(name)


@pytest.mark.parametrize(
    "name",
    ["1.jpg", "1", "1.gz", "1.npy", "1.zip", "txt", "1.svg", "1.txt.png", "1.pdf", "readme.png", ""],
)
def test_other_names_are_no_sidecars(name: str) -> None:
    assert not is_sidecar(name)

"""Links, paths and archive members that lead out, and bombs: refused, and nothing outside is opened."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import encoded, make_corpus, png
from PIL import Image
from preparation import prepare

from darkroom.errors import UserError

RUN = """
import json, os, re, resource, sys
from pathlib import Path

opened = []
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        if isinstance(arguments[0], (str, bytes, os.PathLike)):
            opened.append(os.fsdecode(arguments[0]))

from darkroom.preparation import ingest
from preparation import prepare

path, out, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
if options.get("workers", 1) > 1:
    ingest.SERIAL_FILES, ingest.CHUNK_FILES = 0, 4
sys.addaudithook(note)
left = prepare(Path(path), out, **options)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
largest_worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([left.outcomes, sorted(set(opened)), int(peak[1]), largest_worker]))
"""
GIBIBYTE = 2**20  # kB


@dataclass(frozen=True)
class Watched:
    """A run in a process of its own."""

    outcomes: dict[str, str]
    opened: set[str]
    """Real paths of all files and folders that it opened."""
    peak: int
    """Of its memory, in kB."""
    largest_worker: int
    """Peak of the memory of one of its workers, in kB."""


def watch(path: Path, out: Path, **options: Any) -> Watched:
    """Prepares ``path``; what is not done after a while hangs, as who opens a pipe does."""
    options = {"image_size": 8, "channels": 3, "on_bad_image": "skip"} | options
    folders = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-c", RUN, path, out, json.dumps(options)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    outcomes, opened, peak, largest_worker = json.loads(done.stdout)
    return Watched(outcomes, {os.path.realpath(name) for name in opened}, peak, largest_worker)


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), "PNG")


GOOD = {f"{label}/{index}.png": photo(10 * place + index)
        for place, label in enumerate(("cat", "dog")) for index in range(6)}  # fmt: skip
USED = dict.fromkeys(GOOD, "used")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with an image and a pipe, on which who opens it waits for ever."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "photo.png").write_bytes(photo(99))
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for path, content in GOOD.items():
        (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / path).write_bytes(content)
    return tmp_path / "images"


def assert_inside(watched: Watched, images: Path, *forbidden: Path | str) -> None:
    """Everything good was opened, and nothing forbidden, or below it."""
    assert {str(images / path) for path in GOOD} <= watched.opened
    for path in forbidden:
        assert not [name for name in watched.opened if f"{name}/".startswith(f"{path}/")]


# Folders


@pytest.mark.slow
def test_links_out_of_a_folder_are_not_followed(images: Path, outside: Path, tmp_path: Path) -> None:
    links = {
        "cat/relative.png": "../../outside/photo.png",
        "cat/absolute.png": str(outside / "photo.png"),
        "cat/roundabout.png": "../../images/../outside/photo.png",
        "cat/pipe.png": str(outside / "pipe"),
        "dog/chain.png": "../cat/relative.png",
        "dog/folder": str(outside),
        "dog/parent": "../..",
        "dog/passwords.jpg": "/etc/passwd",
        "dog/endless.png": "/dev/zero",
    }
    for path, target in links.items():
        (images / path).symlink_to(target)
    (images / "cat/inside.png").symlink_to("1.png")
    os.mkfifo(images / "cat/fifo.png")
    watched = watch(images, tmp_path / "out")
    assert watched.outcomes == USED | {
        **dict.fromkeys(links, "outside"),
        "cat/inside.png": "used",
        "cat/fifo.png": "unreadable",
    }
    assert_inside(watched, images, outside, "/etc/passwd", "/dev/zero")


@pytest.mark.slow
def test_the_watch_sees_what_is_opened(images: Path, outside: Path, tmp_path: Path) -> None:
    """A link to a file in a DVC cache is followed, and seen."""
    cached = tmp_path / "cache/files/md5/ab" / ("0" * 30)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(photo(98))
    (images / "cat/cached.png").symlink_to(cached)
    watched = watch(images, tmp_path / "out")
    assert watched.outcomes["cat/cached.png"] == "used"
    assert str(cached) in watched.opened
    with pytest.raises(AssertionError):
        assert_inside(watched, images, tmp_path / "cache")


# Manifests


@pytest.mark.slow
def test_paths_out_of_a_manifests_folder_are_not_opened(
    images: Path, outside: Path, tmp_path: Path
) -> None:
    there = [
        "../outside/photo.png",
        "cat/../../outside/photo.png",
        "./../outside/pipe",
        str(outside / "photo.png"),
        "/dev/zero",
        "C:\\photo.png",
        "..\\outside\\photo.png",
        "..",
    ]
    names = ["%2e%2e/outside/photo.png", "~/photo.png", "$HOME/photo.png", "cat/*.png"]
    rows = [
        f'"{path}",{("cat", "dog")[index % 2]}' for index, path in enumerate([*GOOD, *there, *names])
    ]
    (images / "list.csv").write_text("\n".join(["path,label", *rows]))
    watched = watch(images, tmp_path / "out", manifest="list.csv")
    assert watched.outcomes == {
        **USED,
        **dict.fromkeys(there, "outside"),
        **dict.fromkeys(names, "missing"),
        "list.csv": "unlisted",
    }
    assert_inside(watched, images, outside, "/dev/zero")


def test_a_manifest_below_reaches_no_higher_than_its_folder(images: Path, tmp_path: Path) -> None:
    """It may not name its neighbours, even where these are in the collection."""
    rows = [
        f"{path.removeprefix('cat/')},{('a', 'b')[index % 2]}"
        for index, path in enumerate(list(GOOD)[:6])
    ]
    (images / "cat/list.csv").write_text("\n".join(["path,label", *rows, "../dog/0.png,a"]))
    shares = {"val_fraction": 0.3, "test_fraction": 0.3}
    left = prepare(images, tmp_path / "out", on_bad_image="skip", manifest="cat/list.csv", **shares)
    assert left.outcomes["../dog/0.png"] == "outside"
    assert left.outcomes["dog/0.png"] == "unlisted"
    assert left.outcomes["cat/0.png"] == "used"


@pytest.mark.parametrize("manifest", ["../outside/list.csv", "link.csv", "{outside}/list.csv"])
def test_a_manifest_outside_is_refused(
    images: Path, outside: Path, tmp_path: Path, manifest: str
) -> None:
    os.mkfifo(outside / "list.csv")
    (images / "link.csv").symlink_to(outside / "list.csv")
    with pytest.raises(UserError, match=r"^data\.manifest: "):
        prepare(images, tmp_path / "out", manifest=manifest.format(outside=outside))


# Archives


def make_tar(path: Path, change: Callable[[tarfile.TarFile], None]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in GOOD.items():
            add(tar, name, content)
        change(tar)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **facts: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for fact, value in facts.items():
        setattr(member, fact, value)
    tar.addfile(member, io.BytesIO(content))


def watch_tar(tar: Path, outside: Path, out: Path) -> dict[str, str]:
    """Returns the outcomes of what is not simply good; nothing outside is opened, or unpacked."""
    before = sorted(tar.parent.rglob("*"))
    watched = watch(tar, out)
    assert str(tar) in watched.opened
    assert not [name for name in watched.opened if name.startswith(str(outside))]
    assert sorted(path for path in tar.parent.rglob("*") if out not in (path, *path.parents)) == before
    assert USED.items() <= watched.outcomes.items()
    return dict(watched.outcomes.items() - USED.items())


@pytest.mark.slow
def test_members_that_climb_out_of_an_archive_are_refused(outside: Path, tmp_path: Path) -> None:
    def change(tar: tarfile.TarFile) -> None:
        add(tar, "../outside/climbs.png", photo(50))
        add(tar, "cat/../../climbs.png", photo(51))
        add(tar, str(outside / "absolute.png"), photo(52))
        add(tar, "dog/renamed.png", photo(54), pax_headers={"path": "../../renamed.png"})
        add(tar, "cat/../dog/./stays.png", photo(55))

    assert watch_tar(make_tar(tmp_path / "images.tar", change), outside, tmp_path / "out") == {
        "../outside/climbs.png": "outside",
        "../climbs.png": "outside",
        str(outside / "absolute.png"): "outside",
        "../../renamed.png": "outside",
        "dog/stays.png": "used",
    }


@pytest.mark.slow
def test_links_and_devices_in_an_archive_are_not_opened(outside: Path, tmp_path: Path) -> None:
    target = str(outside / "photo.png")

    def change(tar: tarfile.TarFile) -> None:
        add(tar, "cat/symbolic.png", type=tarfile.SYMTYPE, linkname="../../outside/photo.png")
        add(tar, "cat/symbolic-absolute.png", type=tarfile.SYMTYPE, linkname=target)
        add(tar, "cat/hard.png", type=tarfile.LNKTYPE, linkname="../outside/photo.png")
        add(tar, "cat/hard-absolute.png", type=tarfile.LNKTYPE, linkname=target)
        add(tar, "dog/chain.png", type=tarfile.SYMTYPE, linkname="../cat/symbolic.png")
        add(tar, "dog/folder", type=tarfile.SYMTYPE, linkname="../..")
        add(tar, "dog/folder/photo.png", photo(53))  # through the link, for who unpacks
        add(tar, "dog/zero.png", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
        add(tar, "dog/disk.png", type=tarfile.BLKTYPE, devmajor=8, devminor=0)
        add(tar, "dog/pipe.png", type=tarfile.FIFOTYPE)
        add(tar, "cat/inside.png", type=tarfile.SYMTYPE, linkname="../dog/../cat/1.png")
        add(tar, "cat/inside-hard.png", type=tarfile.LNKTYPE, linkname="cat/1.png")

    assert watch_tar(make_tar(tmp_path / "images.tar", change), outside, tmp_path / "out") == {
        "cat/symbolic.png": "outside",
        "cat/symbolic-absolute.png": "outside",
        "cat/hard.png": "outside",
        "cat/hard-absolute.png": "outside",
        "dog/chain.png": "outside",
        "dog/folder": "outside",
        "dog/folder/photo.png": "used",
        "dog/zero.png": "unreadable",
        "dog/disk.png": "unreadable",
        "dog/pipe.png": "unreadable",
        "cat/inside.png": "used",
        "cat/inside-hard.png": "used",
    }


def test_a_size_beyond_the_archives_end_is_refused(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "images.tar", lambda tar: add(tar, "cat/last.png", photo(60)))
    content = bytearray(tar.read_bytes())
    header = content.index(b"cat/last.png")
    content[header + 124 : header + 136] = b"77777777777\0"  # 8 GiB, in octal
    content[header + 148 : header + 156] = b" " * 8
    checksum = sum(content[header : header + 512])
    content[header + 148 : header + 156] = b"%06o\0 " % checksum
    (tmp_path / "huge.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"huge\.tar is not a tar archive, or is damaged"):
        prepare(tmp_path / "huge.tar", tmp_path / "out", image_size=8)
    assert prepare(tar, tmp_path / "out", image_size=8).outcomes["cat/last.png"] == "used"


# Bombs


def add_bombs(images: Path, scratch: Path) -> dict[str, str]:
    """Puts all bombs of the corpus into a class; returns their outcomes."""
    cases = [case for case in make_corpus(scratch) if case.is_bomb]
    outcomes: dict[str, str] = {}
    for index, case in enumerate(cases):
        path = f"cat/bomb-{index}"
        (scratch / case.path).rename(images / path)
        outcomes[path] = case.outcome_with_tiff
    (images / "dog/bomb.png").write_bytes(png((50_000, 50_000), 8, 2, [bytes(150_000)] * 200))
    return outcomes | {"dog/bomb.png": "too large"}


@pytest.mark.slow
def test_bombs_are_refused_in_less_than_a_gibibyte(images: Path, tmp_path: Path) -> None:
    bombs = add_bombs(images, tmp_path / "corpus")
    assert len(bombs) > 10
    watched = watch(images, tmp_path / "out", tiff=True, image_size="auto")  # headers are read as well
    assert watched.outcomes == USED | bombs
    assert watched.peak < GIBIBYTE


@pytest.mark.slow
def test_bombs_of_the_largest_size_alone_take_little_memory(images: Path, tmp_path: Path) -> None:
    for index in range(20):
        content = png((50_000, 50_000), 8, 2, [bytes([index]) * 150_000] * 20)
        (images / f"cat/bomb-{index}.png").write_bytes(content)
    watched = watch(images, tmp_path / "out")
    assert list(watched.outcomes.values()).count("too large") == 20
    assert watched.peak < GIBIBYTE // 3


@pytest.mark.slow
def test_worker_processes_take_less_than_a_gibibyte_too(images: Path, tmp_path: Path) -> None:
    bombs = add_bombs(images, tmp_path / "corpus")
    watched = watch(images, tmp_path / "out", tiff=True, workers=2)
    assert watched.outcomes == USED | bombs
    assert max(watched.peak, watched.largest_worker) < GIBIBYTE

"""Reading a tar in place, against tarfile; what must not be read; packing a folder into one."""

import gzip
import io
import lzma
import os
import pickle
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.cli import main
from darkroom.collection.archive import TarFiles, pack
from darkroom.collection.entries import Entry
from darkroom.collection.folder import FolderFiles
from darkroom.errors import UserError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = f"{'d' * 90}/{'f' * 90}.png"


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def tar_of(path: Path, *names: str, format: int = tarfile.PAX_FORMAT) -> TarFiles:
    """A tar of files that hold their own names; a name that ends in ``/`` is a folder."""
    with tarfile.open(path, "w", format=format) as tar:
        for name in names:
            if name.endswith("/"):
                add(tar, name, type=tarfile.DIRTYPE)
            else:
                add(tar, name, name.encode())
    return TarFiles(path)


def listed(files: TarFiles) -> dict[str, Entry]:
    entries = list(files.entries())
    assert len({entry.path for entry in entries}) == len(entries)
    return {entry.path: entry for entry in entries}


def contents(files: TarFiles | FolderFiles) -> dict[str, bytes]:
    return {e.path: files.read(e.path, e.offset, e.size) for e in files.entries() if e.outcome is None}


def outcomes(files: TarFiles) -> dict[str, tuple[str | None, str]]:
    return {path: (entry.outcome, entry.reason) for path, entry in listed(files).items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.tar"


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_members_are_those_that_tarfile_unpacks(path: Path, tmp_path: Path, format: int) -> None:
    names = ["cat/1.png", "./dog/2.png", "dog//3.png", f"dog/{LONG}", "ünï/ c.png", "cat/", "empty/"]
    files = tar_of(path, *names, format=format)
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    expected = contents(FolderFiles(tmp_path / "unpacked"))
    assert len(expected) == 5
    assert contents(files) == expected
    assert contents(pickle.loads(pickle.dumps(files))) == expected
    assert {entry.size for entry in files.entries()} == {len(name) for name in expected.values()}


def test_a_pickled_archive_takes_no_open_file_along(path: Path) -> None:
    files = tar_of(path, "cat/1.png")
    assert contents(files) == {"1.png": b"cat/1.png"}
    path.rename(path.with_name("other.tar"))
    with pytest.raises(OSError, match="No such file"):
        pickle.loads(pickle.dumps(files)).read("1.png", 512, 1)
    assert files.read("1.png", 512, 3) == b"cat"  # opened once


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mine/", "mine/cat/", "mine/cat/1.png"], ["cat/1.png"]),
        (
            ["mine/train/cat/1.png", "mine/labels.csv", "._mine"],
            ["._mine", "labels.csv", "train/cat/1.png"],
        ),
        (["other/cat/1.png", "other/dog/1.png"], ["cat/1.png", "dog/1.png"]),
        (["./", "./train/cat/1.png"], ["train/cat/1.png"]),
        (["cat/1.png", "dog/1.png"], ["cat/1.png", "dog/1.png"]),
        (["cat/1.png", "dog/"], ["cat/1.png"]),
        (["mine/1.png", "mine-too/1.png"], ["mine-too/1.png", "mine/1.png"]),
        (["mine/cat/1.png", "README"], ["README", "mine/cat/1.png"]),
        (["README"], ["README"]),
        (["mine/1.png", "other/.hidden"], ["mine/1.png", "other/.hidden"]),
        (["mine/1.png", "/1.png", "../1.png"], ["../1.png", "/1.png", "1.png"]),
    ],
)
def test_a_folder_that_holds_everything_is_left_out(
    path: Path, names: list[str], expected: list[str]
) -> None:
    assert sorted(listed(tar_of(path, *names))) == expected


def test_hidden_members_are_set_apart(path: Path) -> None:
    files = tar_of(path, "cat/1.png", "cat/._1.png", ".git/config", "dog/Thumbs.db")
    assert {p: e.outcome for p, e in listed(files).items()} == {
        "cat/1.png": None,
        "cat/._1.png": "hidden",
        ".git/config": "hidden",
        "dog/Thumbs.db": "hidden",
    }


def test_members_that_climb_out_are_named_and_not_renamed(path: Path) -> None:
    names = ["../1.png", "cat/../../2.png", "/etc/passwd", "//3.png", ".."]
    entries = outcomes(tar_of(path, *names, "cat/4.png", "cat/../dog/5.png"))
    assert {p for p, (outcome, _) in entries.items() if outcome is None} == {"cat/4.png", "dog/5.png"}
    outside = {
        p for p, said in entries.items() if said == ("outside", "a path that leads out of the archive")
    }
    assert outside == {"../1.png", "../2.png", "/etc/passwd", "//3.png", ".."}


def link(tar: tarfile.TarFile, name: str, target: str, type: bytes = tarfile.SYMTYPE) -> None:
    add(tar, name, type=type, linkname=target)


def test_links_count_where_they_lead_to_a_member(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        link(tar, "mine/cat/early.png", "../all/1.png")
        add(tar, "mine/all/1.png", b"one")
        add(tar, "mine/.store/2.png", b"two!")
        link(tar, "mine/cat/hard.png", "mine/all/1.png", tarfile.LNKTYPE)
        link(tar, "mine/cat/chain.png", "early.png")
        link(tar, "mine/dog/hidden.png", "../.store/2.png")
    files = TarFiles(path)
    assert contents(files) == {
        "all/1.png": b"one",
        "cat/early.png": b"one",
        "cat/hard.png": b"one",
        "cat/chain.png": b"one",
        "dog/hidden.png": b"two!",
    }
    assert listed(files)["dog/hidden.png"].size == 4


def test_links_that_lead_to_no_member_are_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(path, "w") as tar:
        link(tar, "cat/absolute", str(tmp_path / "secret"))
        link(tar, "cat/relative", "../../secret")
        link(tar, "cat/hard", "../secret", tarfile.LNKTYPE)
        link(tar, "cat/dangling", "secret")
        link(tar, "cat/folder", "../dog")
        link(tar, "cat/itself", "itself")
        link(tar, "cat/pipe", "../dog/pipe")
        link(tar, "cat/hidden-link", "../.link")
        link(tar, "cat/hidden-pipe", "../.pipe")
        link(tar, ".link", "dog/1.png")
        add(tar, ".pipe", type=tarfile.FIFOTYPE)
        link(tar, "etc", "/etc")
        add(tar, "etc/passwd", b"only a path")
        add(tar, "dog/1.png", b"1")
        add(tar, "dog/pipe", type=tarfile.FIFOTYPE)
    entries = outcomes(TarFiles(path))
    for name in ("cat/absolute", "cat/relative", "cat/hard", "etc"):
        assert entries[name] == ("outside", "a link that leads out of the archive")
    for name, target in {
        **{"dangling": "cat/secret", "folder": "dog", "itself": "cat/itself", "pipe": "dog/pipe"},
        **{"hidden-link": ".link", "hidden-pipe": ".pipe"},
    }.items():
        assert entries[f"cat/{name}"] == ("missing", f"a link to {target}, which the archive lacks")
    assert entries["dog/pipe"] == ("unreadable", "not a regular file")
    assert contents(TarFiles(path)) == {"dog/1.png": b"1", "etc/passwd": b"only a path"}


def test_a_chain_of_links_is_followed_as_far_as_linux_does(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        add(tar, "a/0", b"zero")
        for index in range(1, 100):
            link(tar, f"a/{index}", str(index - 1))
    entries = outcomes(TarFiles(path))
    assert {int(p.split("/")[-1]) for p, (outcome, _) in entries.items() if outcome is None} == set(
        range(42)
    )


def test_what_is_no_regular_file_is_not_read(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for type in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"?"):
            add(tar, f"cat/{ord(type)}", type=type)
        add(tar, b"cat/\xff.png".decode("utf-8", "surrogateescape"), b"12")
    entries = outcomes(TarFiles(path))
    assert entries.pop(r"\xff.png") == ("unreadable", "its name is not UTF-8")
    assert len(entries) == 4
    assert set(entries.values()) == {("unreadable", "not a regular file")}


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_sparse_members_are_not_read(path: Path, tmp_path: Path, format: str) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(10 * 2**20)
    (tmp_path / "full").write_bytes(b"full")
    command = f"tar --sparse --format={format} -cf {path} -C {tmp_path} hole full"
    assert os.system(command) == 0
    entries = outcomes(TarFiles(path))
    assert entries["hole"] == ("unreadable", "stored sparse; pack it without --sparse")
    assert contents(TarFiles(path)) == {"full": b"full"}


def test_a_path_held_twice_comes_twice(path: Path) -> None:
    tar_of(path, "cat/1.png", "dog/1.png")
    with tarfile.open(path, "a") as tar:
        add(tar, "./cat/1.png", b"newer")
    assert [entry.path for entry in TarFiles(path).entries()] == ["cat/1.png", "dog/1.png", "cat/1.png"]


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("cat/1.png", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("compress", "said"), [(gzip.compress, "gzip"), (lzma.compress, "xz"), (zipped, "zip")]
)
def test_a_compressed_archive_is_refused_by_content(
    path: Path, compress: Callable[[bytes], bytes], said: str
) -> None:
    tar_of(path, "cat/1.png")
    path.write_bytes(compress(path.read_bytes()))
    with pytest.raises(
        UserError, match=rf"mine\.tar is compressed \({said}\), so .* unpack it, and set data.path"
    ):
        list(TarFiles(path).entries())


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        list(TarFiles(path).entries())
    return str(refused.value)


def test_a_truncated_archive_is_refused_wherever_it_is_cut(path: Path) -> None:
    tar_of(path, "cat/1.png", f"dog/{LONG}", "dog/2.png")
    whole = path.read_bytes()
    end = whole.rindex(b"dog/2.png") + 512  # the first block after the last member
    for length in [*range(0, end, 128), end]:
        path.write_bytes(whole[:length])
        assert "is damaged" in refusal(path), length
    for length in (end + 512, end + 1024, len(whole)):  # with its end, at least in part
        path.write_bytes(whole[:length])
        assert len(listed(TarFiles(path))) == 3


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n" * 500, b"a" * 511], ids=["empty", "png", "text"]
)
def test_what_is_no_archive_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path} is not a tar archive, or is damaged (")


def test_a_missing_archive_is_refused(path: Path) -> None:
    assert refusal(path) == f"{path}: cannot be read (No such file or directory)"


def test_members_after_the_end_are_not_lost_without_a_word(path: Path, tmp_path: Path) -> None:
    tar_of(path, "cat/1.png")
    other = tar_of(tmp_path / "other.tar", "cat/2.png")
    path.write_bytes(path.read_bytes() + other.path.read_bytes())
    assert "nor the end" in refusal(path)


def test_a_damaged_header_is_not_taken_for_the_end(path: Path) -> None:
    tar_of(path, "cat/1.png", "cat/2.png", "cat/3.png")
    content = bytearray(path.read_bytes())
    content[content.index(b"cat/2.png") + 3] ^= 1
    path.write_bytes(content)
    assert "byte 1,024 begins neither a header" in refusal(path)


def test_a_header_that_leads_back_ends(path: Path) -> None:
    member = tarfile.TarInfo("cat/1.png")
    member.size = -1536
    header = member.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(tarfile.TarInfo("cat/0.png").tobuf() + header + bytes(10240))
    assert "is cut off" in refusal(path)
    member.type = b"?"
    path.write_bytes(
        tarfile.TarInfo("cat/0.png").tobuf() + member.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
    )
    assert "damaged" in refusal(path)


def test_a_long_chain_of_headers_of_headers_ends(path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    path.write_bytes(header.tobuf() * 5000)
    assert "damaged" in refusal(path)


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1), changes=st.integers(1, 8))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_a_damaged_archive_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, seed: int, changes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    with tarfile.open(path, "w", format=random.Random(seed).choice(list(FORMATS.values()))) as tar:
        add(tar, "mine/cat/1.png", b"one")
        add(tar, f"mine/dog/{LONG}", b"two")
        link(tar, "mine/cat/2.png", "1.png")
        add(tar, "mine/ü.png", b"three", pax_headers={"comment": "x"})
    content = bytearray(path.read_bytes()[:8192])
    rng = random.Random(seed)
    for _ in range(changes):
        content[rng.randrange(len(content))] = rng.choice([0, 0x2D, 0x30, 0x37, 0x80, 0xFF, 0x20])
    for start in range(0, len(content), 512):  # checksums that are right, so that damage gets through
        block = content[start : start + 512]
        if any(block):
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            content[start + 148 : start + 156] = b"%06o\0 " % total
    path.write_bytes(content)
    try:
        entries = list(TarFiles(path).entries())
    except UserError:
        return
    for entry in entries:
        if entry.outcome is None:
            assert 0 <= entry.offset <= entry.offset + entry.size <= len(content)


def test_reading_past_the_end_raises_an_os_error(path: Path) -> None:
    files = tar_of(path, "cat/1.png")
    with pytest.raises(OSError, match=r"ends within cat/1\.png"):
        files.read("cat/1.png", 10_000, 1_000)


class Counted:
    """What ``pack`` is told."""

    def __init__(self) -> None:
        self.expected = self.done = 0

    def expect(self, number: int) -> None:
        self.expected += number

    def advance(self, number: int) -> None:
        self.done += number


def packed(folder: Path, target: Path, overwrite: bool = False) -> int:
    count = Counted()
    number = pack(folder, target, count.expect, count.advance, overwrite=overwrite)
    assert (count.expected, count.done) == (number, number)
    return number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    for name in ("cat/1.png", f"cat/{LONG}", "dog/ünï c.png", "labels.csv", "cat/.DS_Store", ".git/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 200)
    (folder / "dog/3.png").symlink_to("../cat/1.png")
    return folder


def test_a_packed_folder_is_as_good_as_the_folder(folder: Path, path: Path, tmp_path: Path) -> None:
    assert packed(folder, path) == 5
    assert contents(TarFiles(path)) == contents(FolderFiles(folder))
    with tarfile.open(path) as tar:
        assert tar.getnames() == [".", *sorted(contents(FolderFiles(folder)))]
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert contents(FolderFiles(tmp_path / "unpacked")) == contents(FolderFiles(folder))
    assert sorted(os.listdir(tmp_path)) == ["mine", "mine.tar", "unpacked"]


def test_a_packed_folder_of_one_folder_keeps_it(tmp_path: Path, path: Path) -> None:
    (tmp_path / "mine/train/cat").mkdir(parents=True)
    (tmp_path / "mine/train/cat/1.png").write_bytes(b"1")
    packed(tmp_path / "mine", path)
    assert list(listed(TarFiles(path))) == ["train/cat/1.png"]


def test_the_bytes_follow_from_paths_and_contents_alone(
    folder: Path, path: Path, tmp_path: Path
) -> None:
    packed(folder, path)
    other = tmp_path / "elsewhere/other"
    other.mkdir(parents=True)
    for name in sorted(contents(FolderFiles(folder)), reverse=True):  # no link here, other times
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((folder / name).read_bytes())
        (other / name).chmod(0o600)
        os.utime(other / name, (1, 1))
    packed(other, tmp_path / "other.tar")
    assert (tmp_path / "other.tar").read_bytes() == path.read_bytes()
    (other / "cat/1.png").write_bytes(b"changed")
    packed(other, tmp_path / "other.tar", overwrite=True)
    assert (tmp_path / "other.tar").read_bytes() != path.read_bytes()


def test_an_archive_that_is_there_is_kept(folder: Path, path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match=r"mine\.tar exists already; --force replaces it"):
        packed(folder, path)
    assert path.read_bytes() == b"precious"
    assert packed(folder, path, overwrite=True) == 5
    assert len(listed(TarFiles(path))) == 5


def test_a_link_out_is_not_packed(folder: Path, path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "cat/link.png").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "cat/pipe")
    with pytest.raises(UserError) as refused:
        packed(folder, path)
    assert str(refused.value).startswith(f"{folder}: 2 files cannot be packed, such as ")
    assert "cat/link.png (a link out of the folder)" in str(refused.value)
    assert "cat/pipe (not a regular file)" in str(refused.value)
    assert not path.exists()


def test_what_cannot_be_packed_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty/.git").mkdir(parents=True)
    (tmp_path / "empty/.git/x").write_bytes(b"1")
    with pytest.raises(UserError, match="empty contains no files"):
        packed(tmp_path / "empty", tmp_path / "empty.tar")
    with pytest.raises(UserError, match=r"labels\.csv is not a folder"):
        packed(folder / "labels.csv", tmp_path / "empty.tar")
    with pytest.raises(UserError, match="is inside the folder to pack"):
        packed(folder, folder / "cat/mine.tar")
    with pytest.raises(UserError, match=r"cannot be packed .*No such file"):
        packed(folder, tmp_path / "nowhere/mine.tar")
    assert sorted(os.listdir(tmp_path)) == ["empty", "mine"]


def test_nothing_is_left_where_packing_stops(folder: Path, path: Path, tmp_path: Path) -> None:
    def stop(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(folder, path, lambda number: None, stop)
    assert os.listdir(tmp_path) == ["mine"]


def test_the_command_packs_beside_the_folder_and_says_what_is_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["pack", "mine/"])
    assert (result.exit_code, result.output) == (
        0,
        "mine.tar: 5 files, 0.1 MB\nnext: dvc add mine.tar, and in params.yaml data.path: mine.tar\n",
    )
    assert contents(TarFiles(Path("mine.tar"))) == contents(FolderFiles(folder))
    result = CliRunner().invoke(main, ["pack", "mine"])
    assert (result.exit_code, "exists already" in result.output) == (2, True)
    assert CliRunner().invoke(main, ["pack", "mine", "--force"]).exit_code == 0
    assert CliRunner().invoke(main, ["pack", "mine", "--out", "b.tar"]).exit_code == 0
    assert Path("b.tar").read_bytes() == Path("mine.tar").read_bytes()
    result = CliRunner().invoke(main, ["pack", "."])
    assert (result.exit_code, "--out" in result.output) == (2, True)

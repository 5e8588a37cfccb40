"""`darkroom verify` finds what is damaged, and what it says to do repairs it."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support import make_spec
from tiny import TinyProject

from darkroom.cli import main
from darkroom.export.statement import write_certificate
from darkroom.models.exported import describe_export
from darkroom.models.factory import make_classifier
from darkroom.models.file import save_model
from darkroom.reporting.tables import write_json

PIPELINE = """
stages:
  make:
    cmd: sh code.sh
    deps: [in, code.sh]
    outs: [out, single]
    metrics:
      - m.json: {cache: false}
"""
CODE = """
mkdir -p out/deep
for name in a b; do cat code.sh in/$name > out/deep/$name; done
cat in/b in/a > out/a
cat in/a in/b > single
echo 1 > m.json
"""
CONFIG = """
[core]
    analytics = false
    no_scm = true
[cache]
    type = TYPE
"""
LOCKED = """
schema: '2.0'
stages:
  make:
    cmd: x
    outs:
    - {path: single, hash: md5, md5: MD5, size: 3}
"""
LINKS = ("copy", "hardlink", "symlink")


def dvc(*arguments: str) -> str:
    return TinyProject.at(Path.cwd()).dvc(*arguments)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A project of one stage and one tracked folder for each kind of link to the cache."""
    before, found = Path.cwd(), {}
    for link in LINKS:
        root = tmp_path_factory.mktemp("verify") / link
        (root / ".dvc").mkdir(parents=True)
        (root / ".dvc/config").write_text(CONFIG.replace("TYPE", link))
        (root / "dvc.yaml").write_text(PIPELINE)
        (root / "code.sh").write_text(CODE)
        (root / "in").mkdir()
        for seed, name in enumerate("ab"):
            content = np.random.default_rng(seed).integers(0, 256, 5_000, dtype=np.uint8)
            (root / "in" / name).write_bytes(content.tobytes())
        os.chdir(root)
        try:
            dvc("add", "--quiet", "in")
            dvc("repro", "--quiet")
        finally:
            os.chdir(before)
        found[link] = root
    return found


@pytest.fixture(params=LINKS)
def root(
    request: pytest.FixtureRequest, templates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A project to damage; it is made as it was after the test, as links of copies would differ."""
    root = templates[request.param]
    saved = root.parent / f"{request.param}-saved"
    subprocess.run(["cp", "--archive", root, saved], check=True)  # keeps hard links
    monkeypatch.chdir(root)
    yield root
    os.chdir(root.parent)
    subprocess.run(["chmod", "--recursive", "u+w", root], check=True)
    shutil.rmtree(root)
    saved.rename(root)


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["verify", *arguments], catch_exceptions=False)


def flip(path: Path, silently: bool = True) -> None:
    """Changes a bit; silently: size and times stay, as when a disk rots."""
    before = path.stat()
    mode = before.st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    with path.open("r+b") as file:
        file.write(content)
    path.chmod(mode)
    if silently:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def md5_in(lock: Path, path: str) -> str:
    found = re.search(rf"path: {path}\n(?:.*\n)*?.*md5: ([0-9a-f.dir]+)", lock.read_text())
    assert found
    return found[1]


def object_of(name: str) -> Path:
    """The object in DVC's cache for a file of the project."""
    import hashlib

    md5 = hashlib.md5(Path(name).read_bytes()).hexdigest()
    return Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]


def manifest_of(path: str) -> Path:
    md5 = md5_in(Path("dvc.lock"), path)
    return Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]


def repair(output: str) -> None:
    """Does what the findings say: deletes files, then runs the first command of each."""
    commands = {}
    for line in output.splitlines():
        if not line.startswith("    "):
            continue
        deleted = re.match(r" *(?:delete|move away) ([^;]*); then", line)
        for name in deleted[1].split(", ") if deleted else ():
            path = Path(name)
            path.unlink(missing_ok=True) if not path.is_dir() else shutil.rmtree(path)
        commands[re.search("`(dvc [^`]*)`", line)[1]] = None
    for command in commands:
        dvc(*command.split()[1:])


def test_a_sound_project_passes(root: Path) -> None:
    result = verify()
    assert result.exit_code == 0, result.output
    assert "all as recorded" in result.stderr
    assert result.stdout == ""


DAMAGES: dict[str, tuple[Callable[[], None], str]] = {
    "an object": (lambda: flip(object_of("single")), "rotten: single: 1 object"),
    "an object in a folder": (lambda: flip(object_of("out/a")), "rotten: out: 1 object"),
    "a listing": (lambda: flip(manifest_of("out")), "rotten: out: 1 object"),
    "no object": (lambda: object_of("single").unlink(), "missing: single: 1 object not in DVC's cache"),
    "no listing": (lambda: manifest_of("out").unlink(), "missing: out: 1 object not in DVC's cache"),
    "a file here": (lambda: flip(Path("single")), "changed: single: not the recorded bytes: single"),
    "a file that was written": (lambda: rewrite("out/a"), "changed: out: not the recorded bytes: out/a"),
    "no file here": (lambda: Path("out/deep/b").unlink(), "missing: out: not there: out/deep/b"),
    "no folder here": (lambda: shutil.rmtree("out"), "missing: out: not there: out/"),
    "one file too many": (lambda: Path("out/new").touch(), "changed: out: not recorded: out/new"),
    "a pipe": (lambda: replace_by_pipe("single"), "changed: single: not the recorded bytes: single"),
    "a cut object": (lambda: cut(object_of("single")), "rotten: single: 1 object"),
    "a cut listing": (lambda: cut(manifest_of("out")), "rotten: out: 1 object"),
}


def rewrite(name: str) -> None:
    Path(name).unlink()
    Path(name).write_bytes(b"other")


def replace_by_pipe(name: str) -> None:
    Path(name).unlink()
    os.mkfifo(name)


def cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(root: Path, damage: str) -> None:
    do, expected = DAMAGES[damage]
    do()
    result = verify()
    assert result.exit_code == 1
    assert expected in result.stdout
    assert "not as recorded" in result.stderr


@pytest.mark.slow  # runs DVC
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "one file too many"])
def test_what_it_says_to_do_repairs_it(root: Path, damage: str) -> None:
    DAMAGES[damage][0]()
    result = verify()
    repair(result.stdout)
    repaired = verify()
    assert repaired.exit_code == 0, (result.stdout, repaired.output)


def test_damage_to_a_persons_own_data_is_never_deleted(root: Path) -> None:
    """Where neither copy is sound, nothing can make them anew."""
    flip(object_of("in/a"))
    rewrite("in/a")
    result = verify()
    assert result.exit_code == 1
    assert "rotten: in: 1 object" in result.stdout
    assert "changed: in: not the recorded bytes: in/a" in result.stdout
    assert "delete" not in result.stdout
    assert "put back an intact copy of in" in result.stdout


def test_data_of_a_person_with_a_sound_copy_in_the_cache_is_checked_out(root: Path) -> None:
    Path("in/a").unlink()
    assert "missing: in: not there: in/a\n    `dvc checkout --force in`\n" in verify().stdout


def test_a_changed_dependency_is_told(root: Path) -> None:
    Path("code.sh").write_text("exit 1")
    result = verify()
    assert result.exit_code == 1
    assert "changed: code.sh: not the recorded bytes: code.sh" in result.stdout
    assert "`dvc repro make` brings the results up to date" in result.stdout


def test_a_file_in_git_alone_is_checked(root: Path) -> None:
    Path("m.json").write_text("2")
    result = verify()
    assert result.exit_code == 1
    assert "`git checkout -- m.json`, or `dvc repro --force make` makes it again" in result.stdout


def test_an_empty_cache_is_one_finding(root: Path) -> None:
    shutil.rmtree(".dvc/cache")
    result = verify()
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 2 or "symlink" in str(root)
    if "symlink" in str(root):  # then the files are gone, too
        assert "and 3 of them are missing from the project as well" in result.stdout
    else:
        assert "`dvc commit --force` puts the files of this folder into the cache" in result.stdout


def test_a_fresh_clone_is_one_finding(root: Path) -> None:
    shutil.rmtree(".dvc/cache")
    for name in ("in", "out"):
        shutil.rmtree(name)
    Path("single").unlink()
    result = verify()
    assert result.exit_code == 1
    assert (
        "DVC's cache has none of the outputs, and 3 of them are missing from the project as well"
        in result.stdout
    )
    assert result.stdout.count("\n") == 2
    dvc("remote", "add", "--default", "store", "/no/such/folder")
    assert "`dvc pull` gets everything from the remote" in verify().stdout


def test_with_a_remote_it_is_pulled(root: Path) -> None:
    dvc("remote", "add", "--default", "store", "/no/such/folder")
    flip(object_of("single"))
    Path("single").unlink()
    assert "then `dvc pull --force single`, or, if the remote lacks it, `dvc repro --force make`" in (
        verify().stdout
    )


def test_a_read_only_cache_is_read(root: Path) -> None:
    subprocess.run(["chmod", "--recursive", "a-w", ".dvc/cache"], check=True)
    assert verify().exit_code == 0


def test_every_file_is_named_on_request(root: Path) -> None:
    (Path("out") / "deep").chmod(0o755)
    for name in ("out/a", "out/deep/a", "out/deep/b"):
        rewrite(name)
    for index in range(9):
        Path(f"out/{index}").touch()
    short, long = verify().stdout, verify("--all").stdout
    assert "more" in short
    assert all(f"out/{index}" in long for index in range(9))


def test_there_must_be_something_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    result = verify()
    assert result.exit_code == 2
    assert "no DVC project here; `darkroom verify FOLDER` checks an exported folder" in result.output
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(CONFIG.replace("TYPE", "copy"))
    result = verify()
    assert result.exit_code == 2
    assert "dvc.lock: names nothing to check; `dvc repro` fills it" in result.output


HOSTILE = {
    "not YAML": "stages: [",
    "not text": b"\xff\xfe",
    "another schema": "schema: '9.0'\n",
    "a path for a hash": LOCKED.replace("MD5", "../../../../etc/passwd"),
    "a number for a hash": LOCKED.replace("MD5", "1"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_damaged_or_hostile_lock_ends_in_a_message(root: Path, text: str | bytes) -> None:
    Path("dvc.lock").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = verify()
    assert result.exit_code == 2 or "is not checked" in result.output or "not in DVC" in result.output
    assert "passwd" not in result.stdout


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)


@pytest.mark.parametrize("name", ["dvc.lock", "in.dvc", "dvc.yaml"])
def test_a_bomb_of_aliases_is_refused_at_once(root: Path, name: str) -> None:
    Path(name).chmod(0o644)
    Path(name).write_text(BOMB)
    result = verify()
    assert result.exit_code == 2
    assert name in result.output


# an exported folder, without DVC


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    model = make_classifier(make_spec())
    save_model(model, make_spec(), tmp_path / "export" / "model.safetensors")
    (tmp_path / "export" / "README.md").write_text("# card")
    files = sorted((tmp_path / "export").iterdir())
    write_json(
        describe_export(make_spec().preprocessing(), tmp_path / "export", files),
        tmp_path / "export" / "model.json",
    )
    write_certificate(tmp_path / "export", {"data": {"sha256": "0" * 64}})
    return tmp_path / "export"


def test_an_exported_folder_is_checked_alone(exported: Path) -> None:
    result = verify(str(exported))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 files, model.json and certificate.json: all as recorded; not signed" in result.stderr
    assert verify(str(exported / "model.safetensors")).exit_code == 0
    (exported / "more.txt").touch()
    assert "more.txt: model.json does not name it" in verify(str(exported)).stderr


@pytest.mark.parametrize("name", ["README.md", "model.safetensors"])
def test_a_flip_in_any_exported_file_is_named(exported: Path, name: str) -> None:
    flip(exported / name)
    result = verify(str(exported))
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{exported / name}: the bytes differ from the recorded ones")
    if name == "model.safetensors":
        assert verify(str(exported / name)).exit_code == 2
    (exported / name).unlink()
    assert "the file is missing" in verify(str(exported)).stdout


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    assert verify(str(tmp_path)).exit_code == 2

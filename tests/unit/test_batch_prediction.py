"""`darkroom predict --out` on many images: listed lazily, resumed after a kill, the same bytes."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from effort import at_least
from test_predict import draw, exported  # noqa: F401

from darkroom.cli import main
from darkroom.errors import UserError
from darkroom.prediction import unfinished
from darkroom.prediction.columns import Column
from darkroom.prediction.listing import list_images, read_list
from darkroom.prediction.table import write_table
from darkroom.prediction.unfinished import Unfinished, open_unfinished

NUM_IMAGES = 64 * 3 + 5
BAD = (0, 70, NUM_IMAGES - 1)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images than six batches, of which three cannot be read."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(NUM_IMAGES):
        path = draw(folder / f"{index // 100}" / f"{index:04d}.png", index)
        if index in BAD:
            path.write_text("no image")
    return folder


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    words = [f"{argument}" for argument in arguments]
    return CliRunner().invoke(main, ["predict", *words], prog_name="darkroom", catch_exceptions=False)


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


# which files


@pytest.fixture
def tree(there: Path) -> Path:
    """Folders, hidden ones, links to files and folders, and a link to nothing."""
    for name in (
        "p/a.png", "p/b.jpg", "p/a-b/1.png", "p/a/1.png", "p/a/deep/er/2.png", "p/.h/3.png",
        "p/a/.h.png", "p/Thumbs.db", "p/@eaDir/4.png", "q/5.png", "q/[x].png",
    ):  # fmt: skip
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).touch()
    (there / "p/link.png").symlink_to("a.png")
    (there / "p/gone.png").symlink_to("nothing")
    (there / "p/linked").symlink_to("../q", target_is_directory=True)
    (there / "p/loop").symlink_to(".", target_is_directory=True)
    return there


def names(*patterns: str) -> list[str]:
    return [path.as_posix() for path in list_images(patterns)]


def test_a_folder_is_listed_as_a_sorted_search_lists_it(tree: Path) -> None:
    found = sorted(path for path in Path("p").rglob("*") if not path.is_dir())
    shown = [f"{path}" for path in found if not any(name[0] in ".T@" for name in path.parts)]
    assert names("p") == shown
    assert len(shown) == 7


@pytest.mark.parametrize(
    "pattern",
    ["p/*.png", "p/**/*.png", "p/*/1.png", "*/*/*.png", "p/linked/*.png", "*/linked/5.png", "p/**/er/*",
     "**/a/**/*.png", "./p/?/*", "p/[ab].*", "q/*x*", "p/*/deep/**"],
)  # fmt: skip
def test_a_glob_matches_what_python_matches_without_hidden_and_linked(pattern: str, tree: Path) -> None:
    matches = {Path(match) for match in glob(pattern, recursive=True) if not Path(match).is_dir()}
    through_links = {"loop", "linked"} - set(Path(pattern).parts)
    expected = [
        path
        for path in sorted(matches)
        if not set(path.parts[:-1]) & through_links and "@eaDir" not in path.parts
    ]
    if pattern == "*/*/*.png":  # a wildcard, unlike **, also stands for a link to a folder
        expected = sorted(matches - {Path("p/@eaDir/4.png")})
    assert [Path(name) for name in names(pattern)] == expected
    assert expected


def test_each_file_is_given_once_where_it_is_named_first(tree: Path) -> None:
    assert names("p/b.jpg", "p/a", "p/*/1.png", "p/a/1.png", "./p/b.jpg", "p/a-b/1.png") == [
        "p/b.jpg", "p/a/1.png", "p/a/deep/er/2.png", "p/a-b/1.png",
    ]  # fmt: skip
    assert names("p", "p/linked/5.png", "p/.h/3.png")[-2:] == ["p/linked/5.png", "p/.h/3.png"]
    assert names("p/**/1.png", "p/a")[-1] == "p/a/deep/er/2.png"


def test_what_matches_nothing_is_refused_before_anything_is_listed(tree: Path) -> None:
    for pattern in ("p/*.gif", "none", "p/.h/*.jpg"):
        with pytest.raises(UserError, match=r"no such file, folder with files, or glob"):
            list_images(["p", pattern])


def test_listing_begins_before_it_has_seen_everything(tree: Path) -> None:
    listed = list_images(["p"])
    assert next(listed) == Path("p/a/1.png")
    shutil.rmtree("p/a-b")
    assert Path("p/a-b/1.png") not in list(listed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_reported_as_one(tree: Path) -> None:
    Path("p/a").chmod(0)
    assert "p/a" in names("p")


def test_a_list_has_a_path_per_line() -> None:
    lines = [b"a b.png\n", b"\n", b"c.png\r\n", b"a b.png\n", b"\xff.png"]
    expected = ["a b.png", "c.png", "a b.png", os.fsdecode(b"\xff.png")]
    assert [f"{path}" for path in read_list(lines)] == expected


def test_a_list_is_classified_line_by_line(exported: Path, many: Path, there: Path) -> None:  # noqa: F811
    listed = sorted(many.rglob("*.png"))[1:66]
    text = "".join(f"{path}\n" for path in [*listed, listed[0]])
    (there / "list.txt").write_text(text)
    assert run(exported, "--from-file", "list.txt", "--out", "a.csv").exit_code == 0
    result = CliRunner().invoke(main, ["predict", f"{exported}", "--from-file", "-"], input=text)
    assert result.exit_code == 0
    rows = list(csv.reader((there / "a.csv").read_text().splitlines()))[1:]
    assert rows == list(csv.reader(result.stdout.splitlines(), delimiter="\t"))
    assert [row[0] for row in rows] == text.splitlines()
    assert "name IMAGES" in run(exported).stderr


# the table


def test_parquet_has_the_values_of_csv(exported: Path, many: Path, there: Path) -> None:  # noqa: F811
    for name in ("a.csv", "a.parquet", "b.PARQUET"):
        assert run(exported, many, "--top-k", 2, "--out", name).exit_code == 1
    header, *rows = csv.reader((there / "a.csv").read_text(encoding="utf-8").splitlines())
    table = pq.read_table("a.parquet")
    assert table.column_names == header
    assert [f"{kind}" for kind in table.schema.types] == ["string", *["string", "double"] * 2]
    written = [[f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row.values()]
               for row in table.to_pylist()]  # fmt: skip
    assert written == rows
    assert len(rows) == NUM_IMAGES - len(BAD)
    assert (there / "a.parquet").read_bytes() == (there / "b.PARQUET").read_bytes()
    assert run(exported, many, "--out", "a.parquet").exit_code == 1  # a table of ours is replaced
    pq.write_table(table.select([1, 2]), "other.parquet")
    assert "not a table of predictions" in refused(exported, many, "--out", "other.parquet")


def test_cells_may_have_any_characters(there: Path) -> None:
    cells = ["a,b", 'say "x"', "two\nlines", "carriage\rreturn", "line\u2028end", "", " "]
    rows = [[cell, "0.250000", "true"] for cell in cells]
    columns = [Column("path"), Column("probability", "number"), Column("unfamiliar", "flag")]
    write_table(there / "a.parquet", columns, rows, there / "scratch")
    expected = [{"path": cell, "probability": 0.25, "unfamiliar": True} for cell in cells]
    assert pq.read_table("a.parquet").to_pylist() == expected
    write_table(there / "a.csv", columns, rows, there / "scratch")
    with (there / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [[column.name for column in columns], *rows]


# stopped and resumed


def stopped_after(number: int) -> Callable[..., None]:
    """Returns an `Unfinished.append` that raises after `number` batches, as a kill would."""
    append, done = Unfinished.append, iter(range(number))

    def limited(self: Unfinished, *arguments: object) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt
        append(self, *arguments)  # type: ignore[arg-type]

    return limited


def stop(monkeypatch: pytest.MonkeyPatch, number: int, *arguments: object) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "append", stopped_after(number))
        result = CliRunner().invoke(main, ["predict", *map(str, arguments)])
        assert result.exit_code == 1


@pytest.fixture(scope="module")
def whole(exported: Path, many: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:  # noqa: F811
    """The table that was not interrupted, and its messages."""
    out = tmp_path_factory.mktemp("whole") / "a.csv"
    result = run(exported, many, "--out", out)
    assert [line for line in result.stderr.splitlines() if "not classified" not in line] == [
        f"{out}: {NUM_IMAGES - 3} images classified",
        f"3 of {NUM_IMAGES} files could not be classified",
    ]
    assert list(out.parent.iterdir()) == [out]
    return out.read_bytes(), result.stderr.replace(f"{out}", "a.csv")


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_command_that_was_stopped_is_resumed_with_the_same_bytes_and_messages(
    number: int, exported: Path, many: Path, there: Path, whole: tuple[bytes, str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    command = exported, many, "--out", "a.csv"
    stop(monkeypatch, number, *command)
    assert not (there / "a.csv").exists()
    result = run(*command)
    assert (there / "a.csv").read_bytes() == whole[0]
    resumed = f"a.csv: resumes after {min(64 * number, NUM_IMAGES)} of {NUM_IMAGES} images\n"
    assert result.stderr == (resumed if number else "") + whole[1]
    assert list(there.iterdir()) == [there / "a.csv"]


def test_a_kill_after_the_table_is_in_its_place_changes_nothing(
    exported: Path, many: Path, there: Path, whole: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "remove", lambda self: None)
        run(exported, many, "--out", "a.csv")
    assert "resumes after 197 of 197" in run(exported, many, "--out", "a.csv").stderr
    assert (there / "a.csv").read_bytes() == whole[0]
    assert list(there.iterdir()) == [there / "a.csv"]


def test_another_command_does_not_resume(
    exported: Path, many: Path, there: Path, whole: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    command = exported, many, "--out", "a.csv"
    stop(monkeypatch, 2, *command)
    kept = (there / ".a.csv.unfinished/rows").read_bytes()
    other = shutil.copytree(exported, there / "other")
    text = (other / "model.json").read_text(encoding="utf-8")
    (other / "model.json").write_text(f"{text} \n", encoding="utf-8")
    for arguments, difference in (
        ((other, many, "--out", "a.csv"), "the export"),
        ((exported, many / "0", "--out", "a.csv"), "the inputs"),
        ((*command, "--top-k", 2), "the options"),
        ((other, many, "--tiff", "--out", "a.csv"), "the export, the options"),
    ):
        message = refused(*arguments)
        assert f"stopped after 128 inputs and differs in {difference}; run that" in message
        assert "--restart" in message
    monkeypatch.chdir(shutil.copytree(there, there.with_name("moved")))
    assert "differs in the working directory;" in refused(*command)
    monkeypatch.chdir(there)
    assert (there / ".a.csv.unfinished/rows").read_bytes() == kept
    assert run(*command, "--top-k", 2, "--restart").exit_code == 1
    assert (there / "a.csv").read_bytes() != whole[0]
    stop(monkeypatch, 0, *command)  # without a row, nothing is lost
    assert "resumes" not in run(*command).stderr
    assert (there / "a.csv").read_bytes() == whole[0]


def test_a_second_process_is_refused_while_the_first_one_writes(there: Path) -> None:
    with open_unfinished(there / "a.csv", {}, [Path("x")]):
        command = f"""
from pathlib import Path
from darkroom.prediction.unfinished import open_unfinished
with open_unfinished(Path({f"{there}/a.csv"!r}), {{}}, [Path("x")]):
    pass
"""
        result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
        assert "another process is writing it; wait until it ends, or stop it" in result.stderr


def begin(*arguments: object) -> subprocess.Popen[bytes]:
    command = Path(sys.executable).parent / "darkroom"
    return subprocess.Popen([command, "predict", *map(str, arguments)], stderr=subprocess.DEVNULL)


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(at_least(1, 4)))
def test_a_process_killed_anywhere_and_run_again_writes_every_row_once(
    seed: int, exported: Path, there: Path  # noqa: F811
) -> None:  # fmt: skip
    """Real processes, killed by SIGKILL: while they list, after a number of rows, while they write."""
    for index in range(64 * 30 + 1):
        draw(there / f"many/{index % 7}/{index:04d}.png", index)
    wholes = {}
    for suffix in (".csv", ".parquet"):
        assert begin(exported, "many", "--out", f"whole{suffix}").wait() == 0
        wholes[suffix] = (there / f"whole{suffix}").read_bytes()
    listed = [f"{path}" for path in list_images(["many"])]
    assert pq.read_table("whole.parquet").column("path").to_pylist() == listed
    choose, num_kills, num_tables, num_resumed = random.Random(seed), 0, 0, 0
    while num_kills < at_least(8, 50):
        out = there / f"out{choose.choice(list(wholes))}"
        kept = there / f".{out.name}.unfinished"
        while not out.exists():
            least = size(kept / "rows") + choose.randrange(30_000)
            moment = choose.choice(["listing", "rows", "rows", "rows", "table"])
            process = begin(exported, "many", "--out", out.name)
            while process.poll() is None:
                time.sleep(0.001)
                if (
                    (moment == "listing" and size(kept / "listed"))
                    or (moment == "rows" and size(kept / "rows") > least)
                    or (moment == "table" and size(kept / "table"))
                ):
                    process.kill()
            if process.wait() == -signal.SIGKILL:
                num_kills += 1
                num_resumed += size(kept / "rows") > 1_000
            assert out.exists() or process.returncode == -signal.SIGKILL
        if process.returncode:  # killed after the table was in its place
            assert begin(exported, "many", "--out", out.name).wait() == 0
        assert out.read_bytes() == wholes[out.suffix]
        assert not kept.exists()
        out.unlink()
        num_tables += 1
    print(f"{num_kills} kills, {num_resumed} of them with rows to resume, {num_tables} tables")
    assert num_resumed > num_kills // 3


# torn and damaged rows


def damages(content: bytes) -> Iterator[bytes]:
    """Yields rows that end anywhere, have a bit flipped, or whose end was not written but reserved."""
    draw = random.Random(1)
    for _ in range(40):
        cut = draw.randrange(len(content))
        yield content[:cut]
        yield content[:cut] + bytes(len(content) - cut)
        yield content[:cut] + bytes([content[cut] ^ 1 << draw.randrange(8)]) + content[cut + 1 :]


def write_in_pieces(out: Path, num_chunks: int) -> None:
    """Appends the rows that are missing, of 12 inputs with three rows each, and writes the table."""
    with open_unfinished(out, {"x": 1}, [Path(f"{number}") for number in range(12)]) as found:
        for number in range(found.num_done // 3, num_chunks):
            rows = [[f"{number}.{row}", f"{number / 16 + row / 64:.6f}"] for row in range(3)]
            found.append(3, rows, [])
        if num_chunks == 4:
            rows = (row for chunk in found.chunks() for row in chunk.rows)
            write_table(out, [Column("path"), Column("p", "number")], rows, found.scratch)
            found.remove()


@pytest.mark.slow
@pytest.mark.parametrize("is_checked", [True, False])
def test_rows_that_are_torn_or_damaged_are_computed_again(
    is_checked: bool, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_in_pieces(there / "whole.csv", 4)
    whole = (there / "whole.csv").read_bytes()
    out, rows = there / "a.csv", there / ".a.csv.unfinished/rows"
    write_in_pieces(out, 3)
    kept = rows.read_bytes()
    if not is_checked:  # twin: without the check, damage reaches the table, or stops the command
        monkeypatch.setattr(unfinished, "_is_whole", lambda line: True)
    num_wrong = 0
    for damaged in damages(kept):
        write_in_pieces(out, 3)
        rows.write_bytes(damaged)
        try:
            write_in_pieces(out, 4)
            num_wrong += out.read_bytes() != whole
        except Exception:
            assert not is_checked
            num_wrong += 1
        shutil.rmtree(rows.parent, ignore_errors=True)
        out.unlink(missing_ok=True)
    assert num_wrong == 0 if is_checked else num_wrong > 20

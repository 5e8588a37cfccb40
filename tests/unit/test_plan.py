"""The plan compared with what DVC then does, in a project of small commands, and its sentences."""

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from dvc.repo import Repo

from darkroom.commands.plan import plan as command
from darkroom.errors import UserError
from darkroom.planning.costs import TimedRun, with_costs
from darkroom.planning.dvc_view import open_view
from darkroom.planning.plan import Plan, PlannedStage, make_plan
from darkroom.planning.reasons import code_reason, data_reason, param_reasons
from darkroom.planning.text import duration, markdown, sentence

RAN = "ran.log"

STAGES = """
stages:
  make:
    cmd: mkdir -p made && cp -r src/seed made/ && echo make >> ran.log
    params: [m]
    deps: [src/seed]
    outs: [made: {persist: true}]
  first:
    cmd: grep '^x' params.yaml | cat - data/*/* > first.txt && echo first >> ran.log
    params: [x]
    deps: [data, src/code]
    outs: [first.txt]
  second:
    cmd: mkdir -p out && cat first.txt made/seed > out/one && head -c 1 src/two > out/two && echo second >> ran.log
    deps: [first.txt, made, src/two]
    outs: [out]
    metrics: [score.json: {cache: false}]
  third:
    cmd: cp out/two third.txt && echo third >> ran.log
    params: [y]
    deps: [out/two, score.json]
    outs: [third.txt]
""".replace("&& echo second", "&& wc -c < first.txt > score.json && echo second")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has run once; `data` is a folder that was added to DVC."""
    folder = tmp_path / "toy"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write("dvc.yaml", STAGES)
    write("params.yaml", "x: 1\ny: 1\nm: 1\n")
    for name in ("seed", "code", "two"):
        write(f"src/{name}", f"{name}\n")
    for name in ("cat/1", "cat/2", "dog/1"):
        write(f"data/{name}", name)
    with Repo.init(str(folder), no_scm=True) as repo:
        repo.add("data")
    reproduce()
    return folder


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def reproduce(pull: bool = False) -> dict[str, str]:
    """Runs `dvc repro`, and returns what DVC did with each stage: run, restored or nothing."""
    Path(RAN).unlink(missing_ok=True)
    with Repo(".") as repo:
        before = {stage.name: stage for stage in repo.index.stages if stage.cmd}
        done = {getattr(stage, "name", "") for stage in repo.reproduce(pull=pull)}
    ran = Path(RAN).read_text().split() if Path(RAN).exists() else []
    return {
        name: "run" if name in ran else "restored" if name in done else "nothing" for name in before
    }


def plan_here() -> Plan:
    with open_view() as view:
        return make_plan(view)


def fits(planned: PlannedStage, done: str) -> bool:
    """A stage whose plan depends on outputs to come may also be unchanged, or restored."""
    expected = {"run": "run", "cached": "restored", "unchanged": "nothing", "pull": "restored"}
    return not planned.certain or expected[planned.action] == done


def contents(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time of the last change, and digest of every file and folder."""
    return {
        f"{path.relative_to(folder)}": (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def remove(path: str) -> None:
    shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink(missing_ok=True)


def drop_object(path: str) -> None:
    """Removes a file's bytes from DVC's cache."""
    md5 = hashlib.md5(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else ""
    remove(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}") if md5 else None


CHANGES: tuple[Callable[[random.Random], object], ...] = (
    lambda draw: write("params.yaml", f"x: {draw.randrange(2)}\ny: 1\nm: 1\n"),
    lambda draw: write("params.yaml", f"x: 1\ny: {draw.randrange(3)}\nm: 1\n"),
    lambda draw: write("src/code", f"comment {draw.randrange(2)}\n"),
    lambda draw: write("src/two", f"{draw.randrange(2)} and {draw.randrange(2)}\n"),
    lambda draw: write("src/seed", f"{draw.randrange(2)}\n"),
    lambda draw: write(f"data/cat/{draw.randrange(4)}", f"{draw.randrange(2)}"),
    lambda draw: remove(f"data/dog/{draw.randrange(3)}"),
    lambda draw: write("data/dog/1", "dog/1"),
    lambda draw: remove(draw.choice(["first.txt", "out", "out/two", "score.json", "third.txt", "made"])),
    lambda draw: Path(draw.choice(["first.txt", "third.txt"])).unlink(missing_ok=True),
    lambda draw: write(draw.choice(["third.txt", "score.json"]), "edited"),
    lambda draw: drop_object(draw.choice(["third.txt", "first.txt", "out/one"])),
    lambda draw: remove("dvc.lock"),
    lambda draw: write("dvc.yaml", STAGES.replace("cp out/two", f"cp {'-p ' * draw.randrange(2)}out/two")),
    lambda draw: None,
)


@pytest.mark.parametrize("seed", range(2))
def test_the_plan_is_what_dvc_does_after_any_change(toy: Path, seed: int) -> None:
    draw = random.Random(seed)
    seen = []
    for _ in range(25):
        for change in draw.sample(CHANGES, draw.choice([1, 1, 2])):
            change(draw)
        before = contents(toy)
        planned = plan_here()
        assert contents(toy) == before
        done = reproduce()
        for one in planned.stages:
            assert fits(one, done[one.stage]), (one, done)
        seen += [one.action for one in planned.stages if one.certain]
        assert {one.action for one in plan_here().stages} == {"unchanged"}
    assert {"run", "cached", "unchanged"} <= set(seen)

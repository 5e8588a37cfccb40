"""The plan compared with what DVC then does, in a project of small commands, and its sentences."""

import hashlib
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner
from dvc.repo import Repo
from effort import at_least
from project import file_states

from darkroom.commands.plan import plan as command
from darkroom.errors import UserError
from darkroom.planning.costs import TimedRun
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
    cmd: >-
      mkdir -p out && cat first.txt made/seed > out/one && head -c 1 src/two > out/two
      && wc -c < first.txt > score.json && echo second >> ran.log
    deps: [first.txt, made, src/two]
    outs: [out]
    metrics: [score.json: {cache: false}]
  third:
    cmd: cp out/two third.txt && echo third >> ran.log
    params: [y]
    deps: [out/two, score.json]
    outs: [third.txt]
"""


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project that has run once, to copy; `data` is a folder that was added to DVC."""
    folder = tmp_path_factory.mktemp("toy")
    with chdir(folder):
        write("dvc.yaml", STAGES)
        write("params.yaml", "x: 1\ny: 1\nm: 1\n")
        for name in ("seed", "code", "two"):
            write(f"src/{name}", f"{name}\n")
        for name in ("cat/1", "cat/2", "dog/1"):
            write(f"data/{name}", name)
        with Repo.init(no_scm=True) as repo:
            repo.add("data")
        reproduce()
        yield folder


@pytest.fixture
def toy(run_once: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "toy"
    shutil.copytree(run_once, folder)
    with chdir(folder):
        yield folder


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
    return {name: "run" if name in ran else "restored" if name in done else "nothing" for name in before}


def plan_here() -> Plan:
    with open_view() as view:
        return make_plan(view)


def fits(planned: PlannedStage, done: str) -> bool:
    """A stage whose plan depends on outputs to come may also be unchanged, or restored."""
    expected = {"run": "run", "cached": "restored", "unchanged": "nothing", "pull": "restored"}
    return not planned.certain or expected[planned.action] == done


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
    lambda draw: write(
        "dvc.yaml", STAGES.replace("cp out/two", f"cp {'-p ' * draw.randrange(2)}out/two")
    ),
    lambda draw: None,
)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "num_changes"), [(0, 4), (1, at_least(15, 60))])
def test_the_plan_is_what_dvc_does_after_any_change(toy: Path, seed: int, num_changes: int) -> None:
    draw = random.Random(seed)
    seen = set()
    for _ in range(num_changes):
        for change in draw.sample(CHANGES, draw.choice([1, 1, 2])):
            change(draw)
        before = file_states(toy)
        planned = plan_here()
        assert file_states(toy) == before
        done = reproduce()
        for one in planned.stages:
            assert fits(one, done[one.stage]), (one, done)
        seen |= {one.action for one in planned.stages if one.certain}
    assert seen == {"run", "cached", "unchanged"}
    assert {one.action for one in plan_here().stages} == {"unchanged"}


def test_an_earlier_result_is_found_in_the_cache_with_what_follows_from_it(toy: Path) -> None:
    write("params.yaml", "x: 2\ny: 1\nm: 1\n")
    reproduce()
    write("params.yaml", "x: 1\ny: 1\nm: 1\n")
    planned = {one.stage: (one.action, one.reasons) for one in plan_here().stages}
    assert planned == {
        "make": ("unchanged", []),
        "first": ("cached", ["x 2 -> 1"]),
        "second": ("cached", ["other outputs of first"]),
        "third": ("unchanged", []),  # it reads the part of second that stays the same
    }
    assert reproduce() == {
        "make": "nothing",
        "first": "restored",
        "second": "restored",
        "third": "nothing",
    }


@pytest.mark.slow
@pytest.mark.parametrize("has_results", [True, False])
def test_what_only_the_remote_has_is_pulled(toy: Path, has_results: bool) -> None:
    with Repo(".") as repo, repo.config.edit() as config:
        config["remote"] = {"store": {"url": f"{toy.parent / 'store'}"}}
        config["core"]["remote"] = "store"
    if has_results:
        with Repo(".") as repo:
            repo.push(run_cache=True)
    for path in (".dvc/cache", "made", "first.txt", "out", "third.txt"):
        remove(path)
    planned = plan_here()
    actions = {one.stage: one.action for one in planned.stages}
    assert set(actions.values()) == ({"pull"} if has_results else {"run"})
    if has_results:
        reproduce(pull=True)
        assert not Path(RAN).exists()
        write("params.yaml", "x: 1\ny: 7\nm: 1\n")
        reproduce()
        with Repo(".") as repo:
            repo.push(run_cache=True)
        write("params.yaml", "x: 1\ny: 1\nm: 1\n")
        reproduce()
        write("params.yaml", "x: 1\ny: 7\nm: 1\n")
        remove(".dvc/cache/runs")  # the remote knows the earlier run
        remove(".dvc/cache/files")
        third = plan_here().stages[-1]
        assert (third.action, third.reasons) == ("pull", ["y 1 -> 7"])
        assert reproduce(pull=True)["third"] == "restored"


def test_a_remote_that_cannot_be_asked_is_told(toy: Path) -> None:
    with Repo(".") as repo, repo.config.edit() as config:
        config["remote"] = {"store": {"url": "s3://bucket/store"}}
        config["core"]["remote"] = "store"
    remove(".dvc/cache")
    remove("third.txt")
    planned = plan_here()
    assert planned.stages[-1].action == "run"
    assert "the remote cannot be asked" in " ".join(planned.remarks)


def test_a_commit_is_planned_as_if_it_were_checked_out(toy: Path) -> None:
    def git(*arguments: str) -> None:
        author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        subprocess.run(["git", *author, *arguments], check=True, capture_output=True)

    write(".gitignore", "data\nmade\n*.txt\nout\n.dvc/cache\n.dvc/tmp\nran.log\n")
    with Repo(".") as repo, repo.config.edit() as config:
        config["core"].pop("no_scm", None)
    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "results")
    write("params.yaml", "x: 1\ny: 9\nm: 1\n")
    git("commit", "--quiet", "--all", "--message", "not run yet")
    write("params.yaml", "x: 3\ny: 9\nm: 1\n")
    before = file_states(toy)
    with open_view("HEAD") as view:
        [*others, third] = make_plan(view).stages
    assert {one.action for one in others} == {"cached"}
    assert (third.action, third.reasons) == ("run", ["y 1 -> 9"])
    with open_view("HEAD~1") as view:
        assert {one.action for one in make_plan(view).stages} == {"cached"}
    assert file_states(toy) == before
    with (
        pytest.raises(UserError, match="neither a git revision nor a DVC experiment"),
        open_view("gone"),
    ):
        pass


def test_data_that_are_not_here_are_taken_as_recorded(toy: Path) -> None:
    remove("data")
    assert plan_here() == Plan(
        [PlannedStage(one, "unchanged", []) for one in ("make", "first", "second", "third")]
    )
    remove(".dvc/cache/files")
    planned = plan_here()
    assert "data is neither here nor in DVC's cache or a remote" in planned.remarks
    assert planned.stages[1].reasons == ["missing in DVC's cache: first.txt"]


def test_a_folder_without_a_project_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command)
    assert isinstance(result.exception, UserError)


def test_reasons_name_parameters_code_and_data() -> None:
    old = {"train.lr": 0.05, "train.ema_decay": None, "train.gone": 1, "seed": 0}
    new = {"train.lr": 0.02, "train.ema_decay": 0.9, "seed": 0, "train.new": True}
    assert list(param_reasons(old, new)) == [
        "train.lr 0.05 -> 0.02",
        "train.ema_decay null -> 0.9",
        "train.gone is no longer a parameter of it",
        "train.new is new: true",
    ]
    assert code_reason(["src/darkroom/training", "stages/train.py"]) == (
        "code changed: training/, stages/train.py"
    )
    data = {f"cat/{i}": f"c{i}" for i in range(3)} | {f"dog/{i}": f"d{i}" for i in range(3)}
    grown = data | {f"cow/{i}": f"new{i}" for i in range(1_200)} | {"cat/9": "new"}
    assert data_reason("data/mine", data, grown) == "data/mine: 1,201 files added in cow, cat"
    relabelled = {
        ("dog/0" if name == "cat/0" else name): md5 for name, md5 in data.items() if name != "dog/0"
    }
    assert (
        data_reason("data", data, relabelled) == "data: 1 file removed (cat/0), 1 file changed (dog/0)"
    )
    moved = {("dog/7" if name == "cat/0" else name): md5 for name, md5 in data.items()}
    assert data_reason("data", data, moved) == "data: 1 file moved (cat/0 -> dog/7)"
    assert data_reason("data.tar", None, None) == "data.tar changed"


def test_durations_come_from_runs_with_like_work() -> None:
    from darkroom.planning import costs

    run = TimedRun("train", 1, 40.0, {"train.epochs": "40", "model.name": "cnn", "train.lr": "0.1"})
    slower = TimedRun("train", 2, 60.0, run.params)
    params = {"train.epochs": "20", "train.patience": "null", "model.name": "cnn", "train.lr": "0.2"}
    planned = PlannedStage("train", "run", ["train.lr 0.1 -> 0.2"])
    assert costs.estimated(planned, [run, slower], params).seconds == 25.0
    other = costs.estimated(planned, [run], params | {"model.name": "mlp"})
    assert (other.seconds, other.estimate) == (None, "no earlier run with the same model.name")
    stopped_early = costs.estimated(planned, [run], params | {"train.patience": "3"})
    assert (stopped_early.seconds, stopped_early.estimate) == (
        None,
        "no earlier run with the same train.epochs",
    )
    unchanged = PlannedStage("train", "unchanged", [])
    assert costs.estimated(unchanged, [run], params) is unchanged


def test_the_text_says_what_runs_and_how_long() -> None:
    stages = [
        PlannedStage("prepare", "cached", ["seed 0 -> 1"]),
        PlannedStage("train", "run", ["train.lr 0.1 -> 0.2", "code changed: a|b/"], seconds=95.0),
        PlannedStage("export", "run", ["train runs before it"], certain=False),
    ]
    planned = Plan(stages, ["a remark"])
    assert sentence(planned) == "2 of 3 stages run, about 95 s; time unknown for export"
    assert "| train | **runs** | 95 s | train.lr 0.1 -&gt; 0.2<br>code changed: a\\|b/ |" in markdown(
        planned
    )
    assert sentence(Plan(stages[:1])) == "no stage runs; outputs are only restored"
    assert sentence(Plan([PlannedStage("train", "unchanged", [])])) == "nothing to do"
    assert [duration(s) for s in (0.2, 99.4, 240, 7_200)] == ["1 s", "99 s", "4 min", "2.0 h"]
    assert set(planned.to_json()["stages"][0]) >= {"stage", "action", "reasons", "seconds"}

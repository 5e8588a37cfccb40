"""Sweeps: what sweep.yaml may say, which values are drawn, and trainings that pause and continue."""

import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from preparation import PARAMS, prepare
from support import two_brightnesses

from darkroom.cli import main
from darkroom.commands.use import use
from darkroom.config.params import Params
from darkroom.config.train import TrainConfig
from darkroom.errors import UserError
from darkroom.params import check_values, flatten, load_params
from darkroom.progress import progress_bar
from darkroom.runtime import Runtime
from darkroom.sweep.definition import Sweep, load_sweep
from darkroom.sweep.example import EXAMPLE
from darkroom.sweep.halving import num_promoted, promoted
from darkroom.sweep.run import origin_of, run_sweep
from darkroom.sweep.sampling import Known, draw_point
from darkroom.sweep.search import Search
from darkroom.sweep.storage import JOURNAL
from darkroom.sweep.study import Study, TakenOver, Trial, open_study
from darkroom.sweep.training import RESULT, Unit, train_unit, write_model

SHIPPED = Path(__file__).parents[2] / "params.yaml"
LR = "train.lr: {low: 0.001, high: 1, log: true}"


def changed(**values: Any) -> Params:
    """params.yaml with ``train__lr=0.1`` and the like."""
    sections = PARAMS.model_dump()
    for name, value in values.items():
        section, _, key = name.partition("__")
        sections[section][key] = value
    found = check_values(sections)
    assert isinstance(found, Params), found
    return found


def read(folder: Path, text: str, base: Params = PARAMS) -> Sweep:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return load_sweep(path, base)


def of(folder: Path, *space: str, head: str = "trials: 8", base: Params = PARAMS) -> Sweep:
    """A sweep with these lines in its space."""
    lines = "".join(f"  {line}\n" for line in space)
    return read(folder, f"{head}\nspace:\n{lines}", base)


# what sweep.yaml may say

SPACE_MISTAKES = {
    "train.lrr: [0.1]": "sweep.yaml:3: train.lrr is not a parameter; did you mean train.lr?",
    "trian.lr: [0.1]": "trian.lr is not a parameter; did you mean train.lr?",
    "lr: [0.1]": "lr is not a parameter; did you mean train.lr?",
    "train: {lr: [0.1]}": "train is a section; write the full names",
    "train.lr: 0.1": "train.lr: 0.1 is not a range such as {low: 0.001",
    "train.lr: {low: 0.1, high: 200}": "train.lr: 200 is not allowed; it must be auto or a number",
    "train.lr: {low: 0.1, hihg: 1}": "unknown key hihg; did you mean high?",
    "train.lr: {low: 1, high: 0.1}": "train.lr: low: 1.0 must be below high, 0.1",
    "train.l1: {low: 0, high: 1, log: true}": "low: 0.0 must be above 0 when log is true",
    "model.width: {low: 8.5, high: 16}": "model.width: 8.5 is not allowed",
    "model.width: {low: 8, high: 16, step: 0.5}": "step: 0.5 is not allowed",
    "train.optimizer: {low: 1, high: 2}": "a range needs numbers; give a list of choices",
    "train.optimizer: [sgd, adamm]": "train.optimizer: 'adamm' is not allowed; it must be",
    "train.lr: [0.1, 0.1]": "train.lr: a value is listed twice",
    "prepare.image_size: [8]": "prepare.image_size: changes the prepared images",
    "data.path: [a]": "data.path: changes the prepared images",
    "seed: [1, 2]": "seed: a seed is not something to optimise",
    "evaluate.tta: [flip]": "evaluate.tta: is not read by training",
    "train.deterministic: [false]": "train.deterministic: it takes effect before",
    "train.lr: {when: {model.width: 8}, low: 0.1, high: 1}": "model.width is not in the space",
    "train.lr: {low: 0.1, high: 1, otherwise: 1}": "otherwise has no effect without when",
    "train.optimizer: [sgd, adamw]": "sweep.yaml:2: space: with train.optimizer 'adamw': train.momentum:"
    " 0.9 has no effect when train.optimizer is adamw; it must be null",
}

LINE = "space: {train.lr: [0.1]}"

MISTAKES = {
    "trials: 5": "sweep.yaml:1: space is missing; it must be a map from parameters to a range",
    "trials: 5\nspace: {}": "sweep.yaml:2: space: {} is not allowed",
    f"trails: 5\n{LINE}": "sweep.yaml:1: trails is not a key of a sweep; did you mean trials?",
    f"trials: 1\n{LINE}": "trials: 1 is not allowed; it must be a whole number at least 2",
    f"sampler: bayes\ntrials: 5\n{LINE}": "it must be one of grid, random, tpe",
    LINE: "trials is missing",
    f"sampler: grid\ntrials: 4\n{LINE}": "sweep.yaml:2: trials: a grid is trained completely",
    "sampler: grid\nspace:\n  train.lr: {low: 0.1, high: 1}": "train.lr: a grid needs a step",
    f"trials: 5\npruning: {{min_epochs: 50}}\n{LINE}": "pruning.min_epochs: 50 must be below",
    f"trials: 5\npruning: {{factr: 3, min_epochs: 5}}\n{LINE}": "pruning.factr is not a key of",
    "trials: 5\npruning: {min_epochs: 5}\nspace: {train.epochs: [20, 40]}": "equally long trainings",
    f"trials: 5\nstorage: postgresql://me:secret@host/db\n{LINE}": "contains a password",
    **{f"trials: 5\nspace:\n  {line}": message for line, message in SPACE_MISTAKES.items()},
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_a_mistake_is_refused_with_its_line_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, text)
    assert message in f"{refused.value}"
    assert "secret" not in f"{refused.value}"


def test_the_example_is_a_sweep(tmp_path: Path) -> None:
    sweep = read(tmp_path, EXAMPLE)
    assert (sweep.name, sweep.num_trials, sweep.rungs) == ("sweep", 40, [40])


def test_conditions_decide_which_parameters_are_searched(tmp_path: Path) -> None:
    sweep = of(
        tmp_path,
        "train.optimizer: [sgd, adamw, muon]",
        "train.momentum: {when: {train.optimizer: [sgd, muon]}, choices: [0.8, 0.9], otherwise: null}",
        "train.nesterov: {when: {train.optimizer: sgd}, choices: [true, false], otherwise: null}",
        head="sampler: grid",
    )
    expected = {("adamw", None, None)}
    expected |= {("sgd", m, n) for m, n in itertools.product((0.8, 0.9), (True, False))}
    expected |= {("muon", m, None) for m in (0.8, 0.9)}
    points = [draw_point(sweep, index, []) for index in range(sweep.num_trials)]
    overlays = [sweep.space.overlay(point) for point in points]
    assert sorted(map(repr, (tuple(one.values()) for one in overlays))) == sorted(map(repr, expected))
    assert points[0] == sweep.space.current  # params.yaml as it is, which is one of them
    assert {"train.optimizer": "adamw"} in points


def test_a_grid_has_the_steps_of_its_ranges(tmp_path: Path) -> None:
    sweep = of(
        tmp_path,
        "model.dropout: {low: 0, high: 0.3, step: 0.1}",
        "model.width: {low: 8, high: 9}",
        head="sampler: grid",
    )
    expected = [*itertools.product((0.0, 0.1, 0.2, 0.3), (8, 9))]
    assert [tuple(point.values()) for point in sweep.space.grid] == expected
    assert sweep.num_trials == 1 + len(expected)


# which values are drawn


def drawn(sweep: Sweep, count: int = 25) -> list[dict[str, Any]]:
    """Points of which each is drawn knowing those before, with scores that prefer a rate of 0.1."""
    history: list[Known] = []
    for index in range(count):
        known = [one for number, one in enumerate(history) if number <= index - sweep.jobs]
        point = draw_point(sweep, index, known)
        history.append(Known(point, 1 - abs(np.log10(point["train.lr"]) + 1) / 4))
    return [one.point for one in history]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_same_seed_draws_the_same_values_and_another_seed_others(
    tmp_path: Path, sampler: str
) -> None:
    space = (LR, "model.dropout: {low: 0, high: 0.9}", "train.ema_decay: [null, 0.9, 0.99]")
    first = of(tmp_path, *space, head=f"trials: 25\nsampler: {sampler}")
    points = drawn(first)
    assert drawn(of(tmp_path, *space, head=f"trials: 25\nsampler: {sampler}\nseed: 0")) == points
    other = drawn(of(tmp_path, *space, head=f"trials: 25\nsampler: {sampler}\nseed: 1"))
    assert all(point not in points[1:] for point in other[1:])
    assert all(0.001 <= point["train.lr"] <= 1 for point in points)
    assert len({point["train.lr"] for point in points}) == 25
    assert {point["train.ema_decay"] for point in points} == {None, 0.9, 0.99}


def test_only_tpe_learns_from_earlier_trials(tmp_path: Path) -> None:
    """Its later rates are nearer to the best one than random ones."""
    far = {}
    for sampler in ("random", "tpe"):
        points = drawn(of(tmp_path, LR, head=f"trials: 40\nsampler: {sampler}"), 40)
        far[sampler] = np.mean([abs(np.log10(point["train.lr"]) + 1) for point in points[12:]])
    assert far["tpe"] < far["random"] / 2


def test_values_keep_four_digits_and_stay_within_the_range(tmp_path: Path) -> None:
    sweep = of(tmp_path, "train.lr: {low: 0.123456, high: 0.123457}")
    for index in range(1, 8):
        assert 0.123456 <= draw_point(sweep, index, [])["train.lr"] <= 0.123457
    for index in range(1, 8):
        value = draw_point(of(tmp_path, LR), index, [])["train.lr"]
        assert value == float(f"{value:.4g}")


# successive halving


def trial(index: int, score: float, state: Any = "running") -> Trial:
    return Trial(index, index, {}, state, {5: [score]})


def test_the_best_part_is_promoted(tmp_path: Path) -> None:
    """By hand: of nine trials with a factor of 4 the best two; of equal scores, the lower number."""
    head = "trials: 9\npruning: {min_epochs: 3, factor: 4}"
    sweep = of(tmp_path, LR, head=head)
    assert sweep.rungs == [3, 12, 40]
    assert num_promoted(sweep, 9) == 2
    assert num_promoted(sweep, 2) == 1
    scores = [0.5, 0.9, 0.1, 0.8, 0.9, 0.2, 0.9, 0.3, 1.0]
    trials = [trial(index, score) for index, score in enumerate(scores)]
    assert [one.index for one in promoted(trials, 5, 2)] == [1, 8]
    trials[8] = trial(8, 1.0, "failed")
    assert [one.index for one in promoted(trials, 5, 2)] == [1, 4]


# the storage

ORIGIN = {"train.lr": 0.05, "data.digest": "abc"}


def test_a_study_is_found_again_after_a_line_was_cut_off(tmp_path: Path) -> None:
    sweep = of(tmp_path, LR)
    with open_study(sweep, tmp_path, ORIGIN) as study:
        added = study.add(1, {"train.lr": 0.5})
        assert added is not None
        study.report(added, 40, [0.75, 0.25], {1: 0.1, 2: 0.2}, 0.01)
        assert study.add(2, {"train.lr": 0.25}) is not None
        before = study.trials()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":6,"worker_id":"x","tri')
    with open_study(sweep, tmp_path, ORIGIN) as study:
        assert study.trials() == before
        assert before[0].scores == {40: [0.75, 0.25]}
        assert before[0].score() == 0.5
        finished = study.finish(before[0], "complete")
        assert (finished.state, finished.curve) == ("complete", {1: 0.1, 2: 0.2})


def refuse(sweep: Sweep, folder: Path, origin: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message), open_study(sweep, folder, origin):
        pass


def test_two_processes_and_other_values_are_refused(tmp_path: Path) -> None:
    sweep = of(tmp_path, LR)
    with open_study(sweep, tmp_path, ORIGIN):
        refuse(sweep, tmp_path, ORIGIN, "another `darkroom sweep` is running")
    other = {**ORIGIN, "train.lr": 0.1}
    refuse(sweep, tmp_path, other, r"begun with other values.*train\.lr \(0\.05 -> 0\.1\)")


def test_a_database_holds_the_trials_of_several_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = of(tmp_path, LR, head=f"trials: 8\nstorage: sqlite:///{tmp_path}/team.db")
    with (
        open_study(sweep, tmp_path / "a", ORIGIN) as one,
        open_study(sweep, tmp_path / "b", ORIGIN) as two,
    ):
        two.worker = "another machine"
        assert one.add(0, {"train.lr": 0.5}) is not None
        assert two.add(0, {"train.lr": 0.5}) is None  # its number is taken
        assert two.add(1, {"train.lr": 0.25}) is not None
        assert [(known.index, known.worker) for known in one.trials()] == [
            (0, one.worker),
            (1, "another machine"),
        ]
        assert two.trials() == one.trials()
    broken = of(tmp_path, LR, head="trials: 8\nstorage: sqlite:////no/such/folder/team.db")
    refuse(broken, tmp_path / "c", ORIGIN, r"storage: sqlite:///.* cannot be opened")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Study, Study]]:
    """A study that two machines share in a database."""
    sweep = of(tmp_path, LR, head=f"trials: 8\nstorage: sqlite:///{tmp_path}/team.db")
    with (
        open_study(sweep, tmp_path / "a", ORIGIN) as one,
        open_study(sweep, tmp_path / "b", ORIGIN) as other,
    ):
        other.worker = "another machine"
        yield one, other


def miss_heartbeats(folder: Path) -> None:
    """Lets the last heartbeats in the database be long ago."""
    with closing(sqlite3.connect(folder / "team.db")) as session, session:
        session.execute("UPDATE trial_heartbeats SET heartbeat = '2001-01-01 00:00:00'")


def test_a_trial_of_a_lost_machine_is_trained_by_another_one_and_counts_once(
    tmp_path: Path, machines: tuple[Study, Study]
) -> None:
    lost, other = machines
    asleep = lost.add(1, {"train.lr": 0.5})
    assert asleep is not None
    other.give_up_lost()
    assert other.add(1, {"train.lr": 0.5}) is None  # it shows signs of life
    miss_heartbeats(tmp_path)
    other.give_up_lost()
    assert other.given_up(1) == {"train.lr": 0.5}
    taken = other.add(1, {"train.lr": 0.5})
    assert taken is not None
    for write in (
        lambda: lost.report(asleep, 40, [0.75], {1: 0.75}, 0.1),
        lambda: lost.finish(asleep, "complete"),
    ):
        with pytest.raises(TakenOver):
            write()
    other.finish(other.report(taken, 40, [0.25], {1: 0.25}, 0.1), "complete")
    [counted] = lost.trials()
    assert (counted.worker, counted.score()) == ("another machine", 0.25)


class Lost(BaseException):
    """The machine was lost."""


def lost_after(num_writes: int, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loses the machine of a study when it has written so often."""
    written = count(1)

    def writing(write: Callable[..., Any]) -> Callable[..., Any]:
        def then_lost(*arguments: Any, **options: Any) -> Any:
            result = write(*arguments, **options)
            if next(written) == num_writes:
                raise Lost
            return result

        return then_lost

    writes = ("create_new_trial", "record_heartbeat", "set_trial_state_values", "set_trial_user_attr")
    for name in writes:
        if hasattr(study._storage, name):
            monkeypatch.setattr(study._storage, name, writing(getattr(study._storage, name)))


@pytest.mark.parametrize("num_writes", [1, 2, 3, 4])
def test_nobody_waits_for_a_machine_lost_while_it_took_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: tuple[Study, Study], num_writes: int
) -> None:
    lost, other = machines
    lost_after(num_writes, lost, monkeypatch)
    with pytest.raises(Lost):
        lost.add(1, {"train.lr": 0.5})
    miss_heartbeats(tmp_path)
    other.give_up_lost()
    [found] = other.trials() or [None]
    taken = other.take(found) if found else other.add(1, {"train.lr": 0.5})
    assert taken is not None
    assert (taken.state, taken.worker, other.trials()) == ("running", other.worker, [taken])
    assert other.take(taken) is None  # nobody takes it a second time
    assert other.owns(taken)


@pytest.mark.parametrize("num_writes", [1, 2, 3])
def test_a_process_killed_while_it_took_a_trial_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_writes: int
) -> None:
    sweep = of(tmp_path, LR)
    with open_study(sweep, tmp_path, ORIGIN) as study:
        lost_after(num_writes, study, monkeypatch)
        with pytest.raises(Lost):
            study.add(1, {"train.lr": 0.5})
    with open_study(sweep, tmp_path, ORIGIN) as study:
        [found] = study.trials()
        taken = study.take(found) if found.state == "waiting" else found
        assert taken is not None
        assert taken.state == "running"
        assert study.owns(taken)


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql://me:hunt/er2@host/db",
        "postgresql://host/db?user=me&password=hunter2",
        "PostgreSQL://me:hunter2@host/db",  # is no URL for a reason that is told first
    ],
)
def test_a_password_in_the_address_of_a_database_is_refused_and_not_repeated(
    tmp_path: Path, storage: str
) -> None:
    with pytest.raises(UserError) as refusal:
        of(tmp_path, LR, head=f"trials: 8\nstorage: {storage}")
    assert "hunt" not in f"{refusal.value}"
    assert of(tmp_path, LR, head="trials: 8\nstorage: postgresql://me@host:5432/db").storage


# real trainings


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Prepared images of two classes, without the test split, and a training of little work."""
    pixels, labels = two_brightnesses(90)
    for number, (shown, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        path = tmp_path / "images" / "ab"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shown[:, :, 0]).save(path)
    prepare(tmp_path / "images", tmp_path / "data", test_fraction=0.2, val_fraction=0.3)
    for name in ("dataset.json", "manifest.parquet"):
        (tmp_path / "data" / name).rename(tmp_path / "data/prepared" / name)
    shutil.rmtree(tmp_path / "data/prepared/test")
    shutil.copy(SHIPPED, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return changed(model__name="mlp", model__width=4, train__epochs=4, train__batch_size=16)


@pytest.mark.slow
def test_a_training_that_paused_ends_with_the_bytes_of_one_that_did_not(
    base: Params, tmp_path: Path
) -> None:
    config, runtime, log = TrainConfig.of(base), Runtime(), tmp_path / "log"
    for epochs in (1, 3, 4):
        paused = train_unit(Unit(config, epochs), runtime, tmp_path / "paused", log)
        assert len(paused.results) == epochs
    whole = train_unit(Unit(config, 4), runtime, tmp_path / "whole", log)
    assert paused.results == whole.results
    for name, root in (
        ("paused", tmp_path / "paused"),
        ("whole", tmp_path / "whole"),
        ("lost", tmp_path),
    ):
        write_model(config, runtime, root, log, tmp_path / f"{name}.safetensors", tmp_path / name)
    models = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("paused", "whole", "lost")]
    assert models[0] == models[1] == models[2]
    other = config.model_copy(update={"seed": 1})
    write_model(other, runtime, tmp_path, log, tmp_path / "other.safetensors", tmp_path / "other")
    assert (tmp_path / "other.safetensors").read_bytes() != models[0]


@pytest.mark.slow
def test_a_failed_trial_loses_nothing_and_the_rest_are_compared(base: Params, tmp_path: Path) -> None:
    sweep = of(tmp_path, "train.lr: [0.1, 100, 0.01]", head="sampler: grid\nseeds: 2", base=base)
    summary, folder = run_sweep(sweep, Runtime(tracking="off"))
    by_lr = {summary.overlay(one)["train.lr"]: one for one in summary.trials}
    assert {lr: one.state for lr, one in by_lr.items()} | {100.0: "any"} == {
        0.05: "complete",
        0.1: "complete",
        0.01: "complete",
        100.0: "any",  # it may diverge
    }
    assert all(len(one.scores[4]) == 2 for one in summary.ranked)
    assert summary.best.score() == max(one.score() for one in summary.ranked)
    assert (folder / "model.safetensors").exists()
    page = (folder / "report.html").read_text()
    assert summary.sentences[0] in page
    assert "Not estimated: it takes at least 10 trials" in page
    assert "mean of 2 seeds" in summary.sentences[0]
    lr = flatten(summary.sweep.space.base)["train.lr"]
    assert lr == 0.05
    results = [*Path(".darkroom/sweep").glob(f"*/*/{RESULT}")]
    states = [path.stat().st_mtime_ns for path in results]
    again, _ = run_sweep(sweep, Runtime(tracking="off"))
    assert again.to_json() == summary.to_json()
    assert [path.stat().st_mtime_ns for path in results] == states
    assert not [*Path(".darkroom/sweep").glob("*/*/checkpoints")]


@pytest.mark.slow
def test_halving_trains_only_the_best_to_the_end_and_jobs_change_nothing(
    base: Params, tmp_path: Path
) -> None:
    head = "sampler: random\ntrials: 9\npruning: {min_epochs: 1, factor: 3}"
    found = []
    for jobs in (1, 2):
        sweep = of(tmp_path, LR, head=f"{head}\njobs: {jobs}\nname: of_{jobs}", base=base)
        summary, _ = run_sweep(sweep, Runtime(tracking="off"))
        found.append([(one.point, one.state, one.scores, one.curve) for one in summary.trials])
    assert sweep.rungs == [1, 3, 4]
    assert found[0] == found[1]
    lengths = sorted(len(curve) for _, _, _, curve in found[0])
    assert lengths == [1] * 6 + [3] * 2 + [4]
    first = sorted(scores[1][0] for _, _, scores, _ in found[0])
    kept = sorted(scores[1][0] for _, _, scores, _ in found[0] if 3 in scores)
    assert kept == first[-3:]

    sweep, root = of(tmp_path, LR, head=f"{head}\nname: of_1", base=base), tmp_path / "root"
    origin = origin_of(sweep, Runtime())
    with open_study(sweep, Path("sweeps/of_1"), origin) as study, progress_bar("again") as bar:
        again = Search(sweep, study, Runtime(), root, tmp_path / "log", bar)
        assert sorted(one.index for one in again.run()) == list(
            range(9)
        )  # none twice, or it is logged twice
    assert not root.exists()  # and none is trained again


# the commands


@pytest.mark.slow
def test_use_writes_the_best_values_and_says_what_else_has_changed(base: Params, tmp_path: Path) -> None:
    sweep = of(tmp_path, "train.lr: [0.1]", "train.unfreeze: [[]]", head="sampler: grid", base=base)
    summary, _ = run_sweep(sweep, Runtime(tracking="off"))
    result = CliRunner().invoke(use, ["--sweep", "sweep"], catch_exceptions=False)
    assert result.exit_code == 0
    wanted = summary.overlay(summary.best)
    assert flatten(load_params(tmp_path / "params.yaml")).items() >= wanted.items()
    assert "the sweep was run with train.epochs 4, which is 40 now" in result.stderr
    assert "train.lr 0" not in result.stderr
    for name, message in (("sweeep", "did you mean sweep?"), ("", "There are: sweep")):
        refused = CliRunner().invoke(main, ["use", "--sweep", name])
        assert refused.exit_code == 2
        assert message in refused.stderr


def test_the_command_checks_a_file_without_training(base: Params, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(EXAMPLE)
    result = CliRunner().invoke(main, ["sweep", "mine.yaml", "--check"])
    assert (result.exit_code, result.stderr) == (0, "mine.yaml: 40 trials of tpe\n")
    assert not (tmp_path / "sweeps").exists()
    missing = CliRunner().invoke(main, ["sweep"])
    assert missing.exit_code == 2
    assert "sweep.yaml: no such file; `darkroom sweep --example` prints one" in missing.stderr
    assert CliRunner().invoke(main, ["sweep", "--example"]).stdout == EXAMPLE

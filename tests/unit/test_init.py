"""`darkroom init`: what it writes, refuses and leaves alone, and what an upgrade changes."""

import json
import logging
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from project import file_states
from ruamel.yaml import YAML

from darkroom.cli import main
from darkroom.errors import UserError
from darkroom.installed import check_code, installed_remark, other_code
from darkroom.params import flatten, load_params
from darkroom.project.create import Wish, create
from darkroom.project.images import find_images
from darkroom.project.record import Record

ROOT = Path(__file__).parents[2]
STAGES = ("fetch", "prepare", "train", "evaluate", "export")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["init", *map(str, arguments)])


def make(folder: Path, *options: str | Path) -> Path:
    result = run(folder, *options)
    assert result.exit_code == 0, result.output
    return folder


def values_of(project: Path) -> dict[str, object]:
    return flatten(load_params(project / "params.yaml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that no test changes."""
    return make(tmp_path_factory.mktemp("made") / "mine", "--no-git")


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of a project."""
    shutil.copytree(made, tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    for number in range(4):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 60 * number).save(path)
    return folder


def test_a_project_has_the_pipeline_of_darkroom_but_for_its_code(project: Path) -> None:
    own = YAML(typ="safe").load(ROOT / "dvc.yaml")
    written = YAML(typ="safe").load(project / "dvc.yaml")
    for stage in STAGES:
        code = [f"stages/{stage}.sha256"]
        deps = [dep for dep in own["stages"][stage]["deps"] if not dep.startswith("src/")]
        assert written["stages"][stage].pop("deps") == [*deps, *code]
        own["stages"][stage].pop("deps")
        script = f"stages/{stage}.py"
        assert (project / script).read_bytes() == (ROOT / script).read_bytes()
    assert written == own
    assert (project / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert (project / ".gitignore").read_bytes() == (ROOT / ".gitignore").read_bytes()
    assert len((project / "README.md").read_text().splitlines()) < 45


def test_the_recorded_code_is_that_of_the_deps_by_another_program(project: Path) -> None:
    for stage in STAGES:
        recorded = project / f"stages/{stage}.sha256"
        subprocess.run(["sha256sum", "--check", "--quiet", recorded], cwd=ROOT / "src", check=True)
        deps = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]["deps"]
        listed = subprocess.run(
            ["git", "ls-files", "--", *(dep for dep in deps if dep.startswith("src/"))],
            cwd=ROOT,
            capture_output=True,
            text=True,
        ).stdout.split()
        named = [line.split()[1] for line in recorded.read_text().splitlines()]
        if listed:  # in a git checkout
            assert sorted(named) == sorted(
                [*(path.removeprefix("src/") for path in listed), f"darkroom/shipped/stages/{stage}.py"]
            )


def test_everything_is_ready_to_be_committed(tmp_path: Path) -> None:
    level = logging.getLogger("dvc").level
    project = make(tmp_path / "mine", "--ci", "gitlab")
    assert logging.getLogger("dvc").level == level != logging.WARNING
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=project,
        capture_output=True,
        text=True,
    ).stdout
    assert {line[:3] for line in status.splitlines()} == {"A  "}
    staged = {line[3:] for line in status.splitlines()}
    assert staged == {
        *(".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", ".gitlab-ci.yml"),
        *("README.md", "darkroom.json", "dvc.yaml", "models/weights/README.md", "params.yaml"),
        *("own/README.md", "own/fetch/.gitkeep", "own/train/.gitkeep"),
        *("profiles/smoke.yaml", "requirements.lock", "requirements.txt"),
        *(f"stages/{stage}.{ending}" for stage in STAGES for ending in ("py", "sha256")),
    }
    assert "pip install --quiet -r requirements.txt" in (project / ".gitlab-ci.yml").read_text()
    assert "make" not in (project / ".gitlab-ci.yml").read_text()


def test_without_git_there_is_neither_a_repository_nor_a_workflow(project: Path, tmp_path: Path) -> None:
    assert not (project / ".git").exists()
    assert not (project / ".github").exists()
    assert "no_scm = True" in (project / ".dvc/config").read_text()
    with_git = make(tmp_path / "other")
    assert (with_git / ".github/workflows/darkroom.yml").is_file()
    assert "no_scm" not in (with_git / ".dvc/config").read_text()


def test_the_lock_names_what_is_installed_and_nothing_else(made: Path) -> None:
    lines = (made / "requirements.lock").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines)
    assert {"darkroom", "dvc", "torch", "torchvision", "mlflow", "pyarrow"} <= pinned.keys()
    assert not {"pytest", "ruff", "mypy", "moto"} & pinned.keys()
    assert pinned == {name: version(name) for name in pinned}


def test_images_are_copied_and_added_to_dvc_and_never_touched(tmp_path: Path, images: Path) -> None:
    before = file_states(images)
    project = make(tmp_path / "mine", "--images", images)
    assert file_states(images) == before
    copied = {path: state[2] for path, state in file_states(project / "data/mine").items()}
    assert copied == {path: state[2] for path, state in before.items()}
    assert not [path for path in (project / "data/mine").rglob("*.png") if path.stat().st_nlink > 1]
    assert (project / "data/mine.dvc").is_file()
    values = values_of(project)
    assert (values["data.fetch"], values["data.path"]) == ([], "data/mine")
    comments = re.findall("#.*", (ROOT / "params.yaml").read_text())
    assert re.findall("#.*", (project / "params.yaml").read_text()) == comments


@pytest.mark.parametrize(
    ("side", "folder", "options", "expected"),
    [
        (64, "cat", (), True),
        (63, "cat", (), False),  # small images are what the default network is made for
        (64, "masks", (), False),  # the recipe does not predict masks
        (64, "cat", ("--recipe", "cifar10-fast"), False),
    ],
)
def test_photographs_are_met_with_the_recipe_for_them(
    side: int, folder: str, options: tuple[str, ...], expected: bool, tmp_path: Path
) -> None:
    (images := tmp_path / "photos" / folder).mkdir(parents=True)
    for number in range(3):
        Image.new("L", (side + 20, side)).save(images / f"{number}.png")
    (images / "notes.txt").write_text("no image")
    result = run(tmp_path / "mine", "--no-git", "--images", tmp_path / "photos", *options)
    assert result.exit_code == 0, result.output
    assert ("darkroom use finetune-small" in result.output) == expected
    assert f"shorter side {side} pixels" in result.output or not expected


def test_a_recipe_brings_its_data_only_where_no_images_are_given(tmp_path: Path, images: Path) -> None:
    alone = values_of(make(tmp_path / "alone", "--recipe", "cifar10-fast", "--no-git"))
    assert (alone["data.fetch"], alone["train.optimizer"]) == (["CIFAR10"], "sgd")
    with_images = values_of(
        make(tmp_path / "both", "--recipe", "cifar10-fast", "--no-git", "--images", images)
    )
    assert (with_images["data.fetch"], with_images["data.path"]) == ([], "data/mine")
    assert with_images["train.lr"] == alone["train.lr"]


def test_a_repository_that_was_cloned_empty_becomes_a_project(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path / "mine"], check=True)
    make(tmp_path / "mine")
    refused = run(tmp_path / "mine")
    assert (refused.exit_code, "already a project" in refused.output) == (2, True)


def refusals(tmp_path: Path) -> dict[str, tuple[list[str | Path], str]]:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").symlink_to("nowhere")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/again").symlink_to(tmp_path / "loop")
    subprocess.run(["git", "init", "--quiet", tmp_path / "outer"], check=True)
    new = tmp_path / "new"
    return {
        "full": ([tmp_path / "full"], r"not empty \(notes.txt\)"),
        "file": ([tmp_path / "full/notes.txt"], "a file; name a new folder"),
        "inside": ([tmp_path / "outer/mine"], "inside another git repository"),
        "recipe": ([new, "--recipe", "prob"], "did you mean probe"),
        "recipe file": ([new, "--recipe", "none.yaml"], "none.yaml: the file does not exist"),
        "no images": ([new, "--images", tmp_path / "none"], "the folder does not exist"),
        "empty images": ([new, "--images", tmp_path / "empty"], "contains no files"),
        "one image": ([new, "--images", tmp_path / "full/notes.txt"], "a folder, or a .tar archive"),
        "around": ([new, "--images", tmp_path], "would be inside"),
        "broken": ([new, "--images", tmp_path / "broken"], "a broken link"),
        "loop": ([new, "--images", tmp_path / "loop"], "a link to a folder that contains it"),
        "no folder": ([], "name a new folder"),
        "yes": ([new, "--yes"], "--yes is for --upgrade"),
        "no project": (["--upgrade", tmp_path / "full"], "needs a project made by `darkroom init`"),
        "both": (["--upgrade", new, "--recipe", "probe"], "--upgrade takes no option but --yes"),
    }


def test_what_is_refused_leaves_everything_as_it_is(tmp_path: Path) -> None:
    cases = refusals(tmp_path)
    before = file_states(tmp_path)
    for name, (arguments, message) in cases.items():
        result = run(*arguments)
        assert result.exit_code == 2, name
        assert re.search(message, result.output), (name, result.output)
        assert "Traceback" not in result.output
        assert len(result.output.strip().splitlines()) == 1, name
        assert file_states(tmp_path) == before, name


@pytest.mark.parametrize("is_new", [True, False])
def test_an_interrupted_init_leaves_nothing(tmp_path: Path, images: Path, is_new: bool) -> None:
    folder = tmp_path / "mine"
    if not is_new:
        subprocess.run(["git", "init", "--quiet", folder], check=True)

    def interrupt(num_bytes: int) -> None:
        assert (folder / "dvc.yaml").is_file()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(Wish(folder, None, find_images(images, folder), True, "github"), interrupt)
    assert folder.exists() is not is_new
    assert is_new or [path.name for path in folder.iterdir()] == [".git"]


# the code that is recorded


def test_other_code_than_the_recorded_is_refused_by_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert [other_code(stage) for stage in STAGES] == [[]] * 5
    assert installed_remark() == ""
    check_code("train")
    recorded = Path("stages/train.sha256")
    engine = re.search("(.*)  darkroom/training/engine.py\n", recorded.read_text())
    assert engine is not None
    recorded.write_text(recorded.read_text().replace(engine[1], "0" * 64))
    with pytest.raises(UserError, match=r"train\.sha256 \(training/engine\.py\); `darkroom init"):
        check_code("train")
    check_code("prepare")
    assert "differs from that recorded for train" in installed_remark()


def test_in_a_clone_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [other_code(stage) for stage in STAGES] == [[]] * 5


# upgrades


def as_of_an_older_version(project: Path, path: str, old: str) -> None:
    """Lets a file be one that an older version has written."""
    (project / path).write_text(old)
    record = Record.load(project)
    older = Record.of("mine", "0.0.9", {path: old})
    (project / "darkroom.json").write_text(
        Record("mine", "0.0.9", {**record.files, **older.files}).text()
    )


def test_an_upgrade_of_what_is_new_changes_nothing(project: Path) -> None:
    (project / "README.md").write_text("my words")
    before = file_states(project)
    result = run("--upgrade", project)
    assert (result.exit_code, "nothing to change" in result.output) == (0, True)
    assert file_states(project) == before


def test_an_upgrade_is_shown_and_waits_for_consent(project: Path) -> None:
    new = (project / "stages/train.py").read_text()
    as_of_an_older_version(project, "stages/train.py", new + "# old\n")
    before = file_states(project)
    shown = run("--upgrade", project)
    assert shown.exit_code == 1
    assert "--- stages/train.py\n+++ stages/train.py\n" in shown.output
    assert "\n-# old\n" in shown.output
    assert "from darkroom 0.0.9 to " in shown.output
    assert file_states(project) == before
    assert run("--upgrade", project, "--yes").exit_code == 0
    assert (project / "stages/train.py").read_text() == new
    assert "nothing to change" in run("--upgrade", project).output


def test_an_upgrade_keeps_edits_and_writes_the_new_version_beside_them(project: Path) -> None:
    new = (project / "dvc.yaml").read_text()
    as_of_an_older_version(project, "dvc.yaml", new.replace("export:", "publish:"))
    (project / "dvc.yaml").write_text("mine")
    applied = run("--upgrade", project, "--yes")
    assert "dvc.yaml has edits: merge dvc.yaml.new into it" in applied.output
    assert (project / "dvc.yaml").read_text() == "mine"
    assert (project / "dvc.yaml.new").read_text() == new
    (project / "dvc.yaml.new").unlink()
    assert "nothing to change" in run("--upgrade", project).output


def test_an_upgrade_names_the_code_that_changed(project: Path) -> None:
    path = project / "stages/prepare.sha256"
    new = path.read_text()
    path.write_text(re.sub(".*(  darkroom/preparation/splits.py)", rf"{'0' * 64}\1", new))
    shown = run("--upgrade", project)
    assert "stages/prepare.sha256: darkroom's code changed: preparation/splits.py\n" in shown.output
    assert run("--upgrade", project, "--yes").exit_code == 0
    assert path.read_text() == new


def test_an_upgrade_brings_new_params_and_keeps_values(project: Path) -> None:
    path = project / "params.yaml"
    shipped = path.read_text()
    lines = [line for line in shipped.splitlines() if not line.startswith(("  dropout:", "  lr:"))]
    older = "\n".join([*lines, "  old_option: [1, 2]", ""]).replace("epochs: 40", "epochs: 7  # few")
    path.write_text(older)
    shown = run("--upgrade", project, "--yes")
    assert "params.yaml: model.dropout is new: 0.1\n" in shown.output
    assert "params.yaml: export.old_option is no longer a parameter; it was [1, 2]\n" in shown.output
    merged = path.read_text()
    assert "epochs: 7  # few" in merged
    assert "  lr: 0.05                 # auto: the value that `darkroom lr` suggests\n" in merged
    assert merged.replace("epochs: 7  # few", "epochs: 40") == shipped
    assert values_of(project)["train.epochs"] == 7


def test_a_damaged_record_is_one_message(project: Path) -> None:
    for text, message in (
        ("{", "damaged"),
        (json.dumps({"project": "x", "darkroom": "1", "files": {"../x": ""}}), "'../x'"),
    ):
        (project / "darkroom.json").write_text(text)
        result = run("--upgrade", project)
        assert (result.exit_code, message in result.output) == (2, True)
    (project / "darkroom.json").unlink()
    assert "does not exist; --upgrade needs" in run("--upgrade", project).output

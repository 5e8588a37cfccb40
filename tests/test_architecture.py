"""The rules of the house as checks: layers, the pipeline's code deps and params, the README's map."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from darkroom import config
from darkroom.config import Params, StageConfig

ROOT = Path(__file__).parent.parent
STAGES = ("fetch", "prepare", "train", "evaluate", "export")
CONFIGS: dict[str, type[StageConfig]] = {
    "fetch": config.FetchConfig,
    "prepare": config.PrepareConfig,
    "train": config.TrainConfig,
    "evaluate": config.EvaluateConfig,
    "export": config.ExportConfig,
}

OBSERVERS = ("errors", "params", "progress", "runtime", "snapshot", "stage", "tracking")
"""Code that cannot change what a stage writes: it refuses, watches or reports. That outputs have the
same bytes without tracking is tested in test_reproducibility.py; `params` passes values on as they
stand in params.yaml, since sections have no defaults and convert nothing."""


def pipeline() -> dict:
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def entry(stage: str, stages: dict) -> dict:
    return stages[stage]


def imported_by_script(script: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("darkroom."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("darkroom."))


def reached_files(stage: str) -> set[str]:
    """Follows imports from the stage's script, at any depth of the code, without observers."""
    graph = grimp.build_graph("darkroom", cache_dir=None)
    script = ROOT / "stages" / f"{stage}.py"
    todo, reached = list(imported_by_script(script)), set()
    while todo:
        module = todo.pop()
        if module in reached or module.split(".")[1] in OBSERVERS:
            continue
        reached.add(module)
        todo += graph.find_modules_directly_imported_by(module)
    modules = [ROOT / "src" / Path(*module.split(".")).with_suffix(".py") for module in reached]
    templates = [file for module in modules for file in module.parent.glob(f"{module.stem}.*.j2")]
    return {str(path.relative_to(ROOT)) for path in [script, *modules, *templates]}


def differences(stage: str, stages: dict) -> tuple[set[str], set[str]]:
    """Returns the files that the deps lack, and the deps' files that the stage does not reach."""
    deps = [dep for dep in entry(stage, stages)["deps"] if dep.startswith(("src/", "stages/"))]
    listed = {
        str(file.relative_to(ROOT))
        for dep in deps
        for file in ([ROOT / dep] if (ROOT / dep).is_file() else (ROOT / dep).rglob("*.py"))
        if file.name != "__init__.py"
    }
    reached = reached_files(stage)
    return reached - listed, listed - reached


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_code_that_the_stage_reaches(stage: str) -> None:
    missing, needless = differences(stage, pipeline())
    assert not missing, f"dvc.yaml: add to the deps of {stage}: {sorted(missing)}"
    assert not needless, f"dvc.yaml: {stage} does not reach {sorted(needless)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_dep_and_a_needless_dep_are_noticed(stage: str) -> None:
    for dep in [dep for dep in entry(stage, pipeline())["deps"] if dep.startswith(("src/", "stages/"))]:
        stages = pipeline()
        entry(stage, stages)["deps"].remove(dep)
        missing, _ = differences(stage, stages)
        assert missing, f"{stage} without {dep} was not noticed"
    stages = pipeline()
    entry(stage, stages)["deps"].append("src/darkroom/cli.py")
    assert differences(stage, stages)[1] == {"src/darkroom/cli.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_what_the_config_class_reads(stage: str) -> None:
    read = []
    for name, field in CONFIGS[stage].model_fields.items():
        if field.annotation is Params.model_fields[name].annotation:
            read.append(name)
        else:  # a part of the section
            read += [f"{name}.{key}" for key in field.annotation.model_fields]
    assert entry(stage, pipeline()).get("params", []) == read


def test_train_does_not_depend_on_the_test_images() -> None:
    deps = entry("train", pipeline())["deps"]
    assert "data/prepared/train" in deps
    assert not [dep for dep in deps if "test" in dep or dep in ("data/prepared", "${data.path}")]


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("data/splits.py", "darkroom.training.engine"),
        ("models/backbones/cnn.py", "darkroom.dataset.shards"),
        ("training/engine.py", "darkroom.tracking.run"),
        ("config.py", "darkroom.params"),
    ],
)
def test_an_import_upwards_or_sideways_is_refused(tmp_path: Path, importer: str, imported: str) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint_imports(tmp_path).returncode == 0
    with (tmp_path / "src" / "darkroom" / importer).open("a") as file:
        file.write(f"\nimport {imported}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert imported in result.stdout


def test_init_files_are_empty() -> None:
    inits = list((ROOT / "src").rglob("__init__.py"))
    assert inits
    assert not [path for path in inits if path.read_text()]


def tracked_files() -> list[str]:
    result = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        pytest.skip("not a git checkout, so the project's files cannot be listed")
    return result.stdout.splitlines()


def test_readme_names_every_file_of_the_code() -> None:
    readme = (ROOT / "README.md").read_text()
    code = [
        path
        for path in tracked_files()
        if path.startswith(("src/", "stages/", "tools/", "benchmarks/"))
        and not path.endswith("__init__.py")
        and "/results/" not in path
        and (ROOT / path).exists()
    ]
    missing = [path for path in code if f"`{Path(path).name}`" not in readme]
    assert len(code) > 40
    assert not missing


def test_the_page_of_parameters_is_as_the_config_classes_say() -> None:
    namespace: dict = {"__name__": "parameter_table"}
    exec((ROOT / "tools" / "parameter_table.py").read_text(), namespace)
    page = (ROOT / "docs" / "parameters.md").read_text()
    assert namespace["parameter_page"]() == page, "run `make docs`"
    assert "| `train.lr` |" in page

"""The rules of the house as checks: layers, the pipeline's code deps and params, the README's map."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

from darkroom.bounded_yaml import load_yaml
from darkroom.config.evaluate import EvaluateConfig
from darkroom.config.export import ExportConfig
from darkroom.config.fetch import FetchConfig
from darkroom.config.params import Params
from darkroom.config.prepare import PrepareConfig
from darkroom.config.section import StageConfig
from darkroom.config.train import TrainConfig
from darkroom.errors import UserError
from darkroom.params import load_params
from darkroom.targets import WORDS

ROOT = Path(__file__).parent.parent
STAGES = ("fetch", "prepare", "train", "evaluate", "export")
CONFIGS: dict[str, type[StageConfig]] = {
    "fetch": FetchConfig,
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
}

OBSERVERS = ("errors", "params", "pipeline", "progress", "runtime", "telemetry", "tracking")
"""Code that cannot change what a stage writes: it refuses, watches or reports. That outputs have the
same bytes without tracking is tested in test_reproducibility.py; `params` passes values on as they
stand in params.yaml, since sections have no defaults and convert nothing."""


def pipeline() -> dict:
    return load_yaml((ROOT / "dvc.yaml").read_text())["stages"]


def imported_by_script(script: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("darkroom."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("darkroom."))


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("darkroom", cache_dir=None)


@cache
def reached_files(stage: str) -> set[str]:
    """Follows imports from the stage's script, at any depth of the code, without observers."""
    graph = imports()
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


def code_deps(stages: dict, stage: str) -> list[Path]:
    return [ROOT / dep for dep in stages[stage]["deps"] if dep.startswith(("src/", "stages/"))]


def code_files(folder: Path) -> list[Path]:
    """Every file of a room that code may read: modules with content, and templates."""
    files = [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return [file for file in files if file.name != "__init__.py"]


def missing_files(stage: str, stages: dict) -> set[str]:
    """Return the files that the stage reaches and its deps do not hold."""
    deps = code_deps(stages, stage)
    return {
        file
        for file in reached_files(stage)
        if not any((ROOT / file).is_relative_to(dep) for dep in deps)
    }


def needless_deps(stage: str, stages: dict) -> set[str]:
    """Return the deps that the stage does not reach: files, and rooms of which it reaches under half."""
    reached = {ROOT / file for file in reached_files(stage)}
    needless = set()
    for dep in code_deps(stages, stage):
        files = [dep] if dep.is_file() else code_files(dep)
        if 2 * len(reached.intersection(files)) < len(files):
            needless.add(str(dep.relative_to(ROOT)))
    return needless


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_code_that_the_stage_reaches(stage: str) -> None:
    missing, needless = missing_files(stage, pipeline()), needless_deps(stage, pipeline())
    assert not missing, f"dvc.yaml: add to the deps of {stage}: {sorted(missing)}"
    assert not needless, f"dvc.yaml: {stage} reaches little or nothing of {sorted(needless)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_dep_and_a_needless_dep_are_noticed(stage: str) -> None:
    for dep in code_deps(pipeline(), stage):
        stages = pipeline()
        stages[stage]["deps"].remove(str(dep.relative_to(ROOT)))
        assert missing_files(stage, stages), f"{stage} without {dep} was not noticed"
    stages = pipeline()
    stages[stage]["deps"] += ["src/darkroom/cli.py", "src/darkroom/tracking"]
    assert needless_deps(stage, stages) == {"src/darkroom/cli.py", "src/darkroom/tracking"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_only_on_the_sections_that_it_reads(stage: str) -> None:
    """So that an edit of the description of `train.lr` re-runs train and what follows, not prepare."""
    files = {dep.stem for dep in code_deps(pipeline(), stage) if dep.parent.name == "config"}
    sections = {name.removesuffix("_mistakes") for name in files}
    read = {name for name in CONFIGS[stage].model_fields if name not in ("seed", "num_threads")}
    assert sections == ({"section", "fetch"} if stage == "fetch" else {"section", *read})


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_what_the_config_class_reads(stage: str) -> None:
    read = []
    for name, field in CONFIGS[stage].model_fields.items():
        if field.annotation is Params.model_fields[name].annotation:
            read.append(name)
        else:  # a part of the section
            read += [f"{name}.{key}" for key in field.annotation.model_fields]
    assert pipeline()[stage]["params"] == read


def test_train_does_not_depend_on_the_test_images() -> None:
    deps = pipeline()["train"]["deps"]
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


FORBIDDEN_IMPORTS = {
    "preparation/splits.py": "darkroom.training.engine",
    "models/backbones/cnn.py": "darkroom.dataset.shards",
    "training/engine.py": "darkroom.tracking.run",
    "config/params.py": "darkroom.params",
}


def test_imports_upwards_or_sideways_are_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint_imports(tmp_path).returncode == 0
    for importer, imported in FORBIDDEN_IMPORTS.items():
        with (tmp_path / "src" / "darkroom" / importer).open("a") as file:
            file.write(f"\nimport {imported}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    for importer, imported in FORBIDDEN_IMPORTS.items():
        module = importer.removesuffix(".py").replace("/", ".")
        assert re.search(rf"darkroom\.{module} -> {imported} ", result.stdout), importer


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


def test_readme_names_every_folder_of_the_code() -> None:
    readme = (ROOT / "README.md").read_text()
    folders = {path.parent.name for path in (ROOT / "src" / "darkroom").glob("*/__init__.py")}
    assert len(folders) > 10
    assert not [folder for folder in folders if f"  {folder}/ " not in readme]


def test_every_module_begins_with_a_sentence_on_what_it_holds() -> None:
    for path in tracked_files():
        if path.startswith(("src/", "stages/")) and path.endswith(".py") and "__init__" not in path:
            assert re.match('(#.*\n)*\\s*"""\\w', (ROOT / path).read_text()), path


def test_the_page_of_parameters_is_as_the_config_classes_say() -> None:
    namespace: dict = {"__name__": "parameter_table"}
    exec((ROOT / "tools" / "parameter_table.py").read_text(), namespace)
    page = (ROOT / "docs" / "parameters.md").read_text()
    assert namespace["parameter_page"]() == page, "run `make docs`"
    assert "- **`train.lr`**: " in page


MAX_COLUMNS = 120


def markdown_files() -> list[Path]:
    return [ROOT / path for path in tracked_files() if path.endswith(".md") and (ROOT / path).is_file()]


def long_lines(text: str) -> list[str]:
    """Return the lines over 120 columns, except one that holds nothing but a single link or image."""
    is_link = re.compile(r"\s*!?\[[^]]*\]\([^)]*\)[.,]?\s*").fullmatch
    return [line for line in text.splitlines() if len(line) > MAX_COLUMNS and not is_link(line)]


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links that lead to no file, or to no heading of a Markdown file."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path
        if re.fullmatch(r"L\d+", anchor):  # of code, which test_code_links.py checks
            anchor = ""
        if not file.exists() or (anchor and anchor not in anchors(file.read_text() if path else text)):
            broken.append(target)
    return broken


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_line_of_the_documentation_is_over_120_columns() -> None:
    assert len(markdown_files()) > 20
    too_long = {path.name: lines for path in markdown_files() if (lines := long_lines(path.read_text()))}
    assert not too_long
    assert long_lines(f"{'word ' * 30}\n[a link of {'x' * 120}](x)\nshort") == ["word " * 30]


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    broken = {
        path.name: links for path in markdown_files() if (links := broken_links(path, path.read_text()))
    }
    assert not broken
    readme = ROOT / "README.md"
    links = "[a](nowhere.md) [b](https://example.org) [c](#nowhere) [d](docs/) [e](#two-commands)"
    assert broken_links(readme, f"## Two commands\n{links}") == ["nowhere.md", "#nowhere"]


def test_the_message_that_the_readme_quotes_is_true(tmp_path: Path) -> None:
    params = (ROOT / "params.yaml").read_text().replace("optimizer:", "optimiser:")
    (tmp_path / "params.yaml").write_text(params)
    with pytest.raises(UserError) as refusal:
        load_params(tmp_path / "params.yaml")
    message = f"{refusal.value}".removeprefix(f"{tmp_path}/")
    assert f"```\n{message}\n```" in (ROOT / "README.md").read_text()


def test_the_readme_stays_a_first_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_architecture_page_shows_the_layers_and_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][
        0
    ]
    layers = "\n".join(layer.replace(" | ", "   ") for layer in contract["layers"])
    assert f"```\n{layers}\n```" in page, "docs/architecture.md, Layers: repeat those of pyproject.toml"
    rooms = {path.parent.name for path in (ROOT / "src" / "darkroom").glob("*/__init__.py")}
    assert not [room for room in rooms if f"| `{room}/` | " not in page]


def test_every_module_that_the_documentation_names_exists() -> None:
    """Paths of code in backticks; decision records may name what was replaced."""
    roots = [ROOT, ROOT / "src" / "darkroom"]
    num_named = 0
    for page in markdown_files():
        if "decisions" not in page.parts:
            for path in re.findall(r"`([a-z_/]+/[a-z_]+\.(?:py|j2|sh))`", page.read_text()):
                num_named += 1
                assert any((root / path).exists() for root in roots), f"{page.name} names {path}"
    assert num_named > 20


def kind_modules() -> list[Path]:
    """The modules that belong to one kind of target: one per kind in each package ``targets``."""
    folders = [path.parent for path in (ROOT / "src").rglob("targets/interface.py")]
    return [path for folder in folders for path in folder.glob("*.py") if path.stem in WORDS]


def questions_of_kind(tree: ast.AST, classes: set[str]) -> list[int]:
    """Return the lines that ask which kind of target there is.

    These compare something with the name of a kind, read an attribute ``multi_label``, check for a class
    of ``classes``, or for the number of dimensions of labels, targets or predictions.
    """
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=comparators):
                operands = [left, *comparators]
                named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                owners = {
                    getattr(part.value, "attr", getattr(part.value, "id", ""))
                    for part in operands
                    if isinstance(part, ast.Attribute) and part.attr == "ndim"
                }
                if named & set(WORDS) or any(re.search("label|target|pred", name) for name in owners):
                    lines.append(node.lineno)
            case ast.MatchValue(value=ast.Constant(value=value)) if value in WORDS:
                lines.append(node.value.lineno)
            case ast.Attribute(attr="multi_label" | "is_multi_label"):
                lines.append(node.lineno)
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]):
                if classes & {getattr(part, "id", "") for part in ast.walk(kinds)}:
                    lines.append(node.lineno)
    return lines


def test_only_the_modules_of_a_kind_know_which_kind_of_target_there_is() -> None:
    modules = kind_modules()
    assert len(modules) >= len(WORDS) * 8
    classes = {
        node.name
        for module in modules
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    assert "SeveralLabelsEvaluation" in classes
    own = {*modules, ROOT / "src" / "darkroom" / "targets.py"}
    asking = {
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("src", "stages")
        for path in (ROOT / folder).rglob("*.py")
        if path not in own
        for line in questions_of_kind(ast.parse(path.read_text()), classes)
    }
    templates = (ROOT / "src").rglob("*.j2")
    asking |= {path.name for path in templates if "multi_label" in path.read_text()}
    assert not asking, "ask a module of the kind instead: docs/architecture.md, `a target`"


def test_a_question_for_the_kind_of_target_is_noticed() -> None:
    questions = """
        spec.target == "one_class"
        "several_labels" in (a, b)
        spec.multi_label
        isinstance(evaluation, OneClassEvaluation | None)
        labels.ndim == 2
        evaluation.targets.ndim > 1
        WORDS[spec.target].one == "label"
        images.ndim == 4
    """
    code = "\n".join(line.strip() for line in questions.strip().splitlines())
    assert sorted(questions_of_kind(ast.parse(code), {"OneClassEvaluation"})) == [1, 2, 3, 4, 5, 6]


def test_every_kind_of_target_has_a_module_in_each_room_that_differs_by_kind() -> None:
    folders = [path.parent for path in (ROOT / "src").rglob("targets/interface.py")]
    for folder in folders:
        assert set(WORDS) <= {path.stem for path in folder.glob("*.py")}, folder
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert not [f for f in folders if f"`{f.relative_to(ROOT / 'src/darkroom')}/`" not in page]

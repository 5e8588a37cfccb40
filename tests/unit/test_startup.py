"""Which slow packages a command imports, so that it starts at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.cli import main
from darkroom.sweep.example import EXAMPLE

ROOT = Path(__file__).parents[2]

SLOW = frozenset(
    {
        "PIL",
        "boto3",
        "datasets",
        "dvc",
        "git",
        "matplotlib",
        "mlflow",
        "numpy",
        "onnx",
        "onnxruntime",
        "pandas",
        "psutil",
        "pyarrow",
        "pydantic",
        "rich",
        "ruamel",
        "safetensors",
        "scipy",
        "sklearn",
        "sqlalchemy",
        "timm",
        "torch",
        "torchmetrics",
        "torchvision",
    }
)
"""Packages that take from tens of milliseconds to seconds to import."""

RUN = """
import sys
from darkroom.cli import main
for arguments in sys.argv[1:]:
    main(arguments.split(), standalone_mode=False)
print(*(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def imported(*commands: str) -> set[str]:
    """Return the slow packages that a fresh process has after these commands."""
    result = subprocess.run(
        [sys.executable, "-c", RUN, *commands], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return SLOW.intersection(result.stderr.split())


def test_help_imports_nothing_slow() -> None:
    assert len(main.commands) > 10
    assert imported("--help", *(f"{name} --help" for name in main.commands)) == set()


NUMERICAL = frozenset({"numpy", "pandas", "pyarrow", "scipy", "sklearn", "torch"})
"""Packages that choose the instructions of the processor when they are imported."""


@pytest.mark.parametrize("stage", ["fetch", "prepare", "train", "evaluate", "export"])
def test_a_stage_pins_the_instruction_set_before_it_imports_a_numerical_package(stage: str) -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='script'); print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code, f"stages/{stage}.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert NUMERICAL.intersection(result.stdout.split()) == set()


PINNING = """
import sys
from darkroom.compute import determinism

def say(deterministic):
    print(*sys.modules)
    sys.exit()

determinism.configure_libraries = say
from darkroom.cli import main
main(sys.argv[1:], standalone_mode=False)
"""


@pytest.mark.parametrize("command", ["folds", "learning-curve", "lr", "seeds", "suspects", "sweep"])
def test_a_command_that_trains_pins_the_instruction_set_before_it_imports_a_numerical_package(
    command: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "sweep.yaml").write_text(EXAMPLE, encoding="utf-8")
    arguments = {"folds": ["3"], "seeds": ["3"], "sweep": ["sweep.yaml"]}.get(command, [])
    result = subprocess.run(
        [sys.executable, "-c", PINNING, command, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert NUMERICAL.intersection(result.stdout.split()) == set()
    assert "darkroom.compute.determinism" in result.stdout


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("models", {"rich"}),
        ("models *resnet*", {"rich"}),
        ("params --check", {"pydantic", "ruamel"}),
        ("params", {"pydantic", "ruamel", "rich"}),
        ("use", {"pydantic", "ruamel"}),
    ],
)
def test_a_command_imports_only_what_it_needs(command: str, needed: set[str]) -> None:
    assert imported(command) == needed

"""Turns an MLflow model of an ONNX file into one that MLflow can serve: its code and requirements."""

import shutil
from functools import cache
from importlib.metadata import version
from modulefinder import Module, ModuleFinder
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

from mlflow import pyfunc
from mlflow.models import Model
from mlflow.pyfunc.loaders import code_model

from darkroom.models.exported import DESCRIPTION
from darkroom.prediction.pyfunc.options import Options

ENTRY, CODE = "darkroom_model.py", "darkroom.zip"
"""The files of a model that MLflow runs, and that it imports."""

MODULE = "darkroom.prediction.pyfunc.model"
"""The module that ``ENTRY`` imports."""

REQUIREMENTS = (
    "mlflow-skinny",
    "numpy",
    "onnxruntime",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
)
"""The packages that a loaded model imports. ``mlflow-skinny`` is MLflow without its server of runs."""

_PACKAGE = Path(__file__).parent.parent.parent


def requirements() -> list[str]:
    """Return the packages that a loaded model imports, with the versions that are installed."""
    return [f"{name}=={version(name)}" for name in REQUIREMENTS]


def make_pyfunc(folder: Path, description: bytes) -> None:
    """Turn an MLflow model of an ONNX file into one that takes images or rows.

    The ONNX flavor stays as it is.

    Args:
        folder: as ``mlflow.onnx.save_model`` wrote it.
        description: as ``portable_description`` returned it.
    """
    (folder / DESCRIPTION).write_bytes(description)
    shutil.copyfile(Path(__file__).with_name("entry.py"), folder / ENTRY)
    write_code(folder / CODE)
    model = Model.load(str(folder))
    pyfunc.add_to_model(
        model,
        loader_module=code_model.__name__,
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_config=Options().as_config(),
        model_code_path=ENTRY,
        streamable=False,
    )
    model.save(str(folder / "MLmodel"))


def write_code(file: Path) -> None:
    """Write the modules of darkroom that a loaded model may import, as a zip file that Python imports.

    The same code gives the same bytes.
    """
    with ZipFile(file, "w") as archive:
        for path in _modules():
            name = path.relative_to(_PACKAGE.parent).as_posix()
            archive.writestr(ZipInfo(name), path.read_bytes())


@cache
def _modules() -> list[Path]:
    """Return the files of darkroom that ``MODULE`` reaches, at any depth of the code."""
    finder = _Finder([str(_PACKAGE.parent)])
    finder.import_hook(MODULE, None, ["*"])
    return sorted(Path(vars(module)["__file__"]) for module in finder.modules.values())


class _Finder(ModuleFinder):
    """Follows the imports of darkroom alone; beside an installed darkroom lie all other packages."""

    def find_module(self, name: str, path: Any, parent: Module | None = None) -> Any:
        if path is None and name != _PACKAGE.name:
            raise ImportError(name)
        return super().find_module(name, path, parent)

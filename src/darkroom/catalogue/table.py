"""The table of networks that ``darkroom models`` prints: read from a file, since counting takes minutes.

``tools/model_table.py`` writes the file, with the versions of torchvision and timm it counted.
"""

import json
from dataclasses import astuple, dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

FILE = Path(__file__).with_suffix(".json")

OWN_MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 256, "depth": 2},
    "cnn": {"width": 32, "depth": 3},
    "resnet": {"width": 16, "depth": 3},
    "vit": {"width": 128, "depth": 6, "patch_size": 4},
}
"""Sizes for images of 32 x 32 pixels."""

NUM_CLASSES = {"own": 10, "library": 1000, "masks": 21}
"""Number of classes that the counts assume: of CIFAR-10, ImageNet and Pascal VOC, as in the papers."""

FOR_MASKS = ("torchvision:deeplabv3_", "torchvision:fcn_", "torchvision:lraspp_")
"""How the names of a library's networks that predict masks begin."""

LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class ListedModel:
    """What a model costs for RGB images of its usual size (``side`` x ``side``), with a linear head."""

    name: str
    side: int
    num_parameters: int
    num_multiply_adds: int

    @property
    def remark(self) -> str:
        """The values of ``model.width`` and so on of one of darkroom's own models, or ``for masks``."""
        if self.name.startswith(FOR_MASKS):
            return "for masks"
        return ", ".join(f"{key} {value}" for key, value in OWN_MODELS.get(self.name, {}).items())

    @property
    def library(self) -> str:
        """``torchvision``, ``timm``, or an empty string for darkroom's own models."""
        return self.name.rpartition(":")[0]


@dataclass(frozen=True)
class ModelTable:
    """The models of darkroom, torchvision and timm.

    Args:
        versions: of the counted libraries, by name.
    """

    versions: dict[str, str]
    models: list[ListedModel]

    @classmethod
    def load(cls, file: Path = FILE) -> Self:
        content = json.loads(file.read_text(encoding="utf-8"))
        return cls(content["versions"], [ListedModel(*row) for row in content["models"]])

    def write(self, file: Path = FILE) -> None:
        """Write the table, one model per line."""
        rows = ",\n".join(json.dumps(astuple(model)) for model in self.models)
        text = f'{{"versions": {json.dumps(self.versions)},\n"models": [\n{rows}\n]}}\n'
        file.write_text(text, encoding="utf-8")

    def matching(self, pattern: str | None) -> list[ListedModel]:
        """Return the models of the installed libraries whose name matches.

        Args:
            pattern: a glob or a part of the name; None for all models except timm's thousand.
        """
        if pattern is None:
            return [model for model in self.models if model.library != "timm"]
        return [
            model
            for model in self.models
            if matches(model.name, pattern) and (not model.library or is_installed(model.library))
        ]

    def other_versions(self) -> dict[str, str]:
        """Return the installed version of each library of which another version was counted, or none."""
        installed = {name: installed_version(name) for name in LIBRARIES if is_installed(name)}
        return {name: found for name, found in installed.items() if found != self.versions.get(name)}


def matches(name: str, pattern: str) -> bool:
    """Return whether a model's name matches a glob, or contains a text without wildcards."""
    return fnmatchcase(name, pattern) if set(pattern) & set("*?[") else pattern in name


def is_installed(library: str) -> bool:
    return find_spec(library) is not None


def installed_version(library: str) -> str:
    """Return the version of a package, without the part after ``+`` that names its build."""
    return version(library).partition("+")[0]

"""The available models, and what each costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from typing import Any

from darkroom.models.backbones.shapes import ShapesOnly
from darkroom.models.classifier import Classifier
from darkroom.models.factory import library, make_classifier
from darkroom.models.spec import ModelSpec
from darkroom.models.summary import summarize

OWN_MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 256, "depth": 2},
    "cnn": {"width": 32, "depth": 3},
    "resnet": {"width": 16, "depth": 3},
    "vit": {"width": 128, "depth": 6, "patch_size": 4},
}
"""Sizes for images of 32 x 32 pixels."""

OWN_SIDE = 32
NUM_CLASSES = {"own": 10, "library": 1000}
"""Number of classes that the counts assume: those of CIFAR-10 and ImageNet, as in the papers."""


@dataclass(frozen=True)
class ListedModel:
    """What a model costs for RGB images of its usual size, with a linear head."""

    name: str
    sizes: str
    side: int
    num_parameters: int
    num_multiply_adds: int


def matching_names(pattern: str | None) -> list[str]:
    """Return the names of our own models, torchvision's, and timm's if it is installed.

    Args:
        pattern: a glob or a part of the name; None for all models except timm's thousand.
    """
    names = [*OWN_MODELS, *_names_of("torchvision")]
    if pattern is None:
        return names
    if has_timm():
        names += _names_of("timm")
    if set(pattern) & set("*?["):
        return [name for name in names if fnmatch(name, pattern)]
    return [name for name in names if pattern in name]


def has_timm() -> bool:
    return find_spec("timm") is not None


def num_timm() -> int:
    return len(_names_of("timm"))


def list_models(names: list[str]) -> Iterator[ListedModel]:
    """Yield what each model costs, computed from shapes alone, without its weights."""
    for name in names:
        spec = _spec(name)
        summary = summarize(make_without_weights(spec), spec)
        sizes = ", ".join(f"{key} {value}" for key, value in OWN_MODELS.get(name, {}).items())
        side = spec.input_size[0]
        yield ListedModel(name, sizes, side, summary.num_parameters, summary.num_multiply_adds)


def make_without_weights(spec: ModelSpec) -> Classifier:
    """Return the classifier of ``spec`` on the ``meta`` device, which computes only shapes."""
    with ShapesOnly():
        return make_classifier(spec).to("meta")


def _names_of(prefix: str) -> list[str]:
    return [f"{prefix}:{name}" for name in library(f"{prefix}:")[0].list_names()]


def _spec(name: str) -> ModelSpec:
    is_own = name in OWN_MODELS
    num_classes = NUM_CLASSES["own" if is_own else "library"]
    if is_own:
        side = OWN_SIDE
    else:
        module, model_name = library(name)
        side = module.default_side(model_name)
    sizes = {"width": None, "depth": None, "patch_size": None} | OWN_MODELS.get(name, {})
    return blank_spec(
        name=name,
        **sizes,
        dropout=0.0,
        stochastic_depth=0.0,
        head="linear",
        input_size=(side, side),
        channels=3,
        num_classes=num_classes,
    )


def blank_spec(
    *, input_size: tuple[int, int], channels: int, num_classes: int, **model: Any
) -> ModelSpec:
    """Return a spec without data, for counting parameters and operations.

    Args:
        model: the fields of the ``model`` section except weights.
    """
    return ModelSpec(
        **model,
        class_names=tuple(f"{index}" for index in range(num_classes)),
        input_size=input_size,
        channels=channels,
        resize="stretch",
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        training={},
        environment={},
    )

"""Count the parameters and multiply-adds of networks, by building them without weights."""

from collections.abc import Iterator
from typing import Any

from darkroom.catalogue.table import (
    FOR_MASKS,
    LIBRARIES,
    NUM_CLASSES,
    OWN_MODELS,
    ListedModel,
    is_installed,
)
from darkroom.inputs import Encoding
from darkroom.models.backbones.shapes import ShapesOnly
from darkroom.models.classifier import Classifier
from darkroom.models.factory import library, make_classifier
from darkroom.models.spec import ModelSpec
from darkroom.models.summary import summarize

OWN_SIDE = 32

PLAIN: dict[str, Any] = {
    "width": None,
    "depth": None,
    "patch_size": None,
    "dropout": 0.0,
    "stochastic_depth": 0.0,
    "head": "linear",
}
"""The values of options that are not given."""


def installed_names() -> list[str]:
    """Return the names of darkroom's own models, torchvision's, and timm's if it is installed."""
    names = list(OWN_MODELS)
    for prefix in filter(is_installed, LIBRARIES):
        module, _ = library(f"{prefix}:")
        names += [f"{prefix}:{name}" for name in (*module.list_names(), *module.list_mask_names())]
    return names


def count_models(names: list[str]) -> Iterator[ListedModel]:
    """Yield what each model costs, computed from shapes alone, without its weights."""
    for name in names:
        spec = _spec(name)
        summary = summarize(make_without_weights(spec), spec)
        yield ListedModel(name, spec.input_size[0], summary.num_parameters, summary.num_multiply_adds)


def make_without_weights(spec: ModelSpec) -> Classifier:
    """Return the classifier of ``spec`` on the ``meta`` device, which computes only shapes."""
    with ShapesOnly():
        return make_classifier(spec).to("meta")


def _spec(name: str) -> ModelSpec:
    is_own = name in OWN_MODELS
    model: dict[str, Any] = {"name": name, **OWN_MODELS.get(name, {})}
    num_classes = NUM_CLASSES["own" if is_own else "library"]
    if name.startswith(FOR_MASKS):
        model["target"], num_classes = "mask", NUM_CLASSES["masks"]
    if is_own:
        side = OWN_SIDE
    else:
        module, model_name = library(name)
        side = module.default_side(model_name)
    return blank_spec(input_size=(side, side), channels=3, num_classes=num_classes, **model)


def blank_spec(
    *,
    input_size: tuple[int, int],
    channels: int,
    num_classes: int,
    encoding: Encoding | None = None,
    **model: Any,
) -> ModelSpec:
    """Return a spec without data, for counting parameters and operations.

    Args:
        encoding: of the rows of a table.
        model: the fields of the ``model`` section except weights. Only ``name`` is needed: the others
            are null or 0 if they are not given, and the head is linear.
    """
    return ModelSpec(
        **{**PLAIN, **model},
        class_names=tuple(f"{index}" for index in range(num_classes)),
        input_size=input_size,
        channels=channels,
        resize="stretch",
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        training={},
        environment={},
        encoding=encoding,
    )

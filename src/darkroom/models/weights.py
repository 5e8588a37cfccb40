"""What training begins with: random weights, the library's, or those of a file."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from darkroom.digests import file_sha256
from darkroom.errors import UserError, brief
from darkroom.models.backbones.shapes import ShapesOnly
from darkroom.models.classifier import Classifier
from darkroom.models.factory import library, make_classifier
from darkroom.models.own_digest import check_digest
from darkroom.models.spec import METADATA_KEY, ModelSpec, load_spec
from darkroom.paths import WEIGHTS

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MAX_LISTED = 10
BACKBONE, HEAD = "network.backbone.", "network.head."

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of a channel, of pixels scaled to 0..1."""


@dataclass(frozen=True)
class Start:
    """A classifier as its training begins, and where its weights come from.

    ``spec`` has the weights' mean and std, so that the images come to the network as they did when
    the weights were learnt. ``sha256`` is the weights' (empty where they are random), and ``remark``
    what the user should know.
    """

    classifier: Classifier
    spec: ModelSpec
    sha256: str = ""
    remark: str = ""


@dataclass(frozen=True)
class _Weights:
    """Weights by the names of the backbone's and the head's parameters."""

    origin: str
    sha256: str
    backbone: dict[str, Tensor]
    statistics: Statistics
    head: dict[str, Tensor] = field(default_factory=dict)
    remark: str = ""


def start_from(weights: str, spec: ModelSpec) -> Start:
    """Makes the classifier of ``spec`` with the backbone of ``weights`` and a new head.

    The head is the file's, too, where that is a model file of darkroom's for the same classes, which
    exclude each other in both or in neither.

    Args:
        weights: ``random``; ``default``, the library's own; or the path of a file.

    Raises:
        UserError: as ``make_classifier``; or there are no such weights, or they do not fit.
    """
    if weights == "random":
        return Start(make_classifier(spec), spec)
    found = _default(spec) if weights == "default" else _from_file(Path(weights), spec)
    mean, std = found.statistics
    spec = replace(spec, mean=mean, std=std)
    classifier = make_classifier(spec)
    _take_over(classifier.network.backbone, found.backbone, found.origin, spec.name)
    if found.head:
        _take_over(classifier.network.head, found.head, found.origin, spec.name)
    return Start(classifier, spec, found.sha256, found.remark)


def _default(spec: ModelSpec) -> _Weights:
    """Gets the weights that the library recommends."""
    module, name = library(spec.name)
    origin = spec.name
    try:
        if spec.name.startswith("timm:"):
            tensors = module.default_weights(name, spec.input_size)
            sha256 = _digest_of_tensors(tensors)  # timm does not say where the file lies
        else:
            tensors, path = module.default_weights(name)
            sha256 = file_sha256(path)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"model.weights: those of {origin} could not be downloaded ({brief(error)}); download them "
            f"where there is a network, put the file into {WEIGHTS}/ and set model.weights to its path"
        ) from None
    return _Weights(origin, sha256, _library_backbone(spec, tensors), module.weights_statistics(name))


def _from_file(path: Path, spec: ModelSpec) -> _Weights:
    """Reads a file of darkroom's or a library's weights."""
    remark = _check_place(path)
    if path.suffix == ".safetensors" and _describes_itself(path):
        return _from_model_file(path, spec, remark)
    if ":" not in spec.name:
        raise UserError(
            f"model.weights: {path} is no model file of darkroom's, and {spec.name} can begin with "
            "nothing else; take one that train has written, or random"
        )
    module, name = library(spec.name)
    tensors = _library_backbone(spec, _read(path))
    return _Weights(
        f"{path}", file_sha256(path), tensors, module.weights_statistics(name), remark=remark
    )


def _from_model_file(path: Path, spec: ModelSpec, remark: str) -> _Weights:
    written = load_spec(path)
    if written.format_version > 1:  # older files hold no digest, like those of libraries
        check_digest(path, "take another copy of the file, or train it again")
    if written.name != spec.name:
        raise UserError(
            f"model.weights: {path} holds a {written.name}, but model.name is {spec.name}; "
            f"set model.name to {written.name}, or take another file"
        )
    tensors = load_file(path)
    same_head = all(
        getattr(written, name) == getattr(spec, name) for name in ("class_names", "head", "multi_label")
    )
    return _Weights(
        f"{path}",
        file_sha256(path),
        backbone=_below(tensors, BACKBONE),
        statistics=(written.mean, written.std),
        head=_below(tensors, HEAD) if same_head else {},
        remark=remark,
    )


def _library_backbone(spec: ModelSpec, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves out of a library's weights what the backbone does not have: the last layer, mostly."""
    module, name = library(spec.name)
    if spec.name.startswith("torchvision:"):
        tensors = module.fitted(name, tensors, spec.input_size)
    with ShapesOnly():
        backbone = module.make_backbone(name, spec.input_size, spec.head == "concat_pool", 0)
    left_out = module.names_of_whole(name) - set(backbone.state_dict())
    return {key: tensor for key, tensor in tensors.items() if key not in left_out}


def _check_place(path: Path) -> str:
    """Returns a remark on a file that DVC does not see.

    Raises:
        UserError: there is no such file, or it lies where its change would go unnoticed.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"model.weights: {path} is neither random nor default nor a file of weights "
            f"({', '.join(SUFFIXES)})"
        )
    if not path.is_file():
        there_are = ", ".join(str(file) for file in sorted(WEIGHTS.glob("*")) if file.suffix in SUFFIXES)
        raise UserError(
            f"model.weights: there is no file {path}; {WEIGHTS}/ holds {there_are or 'no weights'}"
        )
    place = Path(os.path.abspath(path))  # a link in the folder to DVC's cache counts as in the folder
    if not place.is_relative_to(Path.cwd()):
        return f"{path} lies outside of the project: DVC does not see when it changes"
    if not place.is_relative_to(Path.cwd() / WEIGHTS):
        raise UserError(
            f"model.weights: {path} lies where DVC does not see when it changes; move it to "
            f"{WEIGHTS / path.name}"
        )
    return ""


def _describes_itself(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except SafetensorError as error:
        raise UserError(
            f"model.weights: {path}: damaged or no safetensors file ({brief(error)})"
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """Reads a library's weights from a file, without running code that it may hold."""
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        values: Any = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"model.weights: {path} is damaged, or holds more than weights, such as code, which is not "
            f"run ({reason}); save the model's state_dict() alone"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if (
        not isinstance(values, Mapping)
        or not values
        or not all(isinstance(tensor, Tensor) for tensor in values.values())
    ):
        raise UserError(
            f"model.weights: {path} holds no weights by name; save the model's state_dict() alone"
        )
    return {key.removeprefix("module."): tensor for key, tensor in values.items()}


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


@torch.no_grad()
def _take_over(module: nn.Module, tensors: dict[str, Tensor], origin: str, name: str) -> None:
    """Copies ``tensors`` into the module of the same names.

    Raises:
        UserError: names or shapes differ.
    """
    own = module.state_dict()
    # files from before torch 0.4.1 do not count batches, and nothing here depends on the count
    missing = [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in tensors if key not in own]
    differing = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": differing}
    problems = [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise UserError(
            f"model.weights: the weights of {origin} do not fit {name}: {'; '.join(problems)}"
        )
    for key, tensor in own.items():
        if key in tensors:
            tensor.copy_(tensors[key])


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _digest_of_tensors(tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return total.hexdigest()

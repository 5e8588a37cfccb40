"""The initial weights of a training: random ones, a library's, or those of a file."""

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
from darkroom.models.backbones.own_file import check_repeats
from darkroom.models.backbones.pixels import EncoderDecoder
from darkroom.models.backbones.shapes import ShapesOnly
from darkroom.models.classifier import Classifier
from darkroom.models.factory import activation_of, ends_with_map, library, make_classifier, pooling_of
from darkroom.models.initialisation import initialise
from darkroom.models.own_digest import check_digest
from darkroom.models.spec import METADATA_KEY, ModelSpec, load_spec
from darkroom.own_names import OwnName, is_own_file
from darkroom.paths import WEIGHTS

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MAX_LISTED = 10
BACKBONE, HEAD = "network.backbone.", "network.head."

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, of pixels scaled to 0..1."""


@dataclass(frozen=True)
class Start:
    """A classifier with its initial weights, and their origin.

    ``spec`` has the mean and std that belong to the weights, so that images are normalised as they were
    when the weights were trained. ``sha256`` is the digest of the weights, or empty if they are random.
    ``remark`` says what the user should know, if anything.
    """

    classifier: Classifier
    spec: ModelSpec
    sha256: str = ""
    remark: str = ""


@dataclass(frozen=True)
class _Weights:
    """Weights of a backbone, and maybe of a head, by parameter name."""

    origin: str
    sha256: str
    backbone: dict[str, Tensor]
    statistics: Statistics
    head: dict[str, Tensor] = field(default_factory=dict)
    remark: str = ""


def start_from(weights: str, spec: ModelSpec, init: str | None = None) -> Start:
    """Return the classifier of ``spec`` with the backbone from ``weights`` and a new head.

    The head comes from ``weights``, too, if that is a model file of darkroom with the same classes, the
    same kind of head and the same kind of labels.

    Args:
        weights: ``random``; ``default`` for the library's own; or the path of a file.
        init: how the random weights of an own backbone are drawn; None: in the network's usual way.

    Raises:
        UserError: see ``make_classifier``; or there are no such weights, or they do not fit.
    """
    if is_own_file(spec.name):
        spec = replace(spec, file_sha256=OwnName.parse(spec.name).sha256())
        check_repeats(spec)
    if weights == "random":
        classifier = make_classifier(spec)
        if init is not None:
            initialise(classifier.network.backbone, init, activation_of(spec))
        return Start(classifier, spec)
    found = _default(spec) if weights == "default" else _from_file(Path(weights), spec)
    mean, std = found.statistics
    spec = replace(spec, mean=mean, std=std)
    classifier = make_classifier(spec)
    backbone = classifier.network.backbone
    if isinstance(backbone, EncoderDecoder) and not backbone.is_whole(found.backbone):
        backbone = backbone.encoder  # the decoder stays random
    _copy_into(backbone, found.backbone, found.origin, spec.name)
    if found.head:
        _copy_into(classifier.network.head, found.head, found.origin, spec.name)
    return Start(classifier, spec, found.sha256, found.remark)


def _default(spec: ModelSpec) -> _Weights:
    """Return the weights that the library recommends."""
    module, name = library(spec.name)
    origin = spec.name
    try:
        if spec.name.startswith("timm:"):
            tensors = module.default_weights(name, spec.input_size)
            sha256 = _digest_of_tensors(tensors)  # timm does not say where the file is
        else:
            tensors, path = module.default_weights(name)
            sha256 = file_sha256(path)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"model.weights: the weights of {origin} could not be downloaded ({brief(error)}); download "
            f"them on another machine, put the file into {WEIGHTS}/ and set model.weights to its path"
        ) from None
    return _Weights(origin, sha256, _library_backbone(spec, tensors), module.weights_statistics(name))


def _from_file(path: Path, spec: ModelSpec) -> _Weights:
    """Return the weights in a model file of darkroom or in a file of a library."""
    remark = check_place("model.weights", path)
    if path.suffix == ".safetensors" and _describes_itself(path):
        return _from_model_file(path, spec, remark)
    if is_own_file(spec.name):  # nothing says which images the weights were trained on
        return _Weights(f"{path}", file_sha256(path), _read(path), (spec.mean, spec.std), remark=remark)
    if ":" not in spec.name:
        raise UserError(
            f"model.weights: {path} is not a model file of darkroom, which {spec.name} requires; use a "
            "file that train has written, or random"
        )
    module, name = library(spec.name)
    tensors = _library_backbone(spec, _read(path))
    return _Weights(
        f"{path}", file_sha256(path), tensors, module.weights_statistics(name), remark=remark
    )


def _from_model_file(path: Path, spec: ModelSpec, remark: str) -> _Weights:
    written = load_spec(path)
    if written.format_version > 1:  # older files hold no digest, like those of libraries
        check_digest(path, "use another copy of the file, or train it again")
    if written.name != spec.name:
        raise UserError(
            f"model.weights: {path} holds a {written.name}, but model.name is {spec.name}; "
            f"set model.name to {written.name}, or use another file"
        )
    for option, of in (("activation", activation_of), ("pooling", pooling_of)):
        if ":" not in spec.name and of(written) != of(spec):  # which names and shapes do not show
            raise UserError(
                f"model.weights: {path} was trained with model.{option} {of(written)}, but it is"
                f" {of(spec)} now; set it to {of(written)}, or use another file"
            )
    if written.file_sha256 != spec.file_sha256:  # which names and shapes do not show, either
        other = f"{path} was trained with another version of {OwnName.parse(spec.name).path}"
        remark = "; ".join(filter(None, (remark, other)))
    tensors = load_file(path)
    same_head = all(
        getattr(written, name) == getattr(spec, name) for name in ("class_names", "head", "target")
    )
    return _Weights(
        f"{path}",
        file_sha256(path),
        backbone=_without_prefix(tensors, BACKBONE),
        statistics=(written.mean, written.std),
        head=_without_prefix(tensors, HEAD) if same_head else {},
        remark=remark,
    )


def _library_backbone(spec: ModelSpec, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a library's weights without those that the backbone lacks, usually the last layer."""
    module, name = library(spec.name)
    if spec.name.startswith("torchvision:"):
        tensors = module.fitted(name, tensors, spec.input_size)
    with ShapesOnly():
        backbone = module.make_backbone(name, spec.input_size, ends_with_map(spec), 0)
    unused = module.names_of_whole(name) - set(backbone.state_dict())
    return {key: tensor for key, tensor in tensors.items() if key not in unused}


def check_place(parameter: str, path: Path) -> str:
    """Return a remark if DVC does not track the file that a parameter names.

    Raises:
        UserError: there is no such file, or it is in the project but not tracked by DVC.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{parameter}: {path} is neither random, nor default, nor a file of weights "
            f"({', '.join(SUFFIXES)})"
        )
    if not path.is_file():
        there_are = ", ".join(str(file) for file in sorted(WEIGHTS.glob("*")) if file.suffix in SUFFIXES)
        raise UserError(
            f"{parameter}: there is no file {path}; {WEIGHTS}/ holds {there_are or 'no weights'}"
        )
    place = Path(os.path.abspath(path))  # links into DVC's cache count as files of the folder
    if not place.is_relative_to(Path.cwd()):
        return f"{path} is outside of the project, so DVC does not notice changes"
    if not place.is_relative_to(Path.cwd() / WEIGHTS):
        raise UserError(
            f"{parameter}: DVC would not notice changes of {path}; move it to {WEIGHTS / path.name}"
        )
    return ""


def _describes_itself(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except SafetensorError as error:
        raise UserError(
            f"model.weights: {path}: damaged, or not a safetensors file ({brief(error)})"
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """Load a library's weights from a file, without running code that it may contain."""
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        values: Any = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"model.weights: {path} is damaged, or contains more than weights, such as code, which is "
            f"not run ({reason}); save only the model's state_dict()"
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
            f"model.weights: {path} contains no weights by name; save only the model's state_dict()"
        )
    return {key.removeprefix("module."): tensor for key, tensor in values.items()}


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


@torch.no_grad()
def _copy_into(module: nn.Module, tensors: dict[str, Tensor], origin: str, name: str) -> None:
    """Copy ``tensors`` into the parameters and buffers of a module, by name.

    Raises:
        UserError: names or shapes differ.
    """
    own = module.state_dict()
    # files of torch before 0.4.1 have no count of batches, and the count is not used here
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

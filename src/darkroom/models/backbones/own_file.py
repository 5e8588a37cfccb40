"""Backbones from a Python file of the user: ``model.name: file:own/train/tiny.py:Tiny``.

What is named is called with the arguments that it takes, by name. It returns a ``torch.nn.Module`` from
float images ``(n, channels, height, width)`` to float32 features: a map ``(n, C, h, w)`` or a vector
``(n, C)``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.models.spec import ModelSpec
from darkroom.own_files import OwnObject, load
from darkroom.own_names import BACKBONE_ARGUMENTS, BACKBONE_OPTIONS, mistakes_of_backbone

OPTION = "model.name"

NUM_IMAGES = 3
"""Number of images that a backbone is tried with; no usual number of features."""

TOLERANCE = 1e-3
"""Maximum difference, relative to the largest feature, between an image alone and in a batch."""


def make_backbone(spec: ModelSpec) -> nn.Module:
    """Return a backbone with random weights, drawn from torch's global generator.

    Raises:
        UserError: the file cannot be used, is not the one that the model was trained with, or what it
            makes is no backbone for such images.
    """
    own = load_own(spec)
    backbone = _made(own, spec)
    images = torch.zeros(NUM_IMAGES, spec.channels, *spec.input_size)
    _features(own, backbone.to(images.device).eval(), images)  # on meta within ShapesOnly
    return backbone.train()


def load_own(spec: ModelSpec) -> OwnObject:
    """Return the class or function that makes the backbone.

    Raises:
        UserError: see ``make_backbone``.
    """
    with torch.random.fork_rng(devices=[]):
        own = load(OPTION, spec.name)
    if spec.file_sha256 not in (None, own.sha256):
        raise UserError(
            f"{own.name.path} is not the file that the model was trained with (its SHA-256 begins"
            f" with {own.sha256[:8]}, not {spec.file_sha256[:8]}); restore that file, for example with"
            " git, or run `dvc repro train`"
        )
    return own


@torch.no_grad()
def check_repeats(spec: ModelSpec) -> None:
    """Check that the backbone is the same again, and treats each image by itself.

    Nothing is drawn from torch's global generator.

    Raises:
        UserError: its weights or its features are not determined by the seed and the image.
    """
    own, where = load_own(spec), f"{OPTION}: {spec.name}"
    with torch.random.fork_rng(devices=[]):
        first, second = (_seeded(own, spec) for _ in range(2))
        images = torch.rand(NUM_IMAGES, spec.channels, *spec.input_size)
        features = _features(own, first, images)
        if not _same(features, _features(own, first, images)):
            raise UserError(
                f"{where} returns other features for the same images in evaluation mode; nothing may be"
                " random there, or change from call to call"
            )
        weights, again = first.state_dict(), second.state_dict()
        if weights.keys() != again.keys() or not all(_same(weights[key], again[key]) for key in weights):
            raise UserError(
                f"{where} has other weights when it is made again with the same seed; draw them with"
                " torch, which darkroom seeds"
            )
        alone = torch.cat([_features(own, first, images[i : i + 1]) for i in range(NUM_IMAGES)])
        if (alone - features).abs().max() > TOLERANCE * features.abs().max():
            raise UserError(
                f"{where} returns other features for an image when other images are in the batch, in"
                " evaluation mode; each image must be treated by itself"
            )


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, 0, 0, equal_nan=True)


def _seeded(own: OwnObject, spec: ModelSpec) -> nn.Module:
    torch.manual_seed(0)
    backbone = _made(own, spec).eval()
    # lazy layers draw their weights now
    _features(own, backbone, torch.zeros(NUM_IMAGES, spec.channels, *spec.input_size))
    return backbone


def _made(own: OwnObject, spec: ModelSpec) -> nn.Module:
    """Return what the user's class or function makes."""
    arguments = own.arguments()
    values = {name: getattr(spec, name) for name in (*BACKBONE_ARGUMENTS, *BACKBONE_OPTIONS)}
    for name, problem in mistakes_of_backbone(own.name, arguments, values):
        raise UserError(f"{name}: {problem}")
    taken = {name: values[name] for name in values if name in arguments.taken}
    try:
        made = own.value(**{name: value for name, value in taken.items() if value is not None})
    except Exception as error:
        raise UserError(f"{OPTION}: {own.place(error)}") from None
    if not isinstance(made, nn.Module):
        raise UserError(
            f"{OPTION}: {own.name} makes a {type(made).__name__}; it must make a torch.nn.Module"
        )
    return made


@torch.no_grad()
def _features(own: OwnObject, backbone: nn.Module, images: Tensor) -> Tensor:
    """Return the features of images, checked."""
    shape = tuple(images.shape)
    try:
        features: Any = backbone(images)
    except Exception as error:
        raise UserError(f"{OPTION}: {own.place(error)}, for float images of shape {shape}") from None
    wanted = f"it must return float32 features, (n, C, h, w) or (n, C), here with n = {len(images)}"
    if not isinstance(features, Tensor):
        raise UserError(f"{OPTION}: {own.name} returns a {type(features).__name__}; {wanted}")
    if (
        features.dtype != torch.float32
        or features.ndim not in (2, 4)
        or len(features) != len(images)
        or not features.numel()
    ):
        returned = f"{str(features.dtype).removeprefix('torch.')} {tuple(features.shape)}"
        raise UserError(f"{OPTION}: {own.name} returns {returned} for images of shape {shape}; {wanted}")
    return features

"""Classifiers from their specs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType

import torch
from torch import nn

from darkroom.errors import UserError, brief
from darkroom.models.backbones import own_file
from darkroom.models.backbones.activations import USUAL_ACTIVATION, USUAL_POOLING
from darkroom.models.backbones.cnn import CNN
from darkroom.models.backbones.linear import use_onednn
from darkroom.models.backbones.mlp import MLP
from darkroom.models.backbones.resnet import ResNet
from darkroom.models.backbones.shapes import ShapesOnly, require_multiples, require_size
from darkroom.models.backbones.unet import UNet
from darkroom.models.backbones.vit import ViT
from darkroom.models.classifier import Classifier
from darkroom.models.heads import no_map
from darkroom.models.network import Network
from darkroom.models.rows import row_input
from darkroom.models.spec import ModelSpec
from darkroom.models.targets.interface import model_target
from darkroom.models.unfamiliarity import Unfamiliarity
from darkroom.own_names import is_own_file


def make_classifier(spec: ModelSpec) -> Classifier:
    """Return a classifier with random weights, drawn from torch's global generator.

    Raises:
        UserError: there is no such model, or it does not support the spec's image size or head.
    """
    network = make_network(spec)
    classifier = Classifier(network, spec.mean, spec.std)
    if spec.unfamiliarity is not None:
        sizes = (int(spec.unfamiliarity[name]) for name in ("components", "centres"))
        classifier.unfamiliarity = Unfamiliarity(network.head.num_inputs, *sizes)
    return classifier


def make_network(spec: ModelSpec) -> Network:
    """Return the network for a spec; the weights of the backbone are drawn first."""
    if spec.encoding is not None and spec.name != "mlp":
        raise UserError(f"model.name: {spec.name} takes images; for rows of a table, choose mlp")
    target = model_target(spec.target)
    backbone = _backbone(spec)
    try:
        backbone = target.adapted(backbone, spec)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _unfit(spec, error) from None
    use_onednn(backbone)
    head = target.head(spec, _feature_shape(backbone, spec))
    return Network(backbone, head, repeats_grey=spec.expects_rgb and spec.channels == 1)


@torch.no_grad()
def check_stages(
    classifier: Classifier, spec: ModelSpec, sizes: Sequence[tuple[int, tuple[int, int]]]
) -> None:
    """Check that a classifier for the last size can be trained on all others, too.

    Args:
        sizes: (first epoch, (height, width)).

    Raises:
        UserError: a size is too small for the network, or its weights hold for one size only.
    """
    for epoch, size in sizes[:-1]:
        of_size = replace(spec, input_size=size)
        try:
            with ShapesOnly():
                fresh = make_classifier(of_size)
        except UserError as error:
            raise UserError(f"train.image_size: from epoch {epoch}: {error}") from None
        shapes = {name: tensor.shape for name, tensor in fresh.state_dict().items()}
        try:
            same = shapes == {name: tensor.shape for name, tensor in classifier.state_dict().items()}
            # some networks have the same weights for all sizes, but accept one
            classifier.eval()(torch.zeros(1, spec.channels, *size)) if same else None
        except (RuntimeError, ValueError, AssertionError):
            same = False
        classifier.train()
        if not same:
            raise UserError(
                f"train.image_size: {spec.name} is built for one size, {_pixels(spec)}, and cannot be"
                f" trained on images of {_pixels(of_size)} from epoch {epoch}; set one size, or choose"
                " another model.name"
            )


def library(name: str) -> tuple[ModuleType, str]:
    """Return our module for a library's models, and the model's name in that library."""
    # imported here because each import takes seconds
    prefix, _, model_name = name.partition(":")
    if prefix == "torchvision":
        from darkroom.models.backbones import torchvision

        return torchvision, model_name
    if prefix == "smp":
        from darkroom.models.backbones import smp

        return smp, model_name
    from darkroom.models.backbones import timm

    return timm, model_name


def ends_with_map(spec: ModelSpec) -> bool:
    """Return whether a library's backbone stops before its pooling."""
    return spec.head == "concat_pool" or model_target(spec.target).needs_map


def _make_mlp(spec: ModelSpec) -> nn.Module:
    height, width = spec.input_size
    num_inputs, depth = spec.channels * height * width, _whole(spec.depth)
    first = [] if spec.encoding is None else [row_input(spec.encoding, one_hot=depth == 0)]
    num_inputs = first[0].num_outputs if first else num_inputs
    mlp = MLP(num_inputs, _whole(spec.width), depth, spec.dropout, activation_of(spec))
    return nn.Sequential(*first, mlp) if first else mlp


def _make_cnn(spec: ModelSpec) -> nn.Module:
    depth, pooling = _whole(spec.depth), pooling_of(spec)
    require_size(spec.name, spec.input_size, CNN.windows(depth, pooling))
    return CNN(spec.channels, _whole(spec.width), depth, activation_of(spec), pooling)


def _make_resnet(spec: ModelSpec) -> nn.Module:
    return ResNet(
        spec.channels,
        _whole(spec.width),
        _whole(spec.depth),
        spec.stochastic_depth,
        activation_of(spec),
        pooling_of(spec),
    )


def _make_unet(spec: ModelSpec) -> nn.Module:
    depth, pooling = _whole(spec.depth), pooling_of(spec)
    require_multiples(spec.name, spec.input_size, UNet.halvings(depth, pooling))
    return UNet(spec.channels, _whole(spec.width), depth, activation_of(spec), pooling)


def _make_vit(spec: ModelSpec) -> nn.Module:
    return ViT(
        spec.channels,
        spec.input_size,
        _whole(spec.patch_size),
        _whole(spec.width),
        _whole(spec.depth),
        spec.dropout,
        spec.stochastic_depth,
        activation_of(spec),
    )


def activation_of(spec: ModelSpec) -> str:
    """Return the name of the activation in one of darkroom's own networks."""
    return spec.activation or USUAL_ACTIVATION[spec.name]


def pooling_of(spec: ModelSpec) -> str:
    """Return how one of darkroom's own networks halves maps; empty if it has no maps."""
    return spec.pooling or USUAL_POOLING.get(spec.name, "")


OWN_BACKBONES: dict[str, Callable[[ModelSpec], nn.Module]] = {
    "mlp": _make_mlp,
    "cnn": _make_cnn,
    "resnet": _make_resnet,
    "unet": _make_unet,
    "vit": _make_vit,
}


def _whole(value: int | None) -> int:
    assert value is not None  # config.Model checks this
    return value


def _backbone(spec: ModelSpec) -> nn.Module:
    if is_own_file(spec.name):
        return own_file.make_backbone(spec)
    return _library_backbone(spec) if spec.expects_rgb else OWN_BACKBONES[spec.name](spec)


def _library_backbone(spec: ModelSpec) -> nn.Module:
    module, name = library(spec.name)
    try:
        return module.make_backbone(name, spec.input_size, ends_with_map(spec), spec.stochastic_depth)
    except (ValueError, AssertionError) as error:
        raise _unfit(spec, error) from None


@torch.no_grad()
def _feature_shape(backbone: nn.Module, spec: ModelSpec) -> torch.Size:
    """Run the backbone on a blank image, so that an unsuitable size is rejected before any work.

    Returns:
        ``(C, h, w)`` if the features are a map, ``(C,)`` if they are a vector.
    """
    channels = 3 if spec.expects_rgb else spec.channels
    backbone.eval()
    try:
        image = torch.zeros(1, channels, *spec.input_size)
        shape = backbone.to(image.device)(image).shape[1:]  # on meta within ShapesOnly
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _unfit(spec, error, _minimum_side(backbone, spec, channels)) from None
    backbone.train()
    if len(shape) not in (1, 3) or (len(shape) == 3 and _puts_channels_last(backbone, shape)):
        raise no_map(spec.name)
    return shape


def _puts_channels_last(backbone: nn.Module, shape: torch.Size) -> bool:
    """Return whether this is one of timm's networks with maps ``(n, h, w, C)``."""
    num_features = getattr(backbone, "num_features", shape[0])
    return shape[2] == num_features != shape[0]


def _minimum_side(backbone: nn.Module, spec: ModelSpec, channels: int) -> int | None:
    """Return the minimum side of a square image for the backbone, or None if there is none."""
    backbone.to("meta")  # computes only shapes, at no cost
    for side in range(min(spec.input_size) + 1, 257):
        try:
            backbone(torch.zeros(1, channels, side, side, device="meta"))
        except (RuntimeError, ValueError, AssertionError):
            continue
        return side
    return None


def _unfit(spec: ModelSpec, error: Exception, least: int | None = None) -> UserError:
    at_least = f"; it needs at least {least} x {least}" if least else ""
    return UserError(
        f"model.name: {spec.name} does not support images of {_pixels(spec)} pixels{at_least} "
        f"({brief(error)}); change {'train' if spec.evaluate_crop else 'prepare'}.image_size"
    )


def _pixels(spec: ModelSpec) -> str:
    height, width = spec.input_size
    return f"{height} x {width}"

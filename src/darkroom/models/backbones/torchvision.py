"""torchvision's models without their last layer."""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings
from torchvision.ops import StochasticDepth

from darkroom.errors import UserError, did_you_mean
from darkroom.models.backbones import torchvision_masks
from darkroom.models.backbones.layers import AveragePool, rising
from darkroom.models.backbones.shapes import ShapesOnly
from darkroom.models.heads import no_map

# Auxiliary heads, which return tuples in training, are disabled.
_WITHOUT_AUXILIARY: dict[str, Any] = {"aux_logits": False, "init_weights": True}
_OPTIONS = {"inception_v3": _WITHOUT_AUXILIARY, "googlenet": _WITHOUT_AUXILIARY}

_LAST_OF_THE_MAP: dict[type[nn.Module], str] = {
    models.AlexNet: "features",
    models.ConvNeXt: "features",
    models.DenseNet: "features",
    models.EfficientNet: "features",
    models.GoogLeNet: "inception5b",
    models.Inception3: "Mixed_7c",
    models.MaxVit: "blocks",
    models.MNASNet: "layers",
    models.MobileNetV2: "features",
    models.MobileNetV3: "features",
    models.RegNet: "trunk_output",
    models.ResNet: "layer4",
    models.ShuffleNetV2: "conv5",
    models.SqueezeNet: "features",
    models.SwinTransformer: "permute",
    models.VGG: "features",
}
"""The child that computes the last map, which pooling and classifier follow."""

_OLD_NAMES = [
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1"), r"\1.0"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2"), r"\1.3"),
]
"""Names in the files of densenet and vit that differ from those of the models."""


def list_names() -> list[str]:
    """Return the names of all classification models."""
    return models.list_models(module=models)


def list_mask_names() -> list[str]:
    """Return the names of all networks for masks."""
    return torchvision_masks.list_names()


def make_backbone(
    name: str, input_size: tuple[int, int], makes_map: bool, stochastic_depth: float
) -> nn.Module:
    """Return ``torchvision.models.NAME`` without its last layer, with random weights.

    The parameters have torchvision's names. Dropout directly before the last layer is removed, too,
    because the head has its own.

    Args:
        makes_map: stop before the pooling, so that the features are a map.

    Raises:
        UserError: torchvision has no model of that name, or the model does not support such images,
            maps, or stochastic depth.
    """
    names = [*list_names(), *torchvision_masks.list_names()]
    if name not in names:
        near = did_you_mean(name, names) or "."
        raise UserError(
            f"model.name: torchvision has no model {name} of images{near} The models are:"
            f" {', '.join(names)}"
        )
    if name in torchvision_masks.list_names():
        return torchvision_masks.make_backbone(name)
    options = _OPTIONS.get(name, {}) | _size_options(name, input_size)
    network = models.get_model(name, weights=None, **options)
    _set_stochastic_depth(network, name, stochastic_depth)
    if makes_map:
        return _until_the_map(network, name)
    if isinstance(network, models.MNASNet):
        network.__class__ = _MNASNet
    _remove_last_layer(network)
    for parent in network.modules():
        for child_name, child in parent.named_children():
            size: Any = getattr(child, "output_size", None)
            if isinstance(child, nn.AdaptiveAvgPool2d) and size not in (1, (1, 1)):
                setattr(parent, child_name, AveragePool(size))
    return network


class _MNASNet(models.MNASNet):
    """MNASNet that also loads weights without the version number of the class.

    torchvision's method rejects them, and neither safetensors nor a copied state dict has that number.
    torch has no public way to override how a module loads its own state.
    """

    _load_from_state_dict = nn.Module._load_from_state_dict


def names_of_whole(name: str) -> set[str]:
    """Return the names in the state dict of ``torchvision.models.NAME``, with its last layer."""
    with ShapesOnly():
        if name in torchvision_masks.list_names():
            return set(torchvision_masks.make_whole(name, with_auxiliary=True).state_dict())
        return set(models.get_model(name, weights=None).state_dict())


def default_weights(name: str) -> tuple[dict[str, Tensor], Path]:
    """Return the weights that torchvision recommends, downloaded once, and their file.

    Raises:
        OSError, RuntimeError: there is no network, or the file is damaged.
    """
    weights = models.get_model_weights(name).DEFAULT
    tensors = weights.get_state_dict(progress=True, check_hash=True)
    return tensors, Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def fitted(name: str, tensors: dict[str, Tensor], input_size: tuple[int, int]) -> dict[str, Tensor]:
    """Return weights with the models' current names.

    The positions of a vision transformer are interpolated to the image size.
    """
    fitted: OrderedDict[str, Tensor] = OrderedDict()
    for key, tensor in tensors.items():
        for old, new in _OLD_NAMES:
            key = old.sub(new, key)
        fitted[key] = tensor
    if name.startswith("vit_") and "encoder.pos_embedding" in fitted:
        return interpolate_embeddings(input_size[0], _patch_size(name), fitted)
    return fitted


def weights_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the images that torchvision's weights were trained on."""
    if name in ("googlenet", "inception_v3"):
        # with weights, torchvision's models convert ImageNet's statistics into these themselves
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    return tuple(transforms.mean), tuple(transforms.std)


def default_side(name: str) -> int:
    """Return the side, in pixels, of the images with which torchvision evaluates its weights.

    For masks it is a multiple of 32, as networks need it, and not torchvision's 520.
    """
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    if name in torchvision_masks.list_names():
        return transforms.resize_size[0] // 32 * 32
    return transforms.crop_size[0]


def _size_options(name: str, input_size: tuple[int, int]) -> dict[str, Any]:
    """Return the size arguments of models that are built for one image size."""
    if name.startswith("maxvit_"):
        return {"input_size": input_size}
    if not name.startswith("vit_"):
        return {}
    height, width = input_size
    patch = _patch_size(name)
    if height != width or height % patch:
        raise UserError(
            f"model.name: torchvision:{name} needs square images whose side is a multiple of {patch} "
            f"pixels, but they have {height} x {width}; change prepare.image_size or "
            "train.image_size"
        )
    return {"image_size": height}


def _patch_size(name: str) -> int:
    return int(name.rpartition("_")[2])


def _set_stochastic_depth(network: nn.Module, name: str, probability: float) -> None:
    """Set the probabilities of all layers; some of the library's defaults are not 0."""
    layers = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    if probability > 0 and not layers:
        raise UserError(
            f"model.stochastic_depth: {probability:g} is not possible, because "
            f"torchvision:{name} does not offer it; it must be 0"
        )
    for layer, p in zip(layers, rising(probability, len(layers)), strict=True):
        layer.p = p


def _remove_last_layer(network: nn.Module) -> None:
    kinds = nn.Conv2d if isinstance(network, models.SqueezeNet) else nn.Linear
    leaves = [(path, m) for path, m in network.named_modules() if not list(m.children())]
    last = max(index for index, (_, module) in enumerate(leaves) if isinstance(module, kinds))
    network.set_submodule(leaves[last][0], nn.Identity())
    if isinstance(leaves[last - 1][1], nn.Dropout):
        network.set_submodule(leaves[last - 1][0], nn.Identity())


def _until_the_map(network: nn.Module, name: str) -> nn.Module:
    last = _LAST_OF_THE_MAP.get(type(network))
    if last is None:
        raise no_map(f"torchvision:{name}")
    children: OrderedDict[str, nn.Module] = OrderedDict()
    for child_name, child in network.named_children():
        children[child_name] = nn.Sequential(*child) if isinstance(child, nn.ModuleList) else child
        if child_name == last:
            break
    if isinstance(network, models.DenseNet):
        children["relu"] = nn.ReLU()  # its forward calls the function instead
    return nn.Sequential(children)

"""Backbone and head, the two parts of every network."""

from collections.abc import Iterator

from torch import Tensor, nn

from darkroom.models.heads import Head


class Network(nn.Module):
    """A backbone, which computes features of images, and a head, which computes their logits.

    Args:
        backbone: float ``(n, channels, height, width)`` -> a map of features ``(n, C, h, w)`` or a
            vector ``(n, C)``.
        head: features -> logits ``(n, num_classes)``.
        repeats_grey: repeat the channel of grey images three times, for a backbone that expects RGB.
    """

    def __init__(self, backbone: nn.Module, head: Head, repeats_grey: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.repeats_grey = repeats_grey

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> logits ``(n, num_classes)``."""
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> the input of the head."""
        if self.repeats_grey:
            x = x.expand(-1, 3, -1, -1)  # three channels stay as they are
        return self.backbone(x)


def backbone_layers(network: Network) -> list[list[str]]:
    """Group the backbone's parameters into layers, for learning rates that depend on the depth.

    A layer is a child of the backbone, or, if the child is a sequence, each of its members. Parameters
    without a matrix (a norm, a class token, positions) belong to the layer before them.

    Returns:
        Names as in ``network.named_parameters()``; the layer closest to the input comes first.
    """
    layers: list[list[str]] = [[]]
    for names, begins in _parts(network.backbone, "backbone."):
        if begins and layers[-1] and any(_is_matrix(network, name) for name in layers[-1]):
            layers.append([])
        layers[-1] += names
    return [layer for layer in layers if layer]


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[list[str], bool]]:
    """Yield names of parameters, and whether a layer begins with them."""
    yield [prefix + name for name, _ in module.named_parameters(recurse=False)], False
    for child_name, child in module.named_children():
        is_stage = any(_is_sequence_of_blocks(part) for part in (child, *child.children()))
        if is_stage or _is_sequence(child):
            yield from _parts(child, f"{prefix}{child_name}.")
        else:
            parameters = dict(child.named_parameters(f"{prefix}{child_name}"))
            yield list(parameters), any(tensor.ndim > 1 for tensor in parameters.values())


def _is_sequence(module: nn.Module) -> bool:
    # subclasses are blocks, such as torchvision's convolution with its norm
    return type(module) in (nn.Sequential, nn.ModuleList)


def _is_sequence_of_blocks(module: nn.Module) -> bool:
    """Return whether the members are blocks, such as a transformer's, and not parts of a block."""
    members = list(module.children())
    return (
        isinstance(module, nn.Sequential | nn.ModuleList)
        and len(members) > 1
        and len({type(member) for member in members}) == 1
        and not isinstance(members[0], nn.Sequential)
        # a sequence of convolutions with their norms is a branch within a block
        and any(list(part.children()) for part in members[0].children())
    )


def _is_matrix(network: Network, name: str) -> bool:
    path, _, last = name.rpartition(".")
    owner = network.get_submodule(path)
    # tokens and positions belong to a module that contains other modules
    return getattr(owner, last).ndim > 1 and not any(True for _ in owner.children())

"""Backbone and head: the two parts of every network, by which training tells them apart."""

from collections.abc import Iterator

from torch import Tensor, nn


class Network(nn.Module):
    """A backbone, which makes features of images, and a head, which makes logits of features.

    Args:
        backbone: float ``(n, channels, height, width)`` -> a map of features ``(n, C, h, w)`` or a
            vector ``(n, C)``.
        head: features -> logits ``(n, num_classes)``.
        repeats_grey: repeat the one channel of grey images three times, for a backbone made for RGB.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, repeats_grey: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.repeats_grey = repeats_grey

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> logits ``(n, num_classes)``."""
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> the features that the head takes."""
        if self.repeats_grey:
            x = x.expand(-1, 3, -1, -1)  # leaves three channels as they are
        return self.backbone(x)


def backbone_layers(network: Network) -> list[list[str]]:
    """Groups the backbone's parameters into layers, for rates that fall with the distance to the head.

    A layer is a child of the backbone, or, where that is a sequence, each of its members. What has no
    matrix (a norm, a class token, positions) belongs to the layer before it.

    Returns:
        Names as in ``network.named_parameters()``, in order of depth: those nearest the input first.
    """
    layers: list[list[str]] = [[]]
    for names, begins in _parts(network.backbone, "backbone."):
        if begins and layers[-1] and any(_is_matrix(network, name) for name in layers[-1]):
            layers.append([])
        layers[-1] += names
    return [layer for layer in layers if layer]


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[list[str], bool]]:
    """Yields names of parameters, and whether a layer begins with them."""
    yield [prefix + name for name, _ in module.named_parameters(recurse=False)], False
    for child_name, child in module.named_children():
        is_stage = any(_is_row_of_blocks(part) for part in (child, *child.children()))
        if is_stage or _is_sequence(child):
            yield from _parts(child, f"{prefix}{child_name}.")
        else:
            parameters = dict(child.named_parameters(f"{prefix}{child_name}"))
            yield list(parameters), any(tensor.ndim > 1 for tensor in parameters.values())


def _is_sequence(module: nn.Module) -> bool:
    # subclasses of these are blocks, such as torchvision's convolution with its norm
    return type(module) in (nn.Sequential, nn.ModuleList)


def _is_row_of_blocks(module: nn.Module) -> bool:
    """Whether its members are blocks, as those of a transformer's encoder, and not parts of one."""
    members = list(module.children())
    return (
        isinstance(module, nn.Sequential | nn.ModuleList)
        and len(members) > 1
        and len({type(member) for member in members}) == 1
        and not isinstance(members[0], nn.Sequential)
        # a row of convolutions with their norms is a branch within a block
        and any(list(part.children()) for part in members[0].children())
    )


def _is_matrix(network: Network, name: str) -> bool:
    path, _, last = name.rpartition(".")
    owner = network.get_submodule(path)
    # tokens and positions are tensors of a module that has other modules in it
    return getattr(owner, last).ndim > 1 and not any(True for _ in owner.children())

"""A U-Net whose encoder is any backbone: its maps of each size are found by running it once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.models.backbones.pixels import EncoderDecoder
from darkroom.models.backbones.unet import Decoder

WIDTH = 16
"""Channels of the decoder's largest map; smaller maps have twice as many per halving."""


class Stage(NamedTuple):
    """The last map of one size in a backbone."""

    node: str
    """The name of the module that computes it."""
    channels: int
    halvings: int
    """How often the image's size was halved."""


class PyramidUNet(EncoderDecoder):
    """A U-Net whose encoder is a backbone: the decoder adds the last map of each size.

    The result is as large as the image. Layers of the encoder have the names that they have in the
    backbone.
    """

    def __init__(self, backbone: nn.Module, stages: Sequence[Stage]) -> None:
        super().__init__()
        # imported here because it takes seconds
        from torchvision.models.feature_extraction import create_feature_extractor

        self.encoder = create_feature_extractor(backbone, {stage.node: stage.node for stage in stages})
        widths = [WIDTH * 2**halvings for halvings in range(stages[-1].halvings)]
        self.decoder = Decoder([stage.channels for stage in stages], widths)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> a map of features ``(n, C, height, width)``."""
        return self.decoder(list(self.encoder(x).values()))


@torch.no_grad()
def find_stages(name: str, backbone: nn.Module, image: Tensor) -> list[Stage]:
    """Return the last map of each size, the largest first; none if the result is as large as the image.

    Of maps of the same size, one that a whole stage or block returns goes before the maps within blocks,
    which may have many more channels.

    Args:
        name: of the model, for messages.
        image: float ``(1, channels, height, width)``; only its shape matters.

    Maps of other sizes, such as the averages of a squeeze-and-excitation block, are not stages.

    Raises:
        UserError: the backbone does not end with a map, does not halve the image step by step, or the
            sides of its last map are not exact halves, so that doubling would not restore them.
    """
    sizes: dict[tuple[int, ...], tuple[str, int]] = {}
    names = {module: path for path, module in backbone.named_modules() if path}

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        size, path = tuple(output.shape[2:]), names[module]
        if size not in sizes or path.count(".") <= sizes[size][0].count("."):
            sizes[size] = (path, output.shape[1])

    hooks = [module.register_forward_hook(note) for module in names]
    is_training = backbone.training
    result = backbone.eval()(image)
    backbone.train(is_training)
    for hook in hooks:
        hook.remove()
    if result.ndim == 4 and result.shape[2:] == image.shape[2:]:
        return []
    stages = [
        Stage(node, channels, halvings)
        for size, (node, channels) in sizes.items()
        if (halvings := _halvings(size, image.shape[2:])) is not None
    ]
    stages.sort(key=lambda stage: stage.halvings)
    steps = [stage.halvings for stage in stages]
    if result.ndim == 4 and _halvings(result.shape[2:], image.shape[2:]) is None:
        (rows, columns), (height, width) = result.shape[2:], image.shape[2:]
        raise UserError(
            f"model.name: {name} makes maps of {rows} x {columns} from images of {height} x {width},"
            " which a U-Net cannot double to that size; set prepare.image_size (and train.image_size) to"
            " multiples of 32, or choose another network"
        )
    if result.ndim != 4 or not steps or steps != [*range(steps[0], steps[0] + len(steps))]:
        raise UserError(
            f"model.name: {name} does not halve images step by step, so it cannot be the encoder of a"
            " U-Net, and the images of this data set have masks; choose unet, cnn, resnet, or for"
            " example torchvision:mobilenet_v2"
        )
    return stages


def _halvings(size: Sequence[int], whole: Sequence[int]) -> int | None:
    """Return how often a size was halved; None if the size is not a half, a quarter and so on."""
    halvings = max(whole[0] // max(size[0], 1), 1).bit_length() - 1
    return halvings if [side * 2**halvings for side in size] == [*whole] else None

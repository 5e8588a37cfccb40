"""Any backbone as the encoder of a U-Net: its maps of each size, found by running it once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from darkroom.errors import UserError
from darkroom.models.backbones.unet import Decoder


class Stage(NamedTuple):
    """The last map of one size in a backbone."""

    node: str
    """The name of the module that computes it."""
    channels: int
    halvings: int
    """How often the image's size was halved."""


class PyramidUNet(nn.Module):
    """A U-Net whose encoder is a backbone: the decoder adds the last map of each size.

    The result is as large as the image. Widths are ``width`` for the image's own size and double with
    each halving, but not above the channels of the encoder's map.
    """

    def __init__(self, backbone: nn.Module, stages: Sequence[Stage], width: int) -> None:
        super().__init__()
        self.encoder = create_feature_extractor(backbone, {stage.node: stage.node for stage in stages})
        channels = {stage.halvings: stage.channels for stage in stages}
        widths = [
            min(width * 2**halvings, channels.get(halvings, width * 2**halvings))
            for halvings in range(stages[-1].halvings)
        ]
        self.decoder = Decoder([stage.channels for stage in stages], widths)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> a map of features ``(n, C, height, width)``."""
        return self.decoder(list(self.encoder(x).values()))


@torch.no_grad()
def find_stages(name: str, backbone: nn.Module, image: Tensor) -> list[Stage]:
    """Return the last map of each size, the largest first.

    Args:
        name: of the model, for messages.
        backbone: ends with a map.
        image: float ``(1, channels, height, width)``; only its shape matters.

    Raises:
        UserError: a size is not half the one before, so that doubling would not restore it, or there is
            no map below half of the image.
    """
    sizes: dict[tuple[int, ...], tuple[str, int]] = {}
    names = {module: path for path, module in backbone.named_modules() if path}

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            sizes[tuple(output.shape[2:])] = (names[module], output.shape[1])

    hooks = [module.register_forward_hook(note) for module in names]
    is_training = backbone.training
    backbone.eval()(image)
    backbone.train(is_training)
    for hook in hooks:
        hook.remove()
    height, width = image.shape[2:]
    stages = []
    for (rows, columns), (node, channels) in sizes.items():
        halvings = max(height // max(rows, 1), 1).bit_length() - 1
        if (rows * 2**halvings, columns * 2**halvings) != (height, width):
            raise UserError(
                f"model.name: {name} makes maps of {rows} x {columns} from images of {height} x {width};"
                " a U-Net needs halves, quarters and so on, so prepare.image_size (and"
                " train.image_size) must be multiples of 32"
            )
        stages.append(Stage(node, channels, halvings))
    stages.sort(key=lambda stage: stage.halvings)
    if not stages or stages[-1].halvings == 0:
        raise UserError(f"model.name: {name} does not halve images, so it is no encoder of a U-Net")
    return stages

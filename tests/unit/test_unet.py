"""The U-Net against tables made by hand."""

import pytest
import torch
from torch import nn

from darkroom.errors import UserError
from darkroom.models.backbones.shapes import output_size, require_multiples
from darkroom.models.backbones.unet import UNet
from darkroom.models.classifier import Classifier
from darkroom.models.heads import PixelHead
from darkroom.models.network import Network


def num_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("width", "depth"), [(4, 1), (4, 2), (6, 3), (2, 5)])
def test_the_output_is_as_large_as_the_image(width: int, depth: int) -> None:
    side = 2 ** (depth - 1)
    images = torch.rand(2, 3, 3 * side, 2 * side)
    assert UNet(3, width, depth)(images).shape == (2, width, 3 * side, 2 * side)


def test_it_has_the_weights_of_the_paper() -> None:
    # figure 1 of the paper: 3 x 3 convolutions in pairs, 2 x 2 up-convolutions, 1 x 1 at the end
    def pair(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + 9 * outputs * outputs + 4 * outputs  # and two batch norms

    widths = [64, 128, 256, 512, 1024]
    encoder = pair(1, 64) + sum(pair(width, 2 * width) for width in widths[:-1])
    decoder = sum(4 * 2 * width * width + width + pair(2 * width, width) for width in widths[:-1])
    with torch.device("meta"):
        assert num_weights(UNet(1, 64, 5)) == encoder + decoder
        assert num_weights(PixelHead(64, 2, 0.0)) == 64 * 2 + 2


@pytest.mark.parametrize(("depth", "num_rows"), [(1, range(5, 6)), (3, range(30, 51))])
def test_the_lowest_level_widens_what_a_pixel_sees(depth: int, num_rows: range) -> None:
    # at depth 1, two 3 x 3 convolutions see 5 x 5 pixels
    network = UNet(1, 2, depth).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()  # so that no ReLU is 0
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    network(image)[0, :, 32, 32].sum().backward()
    assert image.grad is not None
    rows = image.grad[0, 0].sum(dim=1).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 in num_rows


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "avg", "stride"])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_formula_tells_which_sizes_are_restored(depth: int, pooling: str) -> None:
    windows = UNet.halvings(depth, pooling)
    network = UNet(1, 1, depth, "silu", pooling).to("meta").eval()
    for size in (*range(1, 10), 12, 15, 16, 17, 24, 31, 32, 33):
        fits = output_size(size, windows) * 2 ** len(windows) == size
        try:
            shape = network(torch.zeros(1, 1, size, size, device="meta")).shape
        except RuntimeError:
            shape = None
        assert (shape == (1, 1, size, size)) is fits
        if fits:
            require_multiples("unet", (size, size), windows)


def test_a_size_that_does_not_divide_is_refused_with_the_closest_that_do() -> None:
    with pytest.raises(UserError) as caught:
        require_multiples("unet", (180, 240), UNet.halvings(5))
    assert str(caught.value) == (
        "model.name: unet of this depth halves images 4 times, so both sides must be multiples of 16"
        " pixels, but images have 180 x 240; set prepare.image_size (and train.image_size) to multiples"
        " of 16 (176 or 192 for the height and 240 for the width), or lower model.depth"
    )


def test_it_is_a_network_with_normalisation_inside() -> None:
    torch.manual_seed(0)
    network = Network(UNet(3, 4, 2), PixelHead(4, 5, 0.0))  # type: ignore[arg-type]
    classifier = Classifier(network, (0.5,) * 3, (0.25,) * 3).eval()
    images = torch.randint(256, (2, 3, 8, 12), dtype=torch.uint8)
    expected = network((images / 255 - 0.5) / 0.25)
    assert torch.equal(classifier(images), expected)
    assert expected.shape == (2, 5, 8, 12)

"""Sizes of what convolutions and poolings make, against torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from darkroom.errors import UserError
from darkroom.models.backbones.shapes import ShapesOnly, Window, least_size, output_size, require_size

WINDOWS = st.builds(Window, st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3))


def torch_size(size: int, windows: list[Window]) -> int:
    """The side that is left by torch's convolutions, or 0 where they refuse."""
    x = torch.zeros(1, 1, size, size)
    try:
        for window in windows:
            x = nn.Conv2d(1, 1, *window)(x)
    except RuntimeError:
        return 0
    return x.shape[2]


@given(st.integers(1, 40), st.lists(WINDOWS, max_size=4))
def test_sizes_are_torchs(size: int, windows: list[Window]) -> None:
    assert max(0, output_size(size, windows)) == torch_size(size, windows)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_sizes_of_poolings_are_torchs(size: int, kernel: int, stride: int) -> None:
    left = output_size(size, [Window(kernel, stride)])
    if left >= 1:
        assert nn.MaxPool2d(kernel, stride)(torch.zeros(1, 1, size, size)).shape[2] == left
    else:
        with pytest.raises(RuntimeError):
            nn.MaxPool2d(kernel, stride)(torch.zeros(1, 1, size, size))


@given(st.lists(WINDOWS, min_size=1, max_size=3))
def test_the_least_size_passes_and_one_less_does_not(windows: list[Window]) -> None:
    least = least_size(windows)
    assert torch_size(least, windows) >= 1
    assert least == 1 or torch_size(least - 1, windows) == 0


def test_too_small_images_are_refused_with_the_least_size() -> None:
    windows = [Window(3), Window(2, stride=2), Window(3)]
    require_size("net", (8, 9), windows)
    with pytest.raises(UserError, match=r"net .* at least 8 x 8 pixels, but they have 7 x 9"):
        require_size("net", (7, 9), windows)


def test_shapes_alone_take_no_memory_and_no_random_number() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with ShapesOnly():
        network = models.regnet_x_400mf()  # computes its widths with tensors
    assert all(parameter.is_meta for parameter in network.parameters())
    assert torch.equal(torch.rand(3), expected)
    assert not nn.Linear(2, 2).weight.is_meta

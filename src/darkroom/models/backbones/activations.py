"""Activation functions and poolings that darkroom's own networks can use, by name."""

from collections.abc import Callable

from torch import nn

NEGATIVE_SLOPE = 0.01
"""Slope of the leaky ReLU for negative inputs, PyTorch's default."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(NEGATIVE_SLOPE),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}

GAINS = {
    "relu": nn.init.calculate_gain("relu"),
    "leaky_relu": nn.init.calculate_gain("leaky_relu", NEGATIVE_SLOPE),
    "tanh": nn.init.calculate_gain("tanh"),
    # PyTorch has none for these two: 1 / sqrt(E[f(z)^2]) for a standard normal z, as for relu
    "gelu": 1.533530441195535,
    "silu": 1.676532470331091,
}
"""Factor of the initial weights that makes up for what the activation takes from the variance."""

POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: nn.MaxPool2d(2),
    "avg": lambda: nn.AvgPool2d(2),
}
"""Layers that halve a map; ``stride`` is none: the convolution after it has a stride of 2 instead."""

USUAL_ACTIVATION = {"mlp": "relu", "cnn": "relu", "resnet": "relu", "unet": "relu", "vit": "gelu"}
"""What ``model.activation: null`` stands for, by network."""

USUAL_POOLING = {"cnn": "max", "resnet": "stride", "unet": "max"}
"""What ``model.pooling: null`` stands for, by network that halves maps."""


def make_activation(name: str) -> nn.Module:
    """Return the activation called ``name``."""
    return ACTIVATIONS[name]()


def make_pooling(name: str) -> list[nn.Module]:
    """Return the layers that halve a map; none for ``stride``."""
    return [POOLINGS[name]()] if name in POOLINGS else []

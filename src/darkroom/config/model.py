"""The section ``model``: the network."""

from typing import Annotated, Any, Literal

from pydantic import Field

from darkroom.config.section import Mistakes, Section, null_unless
from darkroom.own_names import TRAIN_PATTERN, is_own_file


class Model(Section):
    """The network."""

    name: str = Field(
        pattern=r"^(mlp|cnn|resnet|vit|unet|torchvision:[A-Za-z0-9_]+|timm:[A-Za-z0-9_.]+"
        rf"|smp:[A-Za-z0-9_.-]+|{TRAIN_PATTERN})$",
        description="network: mlp, cnn, resnet or vit, which are designed for small images, unet, which"
        " predicts masks, or torchvision:NAME or timm:NAME; `darkroom models` lists them; or"
        " smp:ARCHITECTURE.ENCODER, which predicts masks, of segmentation_models_pytorch; or"
        " file:own/train/FILE.py:NAME, a class or function in a Python file of yours; with masks, cnn,"
        " resnet and most other networks that make maps become the encoder of a U-Net",
    )
    width: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        description="mlp: units per layer; cnn, resnet, unet: channels of the first layer; vit:"
        " embedding dimension; passed to the network of a file that takes it; null for others"
    )
    depth: Annotated[int, Field(ge=0, le=64)] | None = Field(
        description="mlp: hidden layers, 0 for a logistic regression; cnn: stages of two convolutions,"
        " each of which halves the resolution; resnet: residual blocks in each of its three stages;"
        " unet: levels, each with half the resolution of the one before; vit: transformer blocks;"
        " passed to the network of a file that takes it; null for others"
    )
    patch_size: Annotated[int, Field(ge=1, le=256)] | None = Field(
        description="vit: side of a patch in pixels; null for other networks"
    )
    activation: Literal["relu", "leaky_relu", "tanh", "gelu", "silu"] | None = Field(
        description="activation function of the layers of mlp, cnn, resnet, unet and vit; null: relu,"
        " for vit gelu; null for other networks"
    )
    pooling: Literal["max", "avg", "stride"] | None = Field(
        description="cnn, resnet, unet: what halves the image between stages: max or avg: pooling of 2"
        " x 2 pixels; stride: a convolution with a stride of 2; null: max for cnn and unet, stride for"
        " resnet; null for other networks"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="dropout probability before the last layer (mlp, vit: also between layers)"
    )
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="stochastic depth: probability of skipping the last residual block, rising linearly"
        " from 0 at the first (Huang et al., 2016); for resnet, vit, and networks of torchvision and"
        " timm that support it"
    )
    head: Literal["linear", "mlp", "concat_pool"] = Field(
        description="classification head: linear; mlp: one hidden layer; concat_pool: concatenated"
        " average and maximum pooling, then two layers with batch normalisation"
    )
    weights: str = Field(
        min_length=1,
        description="initial weights: random; default: the library's pretrained weights, downloaded"
        " once; or a .pth or .safetensors file in models/weights/",
    )
    init: Literal["kaiming", "xavier", "orthogonal", "torch"] | None = Field(
        description="distribution of the random weights in the layers of mlp, cnn, resnet, unet"
        " and vit: kaiming (He et al., 2015), xavier (Glorot and Bengio, 2010), orthogonal (Saxe et"
        " al., 2014), or torch, that of PyTorch's layers; null: torch for mlp, cnn and unet, kaiming by"
        " the number of outputs for resnet, a truncated normal distribution for vit"
    )

    @property
    def is_own(self) -> bool:
        """Whether the network is one of darkroom's own, not of a library or of the user's file."""
        return ":" not in self.name

    def architecture(self) -> dict[str, Any]:
        """Return what a model file records: all but the origin of the initial weights."""
        return self.model_dump(exclude={"weights", "init"})

    def mistaken_combinations(self) -> Mistakes:
        yield from self._mistaken_size()
        yield from self._mistaken_layers()
        yield from self._unsupported_options()

    def _mistaken_size(self) -> Mistakes:
        name = f"model.name is {self.name}"
        if not is_own_file(self.name):  # whose code tells whether it takes them
            yield from null_unless(self.is_own, name, "model.width", self.width)
            yield from null_unless(self.is_own, name, "model.depth", self.depth)
        yield from null_unless(self.name == "vit", name, "model.patch_size", self.patch_size)
        if self.depth == 0 and self.is_own and self.name != "mlp":
            yield "model.depth", f"0 leaves nothing of {self.name}; it must be at least 1"
        if self.name == "resnet" and self.width is not None and self.width < 8:
            yield (
                "model.width",
                f"{self.width} is too narrow for resnet; it must be at least 8, because PyTorch's CPU"
                " kernel for its shortcuts writes out of bounds for fewer channels",
            )

    def _mistaken_layers(self) -> Mistakes:
        name = f"model.name is {self.name}"
        for applies, option in (
            (self.is_own, "activation"),
            (self.name in ("cnn", "resnet", "unet"), "pooling"),
            (self.is_own, "init"),
        ):
            if not applies:
                yield from null_unless(False, name, f"model.{option}", getattr(self, option))
        if self.is_own and self.weights != "random":
            weights = f"model.weights is {self.weights}"
            yield from null_unless(False, weights, "model.init", self.init)

    def _unsupported_options(self) -> Mistakes:
        if self.stochastic_depth > 0 and is_own_file(self.name):
            yield (
                "model.stochastic_depth",
                f"{self.stochastic_depth:g} has no effect on the network of a file; it must be 0",
            )
        if self.stochastic_depth > 0 and self.name in ("mlp", "cnn", "unet"):
            yield (
                "model.stochastic_depth",
                f"{self.stochastic_depth:g} skips residual blocks, but {self.name} has none; it must be"
                " 0",
            )
        if self.head == "concat_pool" and self.name in ("mlp", "vit"):
            yield (
                "model.head",
                f"concat_pool pools feature maps, but {self.name} has none; choose linear or mlp",
            )
        if self.weights == "default" and (self.is_own or is_own_file(self.name)):
            yield (
                "model.weights",
                f"default means a library's pretrained weights, but {self.name} has none; choose random"
                " or a file",
            )

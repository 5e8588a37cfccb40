"""The section ``model``: the network."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from darkroom.config.section import Section, only_if


class Model(Section):
    """The network."""

    name: str = Field(
        pattern=r"^(mlp|cnn|resnet|vit|torchvision:[A-Za-z0-9_]+|timm:[A-Za-z0-9_.]+)$",
        description="mlp, cnn, resnet or vit, which are made for small images, or torchvision:NAME or"
        " timm:NAME; `darkroom models` lists them",
    )
    width: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        description="mlp: units of a layer; cnn, resnet: channels of the first layer; vit: numbers a"
        " patch; null for a library's network"
    )
    depth: Annotated[int, Field(ge=1, le=64)] | None = Field(
        description="mlp: hidden layers; cnn: stages of two convolutions, each halving the image;"
        " resnet: residual blocks in each of its three stages; vit: blocks; null for a library's network"
    )
    patch_size: Annotated[int, Field(ge=1, le=256)] | None = Field(
        description="vit: pixels of a patch's side; null for all others"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="probability of dropping a feature before the last layer (mlp, vit: also between"
        " layers)"
    )
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="probability of leaving out the last residual block for an image, rising to it from"
        " 0 at the first (Huang et al., 2016); for resnet, vit, and libraries' networks that have it"
    )
    head: Literal["linear", "mlp", "concat_pool"] = Field(
        description="what makes classes of features: linear; mlp: one hidden layer; concat_pool: average"
        " and maximum of each feature's map, then two layers with batch normalisation"
    )
    weights: str = Field(
        min_length=1,
        description="what training begins with: random; default: the library's, downloaded once; or a"
        " file in models/weights/, .pth or .safetensors",
    )

    def mistaken_combinations(self) -> Iterator[tuple[str, str]]:
        """Yields ``(full name, what is wrong)`` for values that do not go together."""
        is_own = ":" not in self.name
        for option in ("width", "depth", "patch_size"):
            applies = self.name == "vit" if option == "patch_size" else is_own
            yield from only_if(
                f"model.{option}", getattr(self, option), applies, f"where model.name is {self.name}"
            )
        if self.name == "resnet" and self.width is not None and self.width < 8:
            yield (
                "model.width",
                f"{self.width} is too narrow for resnet; it must be at least 8 there, because torch's "
                "kernel for its shortcuts writes beyond its memory on a CPU with fewer",
            )
        if self.stochastic_depth > 0 and self.name in ("mlp", "cnn"):
            yield (
                "model.stochastic_depth",
                f"{self.stochastic_depth:g} leaves out residual blocks, and {self.name} has none; "
                "it must be 0 there",
            )
        if self.head == "concat_pool" and self.name in ("mlp", "vit"):
            yield (
                "model.head",
                f"concat_pool pools maps of features, and {self.name} has none; take linear or mlp",
            )
        if self.weights == "default" and is_own:
            yield (
                "model.weights",
                f"default is the library's, and {self.name} comes from none; take random or a file",
            )

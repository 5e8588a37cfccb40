"""The section ``augment``: random changes to training images."""

from typing import Annotated, Any, Literal

from pydantic import Field

from darkroom.config.section import Section

Alpha = Annotated[float, Field(gt=0, le=100)]

NamedTransform = Annotated[
    dict[str, dict[str, Any]],
    Field(min_length=1, max_length=1, examples=["{NAME: {argument: value}}"]),
]


class Augment(Section):
    """Random changes to training images, drawn anew for each image in each epoch."""

    crop_padding: int = Field(
        ge=0,
        le=256,
        description="pixels of edge padding before a random crop back to size, so the largest shift",
    )
    resized_crop: Annotated[float, Field(gt=0, le=1)] | None = Field(
        description="smallest share of the area of a random crop (3:4 to 4:3) that is enlarged back to"
        " size; null: none"
    )
    horizontal_flip: bool = Field(description="mirror every other image (not for text or digits)")
    vertical_flip: bool = Field(description="turn every other image upside down")
    rotate: float = Field(ge=0, le=180, description="largest angle in degrees, either way")
    translate: float = Field(ge=0, le=1, description="largest shift as a share of the side")
    scale: float = Field(
        ge=0, le=0.9, description="largest relative change of size; 0.2: from 0.8 to 1.2 times"
    )
    brightness: float = Field(
        ge=0, le=10, description="largest relative change of brightness; 0.4: factors 0.6 to 1.4"
    )
    contrast: float = Field(ge=0, le=10, description="largest relative change of contrast")
    saturation: float = Field(ge=0, le=10, description="largest relative change of saturation")
    hue: float = Field(ge=0, le=0.5, description="largest turn of the hue as a share of the circle")
    policy: Literal["randaugment", "trivialaugment", "autoaugment", "augmix"] | None = Field(
        description="torchvision's policy of that name with its usual settings; slow, on the CPU; null:"
        " none"
    )
    transforms: list[NamedTransform] = Field(
        description="transforms of torchvision.transforms.v2 with their arguments, before the policy;"
        " slow, on the CPU; [] none"
    )
    erase: float = Field(
        ge=0, le=1, description="probability of erasing a rectangle of 2 to 33 % of the image"
    )
    erase_fill: Literal["mean"] | Annotated[int, Field(ge=0, le=255)] = Field(
        description="level of what is erased; mean: the image's own mean colour"
    )
    mixup: Alpha | None = Field(
        description="alpha of the Beta distribution of shares in which two images are blended; null:"
        " none"
    )
    cutmix: Alpha | None = Field(
        description="alpha of the Beta distribution of shares in which a rectangle comes from another"
        " image; null: none; with mixup every image has one of the two"
    )

    def padding_problem(self, side: int) -> str | None:
        """Returns what is wrong with ``crop_padding`` for images whose shorter side is ``side``."""
        if self.crop_padding == 0 or self.crop_padding < side:
            return None
        return (
            f"{self.crop_padding} would move images of {side} pixels out of sight altogether; it must be"
            f" below {side} (an eighth is usual: {side // 8})"
        )

"""The section ``augment``: random changes to training images."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from darkroom.config.section import Mistakes, Section
from darkroom.own_names import TRAIN_PATTERN, is_own_file

Alpha = Annotated[float, Field(gt=0, le=100)]

NamedTransform = Annotated[
    dict[str, dict[str, Any]],
    Field(min_length=1, max_length=1, examples=["{NAME: {argument: value}}"]),
]


class Augment(Section):
    """Random changes to training images, different for each image in each epoch."""

    crop_padding: int = Field(
        ge=0,
        le=256,
        description="edge padding in pixels before a random crop back to the image's size, which is also"
        " the maximum shift; 0: off",
    )
    resized_crop: Annotated[float, Field(gt=0, le=1)] | None = Field(
        description="random resized crop: minimum area of the crop as a fraction of the image, at an"
        " aspect ratio of 3:4 to 4:3; null: off"
    )
    horizontal_flip: bool = Field(
        description="mirror each image with probability 0.5; unsuitable for text and digits"
    )
    vertical_flip: bool = Field(description="turn each image upside down with probability 0.5")
    rotate: float = Field(
        ge=0, le=180, description="maximum rotation in degrees, in either direction; 0: off"
    )
    translate: float = Field(
        ge=0, le=1, description="maximum translation as a fraction of the image's side; 0: off"
    )
    scale: float = Field(
        ge=0, le=0.9, description="maximum relative change of scale; 0.2: factors of 0.8 to 1.2; 0: off"
    )
    brightness: float = Field(
        ge=0,
        le=10,
        description="maximum relative change of brightness; 0.4: factors of 0.6 to 1.4; 0: off",
    )
    contrast: float = Field(
        ge=0, le=10, description="maximum relative change of contrast, as for brightness; 0: off"
    )
    saturation: float = Field(
        ge=0, le=10, description="maximum relative change of saturation, as for brightness; 0: off"
    )
    hue: float = Field(
        ge=0, le=0.5, description="maximum hue shift as a fraction of the colour circle; 0: off"
    )
    policy: Literal["randaugment", "trivialaugment", "autoaugment", "augmix"] | None = Field(
        description="torchvision's augmentation policy of this name with its default settings; slow,"
        " because it runs on the CPU; null: none"
    )
    transforms: list[NamedTransform] = Field(
        description="transforms of torchvision.transforms.v2, or file:own/train/FILE.py:NAME of a Python"
        " file of yours, with their arguments, applied before the policy; slow, because they run on the"
        " CPU; []: none"
    )
    erase: float = Field(
        ge=0,
        le=1,
        description="random erasing: probability of erasing a rectangle of 2 to 33 % of the image;"
        " 0: off",
    )
    erase_fill: Literal["mean"] | Annotated[int, Field(ge=0, le=255)] = Field(
        description="level of erased pixels; mean: the mean colour of the image"
    )
    mixup: Alpha | None = Field(
        description="mixup: alpha of the Beta distribution that the blending weights of two images are"
        " drawn from; null: off"
    )
    cutmix: Alpha | None = Field(
        description="CutMix: alpha of the Beta distribution that the area replaced by a rectangle of"
        " another image is drawn from; null: off; with mixup, each image gets one of the two"
    )

    @property
    def changes_images(self) -> bool:
        """Whether any random change is on."""
        # the level of erased pixels changes nothing by itself; 0, false, null and [] mean off
        return any(self.model_dump(exclude={"erase_fill"}).values())

    @property
    def own_files(self) -> list[str]:
        """The transforms of the user, as ``file:PATH:NAME``."""
        return [name for transform in self.transforms for name in transform if is_own_file(name)]

    def mistaken_combinations(self) -> Mistakes:
        if self.crop_padding > 0 and self.resized_crop is not None:
            yield (
                "augment.resized_crop",
                f"{self.resized_crop:g} and augment.crop_padding {self.crop_padding} both crop; set this"
                " to null or that to 0",
            )
        for name in self.own_files:
            if not re.fullmatch(TRAIN_PATTERN, name):
                yield (
                    "augment.transforms",
                    f"{name!r} is not allowed; it must be file:own/train/FILE.py:NAME",
                )
        if self.translate == 1:
            yield "augment.translate", "1 can move images completely out of view; it must be below 1"

    def padding_problem(self, side: int) -> str | None:
        """Return what is wrong with ``crop_padding`` for images whose shorter side is ``side``."""
        if self.crop_padding == 0 or self.crop_padding < side:
            return None
        return (
            f"{self.crop_padding} can move images of {side} pixels completely out of view; it must be"
            f" below {side} (usual: an eighth, {side // 8})"
        )

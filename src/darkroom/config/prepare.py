"""The section ``prepare``, and what the stage of that name reads."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from darkroom.config.data import DataSource
from darkroom.config.section import Fraction, Section, StageConfig

Fold = Annotated[str, Field(pattern=r"^[1-9][0-9]?/[1-9][0-9]?$", examples=["K/N, such as 2/5,"])]


def _text_or_whole(value: object) -> object:
    """Refuses ``true`` and ``1.0``, which are equal to 1."""
    if type(value) not in (str, int):
        raise ValueError("neither text nor a whole number")
    return value


class Prepare(Section):
    """How images become arrays, and how they are split."""

    image_size: Literal["auto"] | Annotated[int, Field(ge=1, le=2048)] = Field(
        description="side in pixels after resizing; auto: the images' own size if at least 95 %"
        " share one of at most 224, else the median shorter side rounded down to a multiple of 32,"
        " from 32 to 224"
    )
    channels: Annotated[Literal["auto", 1, 3], BeforeValidator(_text_or_whole)] = Field(
        description="1: grey, 3: RGB, auto: grey if every image is grey"
    )
    resize: Literal["stretch", "crop", "pad"] = Field(
        description="how an image of another shape becomes square: stretch both sides, crop the"
        " longer one at the centre, or pad the shorter one with black"
    )
    tiff: bool = Field(
        description="read TIFF files too; off, because its decoder has the longest record of holes"
    )
    storage: Literal["auto", "decoded", "encoded"] = Field(
        description="decoded: pixels as they are, fastest to train on; encoded: the same pixels as"
        " lossless WebP, about half as large; auto: encoded above 32 GiB of pixels"
    )
    on_bad_image: Literal["error", "skip"] = Field(
        description="what to do with files that cannot be used: stop and name them, or leave them out"
        " and count them"
    )
    split: Literal["stratified", "stable", "given"] = Field(
        description="stratified: each class in equal shares; stable: by content, so that a new image"
        " never moves an old one; given: as the data say, nothing is cut"
    )
    val_fraction: Fraction = Field(
        description="share of the images for validation (of the training folder, where only"
        " train and test are given); unused where the data come with a val folder"
    )
    test_fraction: Fraction = Field(
        description="share of the images for the test; unused where the data come with a test folder"
        " or fold is set"
    )
    fold: Fold | None = Field(
        description="cross-validation: 2/5 tests on the second of five folds; null: no folds"
    )
    duplicates: Literal["group", "drop", "error", "keep"] = Field(
        description="images with the same or nearly the same pixels: group: kept in one split; drop: one"
        " of them is used; error: stop and name them; keep: as they come, even across splits"
    )
    near_duplicates: Annotated[float, Field(gt=0, le=0.15)] | None = Field(
        description="largest difference at any place between images that count as nearly the same, as a"
        " share of the range of brightness, after undoing a change of the whole image by up to a tenth;"
        " images with other look-alikes must agree in detail too; null: only the very same pixels count"
    )
    on_conflict: Literal["error", "drop"] = Field(
        description="the same pixels under several labels: stop and name them, or use none of them"
    )


class PrepareConfig(StageConfig):
    seed: int
    data: DataSource
    prepare: Prepare

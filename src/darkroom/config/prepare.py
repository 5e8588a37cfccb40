"""The section ``prepare``, and what the stage of that name reads."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from darkroom.config.data import DataSource
from darkroom.config.section import Fraction, ImageSize, Mistakes, Section, StageConfig

Fold = Annotated[str, Field(pattern=r"^[1-9][0-9]?/[1-9][0-9]?$", examples=["K/N, such as 2/5,"])]


def _text_or_whole(value: object) -> object:
    """Reject ``true`` and ``1.0``, which Python considers equal to 1."""
    if type(value) not in (str, int):
        raise ValueError("neither text nor an integer")
    return value


class Prepare(Section):
    """How images are decoded, deduplicated and split."""

    image_size: Literal["auto"] | ImageSize = Field(
        description="side of the prepared images in pixels, or [height, width]; auto: the original size"
        " if at least 95 % of the images share one of at most 224, otherwise the median shorter side,"
        " rounded down to a multiple of 32 from 32 to 224"
    )
    channels: Annotated[Literal["auto", 1, 3], BeforeValidator(_text_or_whole)] = Field(
        description="1: grey; 3: RGB; auto: grey if every image is grey, otherwise RGB"
    )
    resize: Literal["stretch", "crop", "pad"] = Field(
        description="how images of another shape are brought to image_size: stretch both sides, crop the"
        " side that is too long at the centre, or pad the side that is too short with black"
    )
    tiff: bool = Field(
        description="read TIFF files; off by default, because TIFF decoders have had the most security"
        " holes"
    )
    storage: Literal["auto", "decoded", "encoded"] = Field(
        description="decoded: raw pixels, the fastest to train on; encoded: the same pixels as lossless"
        " WebP, about half the size; auto: encoded above 32 GiB of pixels"
    )
    on_bad_image: Literal["error", "skip"] = Field(
        description="files that cannot be used: error: stop and list them; skip: exclude and count them"
    )
    split: Literal["stratified", "stable", "given"] = Field(
        description="how images or rows are split: stratified: each class in the same proportions;"
        " stable: by content, so that new ones never move existing ones; given: only as in the data"
    )
    val_fraction: Fraction = Field(
        description="fraction of the images or rows for validation (of the train folder, if the data"
        " have only train and test folders); unused if the data have a val folder"
    )
    test_fraction: Fraction = Field(
        description="fraction of the images or rows for testing; unused if the data have a test folder"
        " or if fold is set"
    )
    fold: Fold | None = Field(
        description="cross-validation fold to test on; 2/5: the second of five; null: none"
    )
    duplicates: Literal["group", "drop", "error", "keep"] = Field(
        description="images with identical or nearly identical pixels, or equal rows: group: keep them"
        " in one split; drop: use one of them; error: stop and list them; keep: ignore, so that they may"
        " be in several splits"
    )
    near_duplicates: Annotated[float, Field(gt=0, le=0.15)] | None = Field(
        description="near-duplicate threshold: maximum difference between two images in any coarse cell,"
        " as a fraction of the brightness range, after correcting changes of brightness and contrast of"
        " up to 10 %; images that resemble several others must also agree in detail; null: only"
        " identical pixels count; rows of a table are duplicates only if they are equal"
    )
    on_conflict: Literal["error", "drop"] = Field(
        description="identical pixels with different labels: error: stop and list them; drop: exclude"
        " them all; rows of a table may be equal and have different labels"
    )

    def mistaken_combinations(self) -> Mistakes:
        yield from self._mistaken_fractions() if self.fold is None else self._mistaken_fold(self.fold)

    def _mistaken_fractions(self) -> Mistakes:
        if self.val_fraction + self.test_fraction >= 1:
            yield (
                "prepare.test_fraction",
                f"{self.test_fraction:g} and prepare.val_fraction {self.val_fraction:g} leave no"
                " training data; their sum must be below 1",
            )

    def _mistaken_fold(self, fold: str) -> Mistakes:
        number, num_folds = (int(part) for part in fold.split("/"))
        if num_folds < 2:
            yield "prepare.fold", f"{fold} is not a valid fold; there must be at least two folds"
        elif number > num_folds:
            yield (
                "prepare.fold",
                f"{fold} is not a valid fold; {num_folds} folds are 1/{num_folds} to"
                f" {num_folds}/{num_folds}",
            )
        elif self.val_fraction + 1 / num_folds >= 1:
            yield (
                "prepare.val_fraction",
                f"{self.val_fraction:g} and a fold of 1/{num_folds} leave no training data; their sum"
                " must be below 1",
            )
        if self.split == "given":
            yield (
                "prepare.fold",
                f"{fold} makes a test split, but prepare.split is given, which makes none",
            )


class PrepareConfig(StageConfig):
    seed: int
    data: DataSource
    prepare: Prepare

"""dataset.json: what every later stage needs to know of the prepared data."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.errors import UserError

FORMAT_VERSION = 1


class DatasetInfo(BaseModel):
    """The prepared data set in numbers. ``mean`` and ``std`` are of train only, of values 0..1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    class_names: list[str]
    multi_label: bool
    """Whether an image may have several labels, or none."""
    counts: dict[str, dict[str, int]]
    """Images by split and class; one with several labels counts in each of its classes."""
    labels_per_image: dict[str, list[int]]
    """Of each split, how many images have 0, 1, 2, ... labels."""
    input_size: tuple[int, int]
    """Height and width in pixels."""
    channels: Literal[1, 3]
    resize: Literal["stretch", "crop", "pad"]
    mean: list[float]
    std: list[float]
    digest: str
    """SHA-256 over the pixels, labels and splits of all images."""

    def num_images(self, split: str) -> int:
        return sum(self.labels_per_image[split])


def load_info(path: Path) -> DatasetInfo:
    """Reads dataset.json.

    Raises:
        UserError: there is none, it is damaged, or its format is of another version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; run `dvc repro prepare`") from None
    try:
        info = DatasetInfo.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "JSON"
        raise UserError(
            f"{path}: not what this darkroom writes ({place}: {first['msg']}); "
            "run `dvc repro --force prepare`"
        ) from None
    if info.format_version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format {info.format_version}, this darkroom reads {FORMAT_VERSION}; "
            "run `dvc repro --force prepare`"
        )
    return info

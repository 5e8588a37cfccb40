"""dataset.json, the description of the prepared data for all later stages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from darkroom.bounded_json import BadJson, load_json
from darkroom.digests import SEAL, FileDigest, Mismatch, seal, unseal
from darkroom.errors import UserError
from darkroom.inputs import Encoding, Input, input_of
from darkroom.targets import Target, from_file, to_file

FORMAT_VERSION = 2
"""Version 2 added ``files`` and the document's own digest."""


class DatasetInfo(BaseModel):
    """The prepared data set in numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    class_names: list[str]
    target: Target
    """What an image is labelled with; ``multi_label`` in the file."""
    counts: dict[str, dict[str, int]]
    """Number of images by split and class. An image counts in each of its classes."""
    labels_per_image: dict[str, list[int]]
    """Number of images with 0, 1, 2, ... labels, or whose masks show as many classes, by split."""
    pixels: dict[str, dict[str, int]] = {}
    """Number of pixels by split and class; empty unless images have masks."""
    input_size: tuple[int, int]
    """Height and width in pixels."""
    channels: PositiveInt
    """1 or 3; for rows of a table, their number of values."""
    resize: Literal["stretch", "crop", "pad"]
    mean: list[float]
    """Mean of the training pixels, scaled to 0..1, per channel."""
    std: list[float]
    """Standard deviation, likewise."""
    digest: str
    """SHA-256 over the pixels, labels and splits of all images."""
    encoding: Encoding | None = None
    """How the rows of a table become numbers; None: the inputs are images."""
    files: dict[str, FileDigest] = {}
    """Digest of each shard, by its path below the prepared folder: ``train/00000.arrow``."""

    @model_validator(mode="before")
    @classmethod
    def _with_target(cls, values: Any) -> Any:
        return from_file(values) if isinstance(values, dict) else values

    @property
    def input(self) -> Input:
        """What a model predicts from."""
        return input_of(self.encoding)

    def num_images(self, split: str) -> int:
        return sum(self.labels_per_image[split])

    def shards(self, split: str) -> dict[str, FileDigest]:
        """Return the digest of each shard of a split, by file name."""
        prefix = f"{split}/"
        return {
            path.removeprefix(prefix): digest
            for path, digest in self.files.items()
            if path.startswith(prefix)
        }

    def to_document(self) -> dict[str, Any]:
        """Return the content of dataset.json: all values, and their digest."""
        values = to_file(self.model_dump())
        if not self.pixels:
            del values["pixels"]
        if self.encoding is None:
            del values["encoding"]
        return seal(values)


def profile(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that describe the data, of any format version, without digests of files."""
    return {name: value for name, value in values.items() if name not in ("files", SEAL)}


def load_info(path: Path) -> DatasetInfo:
    """Read dataset.json.

    Raises:
        UserError: the file is missing, damaged, edited, or of another format version.
    """
    try:
        values = load_json(path)
        version = values["format_version"]
    except FileNotFoundError:
        raise UserError(f"{path}: the file does not exist; run `dvc repro prepare`") from None
    except OSError as error:
        raise _damaged(path, f"{error}") from None
    except BadJson as error:
        raise _damaged(path, f"not JSON with a format_version: {error}") from None
    except (KeyError, TypeError):
        raise _damaged(path, "not JSON with a format_version") from None
    if version != FORMAT_VERSION:
        age = "an earlier" if isinstance(version, int) and version < FORMAT_VERSION else "another"
        raise UserError(
            f"{path}: format {version}, written by {age} version of darkroom; this version reads "
            f"{FORMAT_VERSION}; run `dvc repro --force prepare`"
        )
    try:
        return DatasetInfo.model_validate_json(json.dumps(unseal(values)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "JSON"
        raise _damaged(path, f"{place}: {first['msg']}") from None
    except Mismatch as error:
        raise _damaged(path, f"{error}") from None


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path}: damaged, or not written by darkroom ({problem}); `darkroom verify` tells whether "
        "DVC's cache has the file, `dvc repro --force prepare` creates it again"
    )

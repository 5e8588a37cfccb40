"""Opens prepared splits after comparing their bytes with dataset.json."""

from pathlib import Path
from typing import Literal, Protocol

from darkroom.dataset.info import DatasetInfo, load_info
from darkroom.dataset.shards import Shards
from darkroom.dataset.views import EvaluationView
from darkroom.digests import check_files, digest_of_files
from darkroom.errors import UserError
from darkroom.paths import DATASET, PREPARED

_REMEDY = (
    "`darkroom verify` tells whether DVC's cache has it, `dvc repro --force prepare` creates all again"
)


def open_split(folder: Path, info: DatasetInfo, view: EvaluationView | None = None) -> Shards:
    """Return the images of a split after verifying the hash of each file.

    The result is not remembered: hashing is cheap compared to using the images
    (``benchmarks/integrity.py``), and a remembered result would miss later damage on disk.

    Args:
        folder: folder of the split, such as ``data/prepared/train``.
        info: description of the same prepared data.
        view: applied to each image; None: images as they are stored.

    Raises:
        UserError: a shard is missing, damaged, surplus or of other data, or a label is not one of the
            classes.
    """
    recorded = info.shards(folder.name)
    for file in sorted(folder.glob("*.arrow")):
        if file.name not in recorded:
            raise UserError(f"{file}: {DATASET.name} does not record this shard; {_REMEDY}")
    check_files(folder, recorded, DATASET, _REMEDY)
    num_classes, digest = len(info.class_names), digest_of_files(recorded)
    return Shards(folder, num_classes=num_classes, view=view, digest=digest)


class TrainingData(Protocol):
    """The images of a training and of its validation."""

    @property
    def info(self) -> DatasetInfo: ...

    def open(self, split: Literal["train", "val"], view: EvaluationView | None) -> Shards:
        """Return a split.

        Args:
            view: applied to each image; None: images as they are stored.
        """
        ...


class PreparedData:
    """The prepared splits."""

    def __init__(self) -> None:
        self.info = load_info(DATASET)

    def open(self, split: str, view: EvaluationView | None) -> Shards:
        return open_split(PREPARED / split, self.info, view)

"""The prepared splits: opened only after their bytes were compared with dataset.json."""

from pathlib import Path

from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shards import Shards
from darkroom.digests import check_files
from darkroom.errors import UserError
from darkroom.paths import DATASET

_REMEDY = (
    "`darkroom verify` says whether DVC's cache holds it, `dvc repro --force prepare` makes all anew"
)


def open_split(folder: Path, info: DatasetInfo) -> Shards:
    """Returns the images of a split, after each of its files was hashed.

    Nothing remembers that a file was good: hashing costs little beside what uses the images
    (``benchmarks/integrity.py``), and a remembered check would not see what a disk does.

    Args:
        folder: of the split, such as ``data/prepared/train``.
        info: of the same prepared data.

    Raises:
        UserError: a shard is missing, damaged, of other data, or one too many; or a label is not one of
            the classes.
    """
    recorded = info.shards(folder.name)
    for file in sorted(folder.glob("*.arrow")):
        if file.name not in recorded:
            raise UserError(f"{file}: {DATASET.name} does not record this shard; {_REMEDY}")
    check_files(folder, recorded, DATASET, _REMEDY)
    return Shards(folder, num_classes=len(info.class_names))

"""Stratified train/val/test splits, with scikit-learn."""

from collections import Counter
from collections.abc import Sequence

from sklearn.model_selection import train_test_split

from darkroom.data.collection import ImageFile, Split
from darkroom.errors import UserError


def assign_splits(
    files: Sequence[ImageFile], val_fraction: float, test_fraction: float, seed: int
) -> list[Split]:
    """Gives each file a split: the one its folder names, else one drawn stratified by label.

    Args:
        files: in an order that does not depend on the disk (as ``scan_collection`` gives).
        val_fraction: share of ``files`` for val; of the training folder where test is given.
        test_fraction: share of ``files`` for test; unused where test is given.
        seed: of scikit-learn's shuffle.

    Returns:
        One split for each file.

    Raises:
        UserError: a class is too small to be in every split.
    """
    splits: list[Split] = [file.split or "train" for file in files]
    given = {file.split for file in files}
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if split in given:
            continue
        pool = [index for index, current in enumerate(splits) if current == "train"]
        size = round(fraction * (len(pool) if "test" in given else len(files)))
        for index in _draw(files, pool, size, split, seed):
            splits[index] = split  # type: ignore[call-overload]
    return splits


def _draw(files: Sequence[ImageFile], pool: list[int], size: int, split: str, seed: int) -> list[int]:
    labels = [files[index].label for index in pool]
    counts = Counter(labels)
    small = [f"{label} has {count}" for label, count in sorted(counts.items()) if count < 2]
    possible = len(counts) <= size <= len(pool) - len(counts)
    if not small and possible:
        kept, drawn = train_test_split(pool, test_size=size, random_state=seed, stratify=labels)
        on_both_sides = {files[i].label for i in kept} & {files[i].label for i in drawn}
        small = [f"{name} has {counts[name]}" for name in sorted(counts) if name not in on_both_sides]
        if not small:
            return sorted(drawn)
    why = f"too few images of {', '.join(small)} left" if small else f"{len(counts)} classes"
    raise UserError(
        f"prepare.{split}_fraction: {size} of {len(pool)} images for {split} cannot hold every class "
        f"on both sides ({why}); add images, remove the class, or change the fraction"
    )

"""Whether a training image differs between epochs."""

from darkroom.config.augment import Augment
from darkroom.config.section import Size
from darkroom.config.train import Train


def images_differ(train: Train, augment: Augment, prepared: Size | None) -> bool:
    """Return whether a training image differs between epochs.

    Args:
        prepared: the size of the prepared images; None if it is not known yet.
    """
    return augment.changes_images or resizes_anew(train, augment, prepared)


def resizes_anew(train: Train, augment: Augment, prepared: Size | None) -> bool:
    """Return whether training images are cut or resized to their size anew in each epoch.

    Otherwise training sees them as evaluation does.

    Args:
        prepared: the size of the prepared images; None if it is not known yet.
    """
    sizes = [size for _, size in train.sizes]
    if all(size == prepared for size in sizes):
        return False
    return len(sizes) > 1 or train.evaluate_crop == "centre" or augment.resized_crop is not None

"""Assigns images to train, val and test.

Splits given by the collection are kept. If val or test is not given, it is cut from the other images,
the *pool*. All images of a group get the same split.

- ``given`` cuts nothing.
- ``stratified`` draws every class in the same proportions, with scikit-learn; with
  ``stratify.stratify_groups`` if there are groups of several images, and with
  ``stratify.stratify_iteratively`` if images may have several labels.
- ``stable`` decides for each image by its own content, so that adding images never moves old ones.
"""

from dataclasses import replace

import numpy as np

from darkroom.errors import UserError
from darkroom.preparation.draw import draw_splits
from darkroom.preparation.split_checks import (
    explain_lacking,
    lacking_classes,
    refuse_fold_of_given_splits,
    refuse_incomplete,
    refuse_leaks,
    refuse_small_classes,
    refuse_unknown_classes,
)
from darkroom.preparation.unsplit import TEST, VAL, Ints, SplitRule, Splits, Unsplit


def assign_splits(images: Unsplit, rule: SplitRule) -> Splits:
    """Return the split of each image.

    ``test_fraction`` and ``val_fraction`` are fractions of all images, but ``val_fraction`` is one of
    the pool if test is given. With ``stable`` both are fractions of the pool, because a fraction of
    all images would depend on the other images.

    Returns:
        The split of each image. Only ``stable`` excludes images (``LEFT_OUT``): if a group falls into
        several splits, only its images in the last of them are kept.

    Raises:
        SplitError: a group has images in different given splits, or the method is ``given`` and images
            have no split.
        UserError: a class would be missing in train or in a split that is cut.
    """
    images = replace(images, groups=_number_by_appearance(images.groups))
    refuse_leaks(images)
    refuse_unknown_classes(images)
    if rule.method == "given":
        refuse_incomplete(images)
        cut: tuple[int, ...] = ()
        splits = images.given
    else:
        cut = tuple(split for split in (TEST, VAL) if not (images.given == split).any())
        refuse_fold_of_given_splits(cut, rule)
        refuse_small_classes(images, cut, rule)
        splits = draw_splits(images, cut, rule)
    if lacking_classes(images, splits, cut):
        raise UserError(explain_lacking(images, splits, cut, rule))
    return splits


def _number_by_appearance(groups: Ints) -> Ints:
    """Renumber groups 0, 1, ... in order of appearance, so that their given numbers do not matter."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]

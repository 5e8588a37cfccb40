"""Which images belong together, so that they are not independent of each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "group", "duplicate_of")
"""The columns of manifest.parquet that ``groups_of`` reads."""


def groups_of(manifest: "pa.Table", paths: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the group of each image, or None if each image is by itself.

    Images of one group of the collection belong together, and so do copies, even if what links them is
    an image that is not asked for, such as one of another split.

    Args:
        manifest: ``COLUMNS`` of manifest.parquet, all rows.
        paths: the images, for example of the test split.

    Returns:
        int64 ``(n,)``, 0 to ``num_groups - 1``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers: dict[tuple[str, str], int] = {}
    tested = [numbers.setdefault(("path", path), len(numbers)) for path in paths]
    links = []
    for path, group, original in zip(*(manifest[name].to_pylist() for name in COLUMNS), strict=True):
        for node in (("group", group), ("path", original)):
            if node[1] is not None:
                ends = (("path", path), node)
                links.append([numbers.setdefault(end, len(numbers)) for end in ends])
    if not links:
        return None
    rows, columns = np.array(links).T
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(len(numbers), len(numbers)))
    _, component = connected_components(graph, directed=False)
    names, groups = np.unique(component[tested], return_inverse=True)
    return None if len(names) == len(paths) else groups.astype(np.int64)

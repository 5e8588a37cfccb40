"""Labels that are not classes of the data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_range(labels: NDArray[Any], num_classes: int | None) -> None:
    """Raise ``ValueError`` if a label is not an index of a class; None: of any number of classes."""
    wrong = labels[(labels < 0) | (labels >= (num_classes or np.inf))]
    if len(wrong):
        allowed = f"0 to {num_classes - 1}" if num_classes else "0 and above"
        raise ValueError(f"label {wrong[0]}; allowed are {allowed}")

"""Judge files with fewer bits by the macro F1 that they lose on the test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.export.parity import Parity
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.paired import Paired, compare_units

MAX_NAMED = 10
"""Maximum number of classes that a message names."""

FLOAT_LAYERS = {False: "none", True: "first and last"}
"""What parity.json says of the layers that keep float32."""


@dataclass(frozen=True)
class Judged:
    """A file with fewer bits, compared with the checkpoint on the test images."""

    name: str
    paired: Paired
    """The checkpoint's macro F1 and the file's."""
    safer: bool
    """Whether the first and the last layer keep float32."""

    def to_dict(self) -> dict[str, Any]:
        """Return what parity.json holds in addition."""
        paired = self.paired
        return {
            "float_layers": FLOAT_LAYERS[self.safer],
            "f1_macro_change": round(paired.difference, DIGITS),
            "f1_macro_change_low": round(paired.low, DIGITS),
            "f1_macro_change_high": round(paired.high, DIGITS),
        }

    def summary(self) -> str:
        """Return the change of macro F1 with its interval."""
        paired, layers = self.paired, " (first and last layer in float32)" if self.safer else ""
        return (
            f"{self.name}{layers} changes macro F1 by {paired.difference:+.4f} (95 % interval "
            f"{paired.low:+.4f} to {paired.high:+.4f})"
        )

    def problem(self, class_names: Sequence[str], max_f1_drop: float) -> str:
        """Return a sentence on what the file loses, and in which classes."""
        before, after = np.nan_to_num(self.paired.class_scores)
        worse = [
            index for index in np.argsort(after - before, kind="stable") if after[index] < before[index]
        ]
        rows = [f"{class_names[at]} ({before[at]:.4f} to {after[at]:.4f})" for at in worse[:MAX_NAMED]]
        more = f", and {len(worse) - MAX_NAMED:,} more" if len(worse) > MAX_NAMED else ""
        return (
            f"{self.summary()}; export.max_f1_drop allows no bound below {-max_f1_drop:g}. F1 falls in: "
            f"{', '.join(rows) or 'no class'}{more}"
        )


def settle(
    name: str,
    parity: Parity,
    again: Callable[[], Parity],
    groups: NDArray[np.int64] | None,
    class_names: Sequence[str],
    max_f1_drop: float,
) -> tuple[Parity, Judged]:
    """Return how a file compares; one that loses too much is written again with safer layers.

    Args:
        parity: the differences of the file ``name`` with all layers in fewer bits.
        again: writes the file with its first and last layer in float32, and returns the differences.
        groups: as ``groups_of`` returns.
        max_f1_drop: how far below zero the 95 % interval of the change of macro F1 may reach.

    Raises:
        UserError: the file loses too much with safer layers, too.
    """
    for safer in (False, True):
        judged = Judged(name, compare_units(parity.answers.units(groups)), safer)
        if judged.paired.low >= -max_f1_drop:
            return parity, judged
        problem = judged.problem(class_names, max_f1_drop)
        if not safer:
            print(
                f"export: {problem}\n"
                f"export: {name}: trying again with the first and last layer in float32"
            )
            parity = again()
    raise UserError(
        f"export: {problem}. Remove the format from "
        "export.formats, or allow a larger drop; a small test split cannot show that a drop is small"
    )

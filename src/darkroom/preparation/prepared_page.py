"""What the reports of ``prepare`` have in common, whatever the kind of input."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.collection.entries import SPLITS
from darkroom.dataset.info import DatasetInfo
from darkroom.inputs import INPUT_WORDS
from darkroom.preparation.figures import draw_class_histogram
from darkroom.reporting.page import embed_png, write_page


def write_prepared_page(
    template: str, folder: Path, info: DatasetInfo, totals: Mapping[str, int], **values: Any
) -> None:
    """Write report.html and classes.png into ``folder``.

    Args:
        template: the name of a file in this package.
        totals: numbers for the headline, after the sizes of the splits.
        values: further values for the template.
    """
    chart = folder / "classes.png"
    draw_class_histogram(info.counts, chart, INPUT_WORDS[info.input].several)
    numbers: dict[str, int] = {split: info.num_images(split) for split in SPLITS}
    numbers |= totals
    write_page(
        Path(__file__).with_name(template),
        folder / "report.html",
        headline=[(name, f"{total:,}") for name, total in numbers.items()],
        info=info,
        classes={name: [info.counts[split][name] for split in SPLITS] for name in info.class_names},
        splits=SPLITS,
        classes_picture=embed_png(chart),
        **values,
    )

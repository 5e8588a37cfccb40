"""The report of ``prepare`` on a table: what its columns hold, to look at before training."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from darkroom.collection.entries import SPLITS
from darkroom.dataset.info import DatasetInfo
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision
from darkroom.preparation.figures import draw_class_histogram
from darkroom.preparation.rows import ReadRows
from darkroom.reporting.page import embed_png, write_page
from darkroom.tabular.values import without_missing_words

MAX_VALUES = 5
"""Maximum number of categories of a column that are named."""
MAX_PAIRS = 100
"""Maximum number of pairs of equal rows in the list."""


def write_row_report(
    candidates: Candidates, decision: Decision, info: DatasetInfo, folder: Path, remarks: list[str]
) -> None:
    """Write report.html and classes.png into ``folder``."""
    rows, encoding = candidates.images, info.encoding
    assert isinstance(rows, ReadRows)
    assert encoding is not None
    draw_class_histogram(info.counts, folder / "classes.png", "rows")
    numbers = {number.name: number for number in encoding.numbers}
    categories = {category.name: category.values for category in encoding.categories}
    is_missing_word = {"number", "date", "boolean"}
    columns = []
    for column in rows.columns:
        cells = rows.table.columns[column.name]
        known = without_missing_words(cells) if column.kind in is_missing_word else cells
        number = numbers.get(column.name)
        values = [value or "(missing)" for value in categories.get(column.name, ())]
        more = len(values) - MAX_VALUES
        shown = ", ".join(values[:MAX_VALUES]) + (f" and {more:,} more" if more > 0 else "")
        columns.append(
            {
                "name": column.name,
                "kind": column.kind,
                "missing": known.null_count,
                "different": pc.count_distinct(known).as_py(),
                "median": number and f"{number.median:.6g}",
                "mean": number and f"{number.mean:.6g}",
                "std": number and f"{number.std:.6g}",
                "about": column.reason or shown,
            }
        )
    pairs = decision.duplicates
    splits = [*SPLITS, "excluded"]
    write_page(
        Path(__file__).with_name("row_report.html.j2"),
        folder / "report.html",
        title=f"{len(candidates):,} rows of {len(info.class_names):,} classes",
        subtitle=f"From {rows.table.name}: {len(encoding.columns):,} columns to predict from. Look at"
        " the data before training.",
        headline=[
            *((split, f"{info.num_images(split):,}") for split in SPLITS),
            ("pairs of equal rows", f"{len(pairs):,}"),
        ],
        remarks=remarks,
        info=info,
        classes={name: [info.counts[split][name] for split in SPLITS] for name in info.class_names},
        splits=SPLITS,
        picture=embed_png(folder / "classes.png"),
        columns=columns,
        pairs=[
            [(candidates.path(i), candidates.label(i), splits[decision.splits[i]]) for i in pair]
            for pair in np.stack([pairs.first, pairs.second], axis=1)[:MAX_PAIRS].tolist()
        ],
        num_pairs=len(pairs),
    )

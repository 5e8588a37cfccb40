"""The report of ``prepare`` on a table: what its columns hold, to look at before training."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from darkroom.collection.entries import SPLITS
from darkroom.preparation.prepared import PreparedData
from darkroom.preparation.prepared_page import write_prepared_page
from darkroom.preparation.rows import ReadRows
from darkroom.tabular.values import without_missing_words

MAX_VALUES = 5
"""Maximum number of categories of a column that are named."""
MAX_PAIRS = 100
"""Maximum number of pairs of equal rows in the list."""


def write_row_report(prepared: PreparedData, folder: Path, remarks: list[str]) -> None:
    """Write report.html and classes.png into ``folder``."""
    candidates, decision, info = prepared.candidates, prepared.decision, prepared.info
    rows, encoding = candidates.images, info.encoding
    assert isinstance(rows, ReadRows)
    assert encoding is not None
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
    write_prepared_page(
        "row_report.html.j2",
        folder,
        info,
        title=f"{len(candidates):,} rows of {len(info.class_names):,} classes",
        subtitle=f"From {rows.table.name}: {len(encoding.columns):,} columns to predict from. Look at"
        " the data before training.",
        totals={"pairs of equal rows": len(pairs)},
        remarks=remarks,
        columns=columns,
        pairs=[
            [(candidates.path(i), candidates.label(i), splits[decision.splits[i]]) for i in pair]
            for pair in np.stack([pairs.first, pairs.second], axis=1)[:MAX_PAIRS].tolist()
        ],
        num_pairs=len(pairs),
    )

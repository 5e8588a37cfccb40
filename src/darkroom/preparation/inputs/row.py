"""Preparation of the rows of a table: kinds of columns, and one float64 vector per row."""

from collections.abc import Iterator
from pathlib import Path

from darkroom.collection.collection import Collection
from darkroom.collection.entries import SPLITS
from darkroom.config.prepare import Prepare, PrepareConfig
from darkroom.dataset.info import DatasetInfo
from darkroom.errors import counted, listed
from darkroom.preparation.prepared import PreparedData
from darkroom.preparation.remarks import on_classes, on_splits
from darkroom.preparation.row_report import write_row_report
from darkroom.preparation.rows import ReadRows, read_labelled_rows
from darkroom.preparation.series import on_groups
from darkroom.progress import spinner
from darkroom.tabular.encoding import encode
from darkroom.tabular.leaks import telling_columns

keeps_conflicts = True


def read(collection: Collection, config: PrepareConfig, cache: Path, workers: int) -> ReadRows:
    assert collection.rows_of is not None
    with spinner("read rows"):
        return read_labelled_rows(collection, collection.rows_of, config.data.columns)


def threshold(options: Prepare) -> None:
    return None


def remarks(prepared: PreparedData) -> Iterator[str]:
    candidates, decision, encoding = prepared.candidates, prepared.decision, prepared.info.encoding
    rows = candidates.images
    assert isinstance(rows, ReadRows)
    assert encoding is not None
    if (candidates.groups >= 0).any():
        yield on_groups(candidates, decision)
    if ignored := [
        f"{listed([c.name])}: {c.reason or 'set'}"
        for c in rows.columns
        if c.name not in encoding.columns
    ]:
        yield f"Columns that are ignored: {'; '.join(ignored)}."
    pairs = decision.duplicates
    differ = int((~candidates.agree(pairs.first, pairs.second)).sum())
    if differ:
        yield (
            f"Pairs of equal rows with different labels: {differ:,}. No model can predict both; a column"
            " that tells them apart may be missing."
        )
    is_train = decision.splits == SPLITS.index("train")
    train = candidates.reads[is_train]
    numbers, codes = (values[train] for values in encode(encoding, rows.table))
    for name, score in telling_columns(encoding, numbers, codes, candidates.labels[is_train]).items():
        yield (
            f"The column {listed([name])} alone predicts the label (mean recall {score:.3f}). If it is"
            " not known when the model is used, it is a leak: set it to ignored in data.columns."
        )


def write_report(
    prepared: PreparedData, manifest: Path, folder: Path, more_remarks: list[str]
) -> list[str]:
    remarked = [*on_classes(prepared.info), *on_splits(prepared.info), *more_remarks]
    write_row_report(prepared, folder, remarked)
    return remarked


def size(info: DatasetInfo) -> str:
    assert info.encoding is not None
    numbers, categories = len(info.encoding.numbers), len(info.encoding.categories)
    parts = [counted(numbers, "number")] * (numbers > 0)
    parts += [f"{categories:,} categor{'y' if categories == 1 else 'ies'}"] * (categories > 0)
    return " and ".join(parts)

"""Reads tables of predictions to test for drift: of ``darkroom predict``, or predictions.parquet."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv as pa_csv

from darkroom.comparison.drift import Sample, counted_labels
from darkroom.errors import UserError, brief, counted, listed

SEPARATOR = "|"
"""Joins several labels in a cell."""

# of darkroom predict, which adds predicted_ to a name that a table of rows has already, and of evaluate
ONE_CLASS = ("predicted_class", "class", "pred")
SEVERAL_LABELS = ("predicted_labels", "labels", "preds")
NUMBERS = {
    "confidence": ("predicted_probability", "probability"),
    "unfamiliarity": ("predicted_unfamiliarity", "unfamiliarity"),
}


def load_sample(path: Path) -> Sample:
    """Read a table of predictions, CSV or, if its name ends with ``.parquet``, Parquet.

    Raises:
        UserError: it cannot be read, has no column with classes or no row, or a number is missing.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    try:
        names = _names_in_parquet(path) if is_parquet else _names_in_csv(path)
        answer = _first(SEVERAL_LABELS, names) if _is_several(names) else _first(ONE_CLASS, names)
        if answer is None:
            raise UserError(
                f"{path}: has no predicted classes, but the columns {listed(names, 8) or 'none'}; "
                "give a table that `darkroom predict --out` wrote, or "
                "reports/evaluate/predictions.parquet (tables of masks are not supported)"
            )
        found = {kind: _first(allowed, names) for kind, allowed in NUMBERS.items()}
        numbers = {kind: name for kind, name in found.items() if name is not None}
        wanted = [answer, *numbers.values()]
        table = _read_parquet(path, wanted) if is_parquet else _read_csv(path, answer, wanted)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a table of predictions ({brief(error)})") from None
    if not len(table):
        raise UserError(f"{path}: has no predictions")
    answers = _counts(table[answer])
    return Sample(
        answers,
        counted_labels(answers, SEPARATOR) if answer in SEVERAL_LABELS else answers,
        {kind: _numbers(path, name, table[name]) for kind, name in numbers.items()},
    )


def _is_several(names: list[str]) -> bool:
    return _first(ONE_CLASS, names) is None


def _first(allowed: tuple[str, ...], names: list[str]) -> str | None:
    return next((name for name in allowed if name in names), None)


def _names_in_csv(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def _names_in_parquet(path: Path) -> list[str]:
    return [str(name) for name in pq.read_schema(path).names]


def _read_parquet(path: Path, wanted: list[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(wanted, use_threads=False)


def _read_csv(path: Path, answer: str, wanted: list[str]) -> pa.Table:
    types = {name: pa.string() if name == answer else pa.float64() for name in wanted}
    return pa_csv.read_csv(
        path,
        pa_csv.ReadOptions(use_threads=False),
        pa_csv.ParseOptions(newlines_in_values=True),
        pa_csv.ConvertOptions(
            column_types=types, include_columns=wanted, null_values=[""], strings_can_be_null=False
        ),
    )


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    counts: Counter[str] = Counter()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        for labels in column.to_pylist():
            counts[SEPARATOR.join(labels)] += 1
        return counts
    values: Any = pc.value_counts(column)
    for entry in values.to_pylist():
        counts[f"{entry['values']}"] += entry["counts"]
    return counts


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = np.asarray(column.to_numpy(), np.float64)
    if bad := int((~np.isfinite(numbers)).sum()):
        raise UserError(f"{path}: {name} is not a number in {counted(bad, 'row')}")
    return numbers

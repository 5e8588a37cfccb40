"""Classify the rows of a table with an exported folder, using ONNX Runtime but not PyTorch."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkroom.collection.rows import MAX_TABLE_BYTES, READERS, column_names
from darkroom.errors import UserError, brief, did_you_mean, listed
from darkroom.prediction.decisions import Decisions, Failure, Prediction
from darkroom.prediction.description import RowDescription, load_described
from darkroom.prediction.onnx_session import OUTPUT, UNFAMILIARITY, open_session
from darkroom.prediction.remote import InputFile, RemoteFile, TooLargeError, file_of
from darkroom.tabular.encoding import named_values
from darkroom.tabular.kinds import misfits
from darkroom.tabular.table import Table, read_table

ROWS_AT_ONCE = 4_096


def table_content(file: InputFile) -> bytes:
    """Return the bytes of a table.

    Raises:
        UserError: it has another ending, is too large, or cannot be read.
    """
    if file.suffix.lower() not in READERS:
        raise UserError(f"{file}: the model takes rows of a table, a file with {listed(READERS)}")
    try:
        if isinstance(file, RemoteFile):
            return file.read(MAX_TABLE_BYTES)
        if (size := file.stat().st_size) > MAX_TABLE_BYTES:
            raise TooLargeError(size)
        return file.read_bytes()
    except TooLargeError as error:
        raise UserError(f"{file}: {error}; at most {MAX_TABLE_BYTES:,} are read") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None


class RowPredictor(Decisions):
    """An exported model of rows.

    Args:
        folder, abstains: as for ``Predictor``.

    Raises:
        UserError: a file is missing, damaged, unreadable, or from another export, or the model has no
            threshold below which it could abstain.
    """

    def __init__(self, folder: Path, abstains: bool = False) -> None:
        described, description, self._model = load_described(RowDescription, folder)
        super().__init__(described, description, abstains)
        self._encoding = described.encoding
        self._session = open_session(self._model)
        outputs = [one.name for one in self._session.get_outputs()]
        inputs = {one.name for one in self._session.get_inputs()}
        if OUTPUT not in outputs or inputs != set(self._encoding.names):
            raise UserError(f"{description}: describes another model than {self._model}")
        self._outputs = [name for name in (OUTPUT, UNFAMILIARITY) if name in outputs]

    @property
    def has_unfamiliarity(self) -> bool:
        """Whether predictions have an unfamiliarity."""
        return UNFAMILIARITY in self._outputs

    def run_blank(self) -> None:
        """Classify one row without any value, to measure the time."""
        numbers = {number.name: np.full(1, np.nan) for number in self._encoding.numbers}
        categories = {one.name: np.array([""], object) for one in self._encoding.categories}
        self._session.run(self._outputs, {**numbers, **categories})

    def load(self, file: InputFile) -> Table:
        """Return the rows of a table that has the columns of the model, and any others.

        Raises:
            UserError: the table cannot be read, or lacks a column.
        """
        return self.parse(f"{file}", table_content(file))

    def parse(self, name: str, content: bytes) -> Table:
        """Return the rows of a table as ``load`` does.

        Args:
            name: of the file, whose ending tells the format.
            content: of the file.
        """
        columns = set(self._encoding.columns)
        found = column_names(name, content, columns)
        if missing := sorted(columns - set(found)):
            hint = did_you_mean(missing[0], found)
            raise UserError(f"{name}: lacks columns that the model takes: {listed(missing)}{hint}")
        return read_table(name, content, {f"the column {column}": column for column in columns})

    def predict(
        self, table: Table, top_k: int | None = None, start: int = 0
    ) -> Iterator[Prediction | Failure]:
        """Yield the outcome of each row in order; a bad cell does not stop the others.

        A category that the train split lacks has no influence; see ``RowInput``.

        Args:
            table: as ``load`` returns it.
            top_k: number of classes; None: those that the model decides for.
            start: the first row.
        """
        for first in range(start, len(table), ROWS_AT_ONCE):
            rows = range(first, min(first + ROWS_AT_ONCE, len(table)))
            problems = self._problems(table, rows)
            good = [row for row in rows if row not in problems]
            outcomes = iter(self._outcomes(table, good, top_k))
            for row in rows:
                if row in problems:
                    yield Failure(file_of(table.where(row)), problems[row])
                else:
                    yield next(outcomes)

    def _problems(self, table: Table, rows: range) -> dict[int, str]:
        """Return what is wrong with the first bad cell of each row that has one."""
        problems: dict[int, str] = {}
        for name, kind in self._encoding.columns.items():
            cells = table.columns[name].slice(rows.start, len(rows))
            for place in np.flatnonzero(misfits(cells, kind)).tolist():
                problem = f"{name}: {cells[place].as_py()[:100]!r} is not a {kind}"
                problems.setdefault(rows.start + place, problem)
        return problems

    def _outcomes(
        self, table: Table, rows: list[int], top_k: int | None
    ) -> Iterator[Prediction | Failure]:
        if not rows:
            return
        # a matrix product with one row has a kernel of its own, which rounds differently
        taken = pa.array(rows if len(rows) > 1 else rows * 2)
        some = Table(
            table.name, {name: cells.take(taken) for name, cells in table.columns.items()}, table.lines
        )
        try:
            found, *others = self._session.run(self._outputs, named_values(self._encoding, some))
        except Exception as error:  # ONNX Runtime's exceptions share no other base class
            raise UserError(f"{self._model}: fails on a row ({brief(error)})") from None
        if found.shape != (len(taken), len(self.class_names)):
            raise UserError(f"{self._model}: returned {found.shape} for {len(taken):,} rows")
        texts = {name: pc.fill_null(cells, "") for name, cells in some.columns.items()}
        for position, row in enumerate(rows):
            path = Path(table.where(row))
            if not np.isfinite(found[position]).all():
                yield Failure(path, "the model's probabilities for it are not finite")
                continue
            score = float(others[0][position]) if others else None
            cells = tuple(column[position].as_py() for column in texts.values())
            yield replace(self.prediction(path, found[position], score, top_k), cells=cells)

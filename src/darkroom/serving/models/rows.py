"""Serves a model that classifies the rows of a table."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from darkroom.collection.rows import READERS
from darkroom.errors import UserError, listed
from darkroom.prediction.answers import top_of
from darkroom.prediction.decisions import Failure
from darkroom.prediction.rows import RowPredictor
from darkroom.serving.engine import Engine
from darkroom.serving.limits import MAX_ROWS
from darkroom.serving.models.classes import counted_answer
from darkroom.serving.models.interface import Info, Options
from darkroom.serving.refusal import Refusal
from darkroom.serving.uploads import JSON, Upload, parse_json
from darkroom.tabular.table import Table

_SUFFIXES = {
    "text/csv": ".csv",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
}


class RowModel:
    """An exported model of rows; a request is one table and one batch."""

    raw_types: tuple[str, ...] = tuple(_SUFFIXES)
    shown: str = "rows"
    names_classes: bool = True

    def __init__(self, predictor: RowPredictor, info: Info, options: Options, engine: Engine) -> None:
        self.info = info
        self._predictor, self._engine = predictor, engine

    def warm_up(self) -> None:
        """Do nothing: opening the model has run it, and rows are fast."""

    async def answers(self, uploads: Sequence[Upload], top_k: int) -> list[dict[str, Any]]:
        if len(uploads) != 1:
            raise Refusal(422, "the request has several files", "send one table per request")
        loop = asyncio.get_running_loop()
        with self._engine.images.take(1):
            return await loop.run_in_executor(self._engine.inference, self._answers, uploads[0], top_k)

    def _answers(self, upload: Upload, top_k: int) -> list[dict[str, Any]]:
        table = self._table(upload)
        if len(table) > MAX_ROWS:
            raise Refusal(
                413,
                f"the table has {len(table):,} rows: at most {MAX_ROWS:,} are accepted",
                "send them in several requests, or use `darkroom predict`",
            )
        self._engine.monitoring.batch(len(table))
        decided, ranked = (list(self._predictor.predict(table, k)) for k in (None, top_k))
        answers = []
        for row, (outcome, best) in enumerate(zip(decided, ranked, strict=True)):
            line = int(table.lines[row])
            if isinstance(outcome, Failure) or isinstance(best, Failure):
                self._engine.monitoring.failure()
                reason = outcome.reason if isinstance(outcome, Failure) else ""
                answers.append(
                    {"row": line, "error": reason, "what_to_do": "correct the cell, or leave it empty"}
                )
                continue
            answers.append(
                {
                    "row": line,
                    **counted_answer(outcome, self._predictor, self._engine, self.info),
                    **top_of(best.classes, best.probabilities),
                }
            )
        return answers

    def _table(self, upload: Upload) -> Table:
        if upload.media_type == JSON and upload.name == "rows":
            upload = _as_lines(upload)
        suffix = PurePosixPath(upload.name).suffix.lower()
        if suffix not in READERS:
            media_type = upload.media_type.partition(";")[0].strip().lower()
            suffix = _SUFFIXES.get(media_type, ".csv")
            upload = replace(upload, name=f"table{suffix}")
        try:
            return self._predictor.parse(upload.name, upload.content)
        except UserError as error:
            raise Refusal(
                422, f"{error}", f"send a table with the columns of the model, as {listed(READERS)}"
            ) from None


def _as_lines(upload: Upload) -> Upload:
    rows = parse_json(upload.content)["rows"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refusal(
            422, "the JSON has no rows as expected", 'send {"rows": [{"COLUMN": VALUE, ...}, ...]}'
        )
    lines = "\n".join(json.dumps(row) for row in rows)
    return Upload("rows.jsonl", lines.encode())

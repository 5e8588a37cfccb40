"""Answers for the tables that MLflow passes on: classes or masks of images, and classes of rows."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.decoding.bad_image import BadImage
from darkroom.errors import UserError
from darkroom.models.exported import load_description
from darkroom.prediction.answers import advice_on, answer_of, mask_answer, most_probable, top_of
from darkroom.prediction.decisions import Failure
from darkroom.prediction.predictor import BATCH_SIZE, Predictor
from darkroom.prediction.pyfunc.cells import Given, Unusable, images_in, is_missing, read
from darkroom.prediction.pyfunc.options import Options
from darkroom.prediction.rows import RowPredictor
from darkroom.prediction.tiles import NOT_FINITE, NotFiniteError
from darkroom.targets import Target, from_file

_OTHER = "send another image"


class Answering(Protocol):
    """A loaded model. One class for each kind of answer."""

    def answers(self, table: pd.DataFrame, top_k: int) -> list[dict[str, Any] | Unusable]:
        """Return an answer for each image or row.

        Raises:
            Unusable: nothing in the table can be answered.
        """
        ...


class ClassModel:
    """Predicts the classes of images."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._options = options
        self._predictor = Predictor(folder, options.tiff, options.abstain)

    def answers(self, table: pd.DataFrame, top_k: int) -> list[dict[str, Any] | Unusable]:
        images = images_in(table)
        answers: list[dict[str, Any] | Unusable] = []
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(images), BATCH_SIZE):
                batch = images[start : start + BATCH_SIZE]
                decoded = list(pool.map(self._decode, batch))
                inputs = [one for one in decoded if not isinstance(one, Unusable)]
                outputs = iter(self._predictor.outputs(inputs))
                for given, one in zip(batch, decoded, strict=True):
                    if isinstance(one, Unusable):
                        answers.append(one)
                    else:
                        answers.append(self._answer(given, *next(outputs), top_k))
        return answers

    def _decode(self, given: Given) -> NDArray[np.uint8] | Unusable:
        try:
            return self._predictor.input_of(read(given, self._options.paths))
        except BadImage as error:
            return Unusable(f"{given.name}: {error}", advice_on(error))
        except Unusable as error:
            return error

    def _answer(
        self,
        given: Given,
        probabilities: NDArray[np.float32],
        unfamiliarity: float | None,
        top_k: int,
    ) -> dict[str, Any] | Unusable:
        if not np.isfinite(probabilities).all():
            return Unusable(f"{given.name}: {NOT_FINITE}", _OTHER)
        decided = self._predictor.prediction(Path(given.name), probabilities, unfamiliarity, None)
        best = most_probable(self._predictor, probabilities, top_k)
        return {"file": given.name, **answer_of(decided, self._predictor), **best}


class MaskModel:
    """Predicts the masks of images."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._options = options
        self._predictor = Predictor(folder, options.tiff, options.abstain, masks=True)

    def answers(self, table: pd.DataFrame, top_k: int) -> list[dict[str, Any] | Unusable]:
        return [self._answer(given, top_k) for given in images_in(table)]

    def _answer(self, given: Given, top_k: int) -> dict[str, Any] | Unusable:
        try:
            content = read(given, self._options.paths)
            mask = self._predictor.mask_of(content, self._options.tile)
        except BadImage as error:
            return Unusable(f"{given.name}: {error}", advice_on(error))
        except NotFiniteError as error:
            return Unusable(f"{given.name}: {error}", _OTHER)
        except Unusable as error:
            return error
        return {"file": given.name, **mask_answer(mask, self._predictor.class_names, top_k)}


class RowModel:
    """Predicts the classes of rows."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._predictor = RowPredictor(folder, options.abstain)

    def answers(self, table: pd.DataFrame, top_k: int) -> list[dict[str, Any] | Unusable]:
        if not len(table):
            raise Unusable("the table has no rows", "send at least one")
        rows = _one_per_row(table).to_dict("records")
        lines = "\n".join(json.dumps(_plain(row)) for row in rows)
        try:
            parsed = self._predictor.parse("rows.jsonl", lines.encode())
        except UserError as error:
            raise Unusable(f"{error}", "send the columns of the model") from None
        decided, ranked = (list(self._predictor.predict(parsed, k)) for k in (None, top_k))
        answers: list[dict[str, Any] | Unusable] = []
        for row, (outcome, best) in enumerate(zip(decided, ranked, strict=True), start=1):
            if isinstance(outcome, Failure) or isinstance(best, Failure):
                reason = outcome.reason if isinstance(outcome, Failure) else ""
                answers.append(Unusable(f"row {row}: {reason}", "correct the cell, or leave it empty"))
            else:
                top = top_of(best.classes, best.probabilities)
                answers.append({"row": row, **answer_of(outcome, self._predictor), **top})
        return answers


_OF_IMAGES: dict[Target, type[ClassModel] | type[MaskModel]] = {
    "one_class": ClassModel,
    "several_labels": ClassModel,
    "mask": MaskModel,
}


def load_answering(folder: Path, options: Options) -> Answering:
    """Return the model in a folder with ``model.json`` and ``model.onnx``.

    Raises:
        UserError: a file is missing, damaged, or from another export; or the model does not fit the
            options.
    """
    values = from_file(load_description(folder)[0])
    if "encoding" in values:
        return RowModel(folder, options)
    return _OF_IMAGES[values.get("target", "one_class")](folder, options)


def _one_per_row(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without lists in cells.

    MLflow makes one row of ``{"inputs": {"colour": ["red", "blue"]}}``.
    """
    if not table.map(lambda cell: isinstance(cell, list)).all(axis=None):
        return table
    try:
        return table.explode(list(table.columns))
    except ValueError:
        raise Unusable("the columns have different lengths", "send a value per row") from None


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Return the cells of a row as values for JSON; what JSON lacks becomes text."""
    values = {}
    for name, value in row.items():
        if is_missing(value):
            value = None
        elif isinstance(value, np.generic):
            value = value.item()
        is_plain = value is None or isinstance(value, (bool, int, float, str))
        values[f"{name}"] = value if is_plain else f"{value}"
    return values

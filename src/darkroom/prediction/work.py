"""What a model does with all inputs of ``darkroom predict``, for each kind of result."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from darkroom.cluster import Cluster
from darkroom.prediction.cells import label_columns, label_rows, mask_columns, mask_rows
from darkroom.prediction.columns import Column
from darkroom.prediction.decisions import Failure
from darkroom.prediction.masks import mask_files
from darkroom.prediction.predictor import BATCH_SIZE, NUM_CANVASES, Predictor
from darkroom.prediction.remote import InputFile
from darkroom.prediction.rows import ROWS_AT_ONCE, RowPredictor, table_content
from darkroom.prediction.tasks import predict_on

Outcomes = Iterator[list[str] | Failure]


@dataclass(frozen=True)
class Work:
    """How inputs become rows of a table."""

    columns: list[Column]
    outcomes: Callable[[Iterable[InputFile], int, bool], Outcomes]
    """Yields the outcome of each input in order. Its arguments are all files to classify (of a table of
    rows, they are ignored), the number of inputs that are skipped because they are done, and whether
    others may be done again because the command was stopped.
    """
    at_once: int
    """Number of inputs that the model gets together."""
    num_rows: int | None = None
    """Number of rows of the table that is classified; None: the inputs are images."""
    digest: str = ""
    """SHA-256 of the table that is classified."""

    @property
    def unit(self) -> str:
        """What an input is called."""
        return "image" if self.num_rows is None else "row"


def label_work(
    model: Path,
    tiff: bool,
    top_k: int | None,
    abstain: bool,
    format_name: str,
    cluster: Cluster | None = None,
) -> Work:
    """Return the work of a model of classes or labels; raise UserError as ``Predictor`` does.

    Args:
        cluster: where images are classified; None: in this process.
    """
    predictor = Predictor(model, tiff, abstain, format_name=format_name)

    def outcomes(paths: Iterable[InputFile], start: int, resumes: bool) -> Outcomes:
        rest = islice(paths, start, None)
        if cluster is None:
            predicted = predictor.predict(rest, top_k)
        else:
            predicted = predict_on(cluster, model, tiff, abstain, format_name, rest, top_k)
        return label_rows(predictor, predicted, top_k, abstain)

    return Work(label_columns(predictor, ["path"], top_k, abstain), outcomes, BATCH_SIZE)


def row_work(model: Path, table: InputFile, top_k: int | None, abstain: bool) -> Work:
    """Return the work of a model of rows; raise UserError as ``RowPredictor`` does."""
    predictor = RowPredictor(model, abstain)
    content = table_content(table)
    loaded = predictor.parse(f"{table}", content)

    def outcomes(paths: Iterable[InputFile], start: int, resumes: bool) -> Outcomes:
        return label_rows(predictor, predictor.predict(loaded, top_k, start), top_k, abstain)

    columns = label_columns(predictor, list(loaded.columns), top_k, abstain)
    return Work(columns, outcomes, ROWS_AT_ONCE, len(loaded), hashlib.sha256(content).hexdigest())


def mask_work(
    model: Path, masks: Path, tile: bool, force: bool, tiff: bool, abstain: bool, format_name: str
) -> Work:
    """Return the work of a model of masks, which writes them into a folder.

    The outcomes raise UserError as ``mask_files`` does.

    Raises:
        UserError: as ``Predictor`` does.
    """
    predictor = Predictor(model, tiff, abstain, masks=True, format_name=format_name)

    def outcomes(paths: Iterable[InputFile], start: int, resumes: bool) -> Outcomes:
        images = list(paths)  # the place of a mask depends on all of them
        files = mask_files(images, masks, model, force or resumes)[start:]
        predicted = predictor.predict_masks(images[start:], tile)
        return mask_rows(predictor.class_names, predicted, files)

    return Work(mask_columns(predictor.class_names), outcomes, NUM_CANVASES)

"""The columns of tables of predictions, and the cells of each row."""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fsencode
from pathlib import Path

from darkroom.prediction.columns import Column
from darkroom.prediction.decisions import Failure, Prediction
from darkroom.prediction.masks import class_shares, write_mask
from darkroom.prediction.predictor import PredictedMask, Predictor
from darkroom.prediction.rows import RowPredictor


def label_columns(
    predictor: Predictor | RowPredictor, first: Sequence[str], top_k: int | None, abstain: bool
) -> list[Column]:
    """Return the columns of a table with the classes of each image or row.

    Args:
        first: names of the first columns: the path of an image, or the columns of a table.
    """
    best = (Column("class"), Column("probability", "number"))
    columns = list(predictor.target.columns if top_k is None else best)
    for rank in range(2, min(top_k or 1, len(predictor.class_names)) + 1):
        columns += [Column(f"{column.name}_{rank}", column.kind) for column in best]
    columns += [Column("unsure")] if predictor.leaves_open else []
    columns += [Column("set")] if abstain and predictor.has_sets else []
    if predictor.has_unfamiliarity:
        columns += [Column("unfamiliarity", "number"), Column("unfamiliar", "flag")]
    while taken := set(first) & {column.name for column in columns}:
        columns = [
            Column(f"predicted_{column.name}", column.kind) if column.name in taken else column
            for column in columns
        ]
    return [*map(Column, first), *columns]


def label_rows(
    predictor: Predictor | RowPredictor,
    outcomes: Iterable[Prediction | Failure],
    top_k: int | None,
    abstain: bool,
) -> Iterator[list[str] | Failure]:
    """Yield the cells of each row below ``label_columns``."""
    has_sets = abstain and predictor.has_sets
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            yield outcome
            continue
        numbers = [f"{p:.6f}" for p in outcome.probabilities]
        if top_k is None:
            cells = predictor.target.cells(outcome.classes, numbers)
        else:
            cells = [c for pair in zip(outcome.classes, numbers, strict=True) for c in pair]
        cells += ["|".join(outcome.unsure)] if predictor.leaves_open else []
        cells += ["|".join(outcome.possible)] if has_sets else []
        if (score := outcome.unfamiliarity) is not None:
            cells += [f"{score:.4f}", "true" if score > 1 else "false"]
        yield [*(outcome.cells or [shown(outcome.path)]), *cells]


def mask_columns(class_names: Sequence[str]) -> list[Column]:
    """Return the columns of a table with the mask of each image, and the shares of the classes."""
    return [Column("path"), Column("mask"), *(Column(name, "number") for name in class_names)]


def mask_rows(
    class_names: Sequence[str],
    outcomes: Iterable[PredictedMask | Failure],
    files: Iterable[Path],
) -> Iterator[list[str] | Failure]:
    """Write each mask to its file, and yield the cells of its row below ``mask_columns``."""
    for outcome, file in zip(outcomes, files, strict=True):
        if isinstance(outcome, Failure):
            yield outcome
            continue
        write_mask(outcome.mask, file)
        shares = [f"{share:.6f}" for share in class_shares(outcome.mask, len(class_names)).tolist()]
        yield [shown(outcome.path), shown(file), *shares]


def shown(path: PathLike[str]) -> str:
    """Return a path as text, in which bytes that are not UTF-8 become the replacement character."""
    return fsencode(f"{path}").decode("utf-8", "replace")

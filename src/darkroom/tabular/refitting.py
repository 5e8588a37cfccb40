"""Encodings by the statistics of some rows that another encoding has encoded already."""

import numpy as np
from numpy.typing import NDArray

from darkroom.inputs import Category, Encoding
from darkroom.tabular.encoding import UNKNOWN, fit_number, is_constant_part


def refit(encoding: Encoding, values: NDArray[np.float64]) -> Encoding:
    """Return the encoding that ``fit_encoding`` would return if these rows were the train split.

    A category, or a part of a date, that the rows of the old train split lack stays unknown.

    Args:
        values: some rows as ``encoding`` encodes them, ``(n, encoding.size)``, at least one.
    """
    numbers = [
        fit_number(number.name, np.ascontiguousarray(column))
        for number, column in zip(encoding.numbers, values.T, strict=False)
        if not is_constant_part(number.name, column, encoding.columns)
    ]
    categories = []
    for category, codes in zip(encoding.categories, values.T[len(encoding.numbers) :], strict=True):
        here = [int(code) - 1 for code in np.unique(codes) if code != UNKNOWN]
        known = tuple(category.values[place] for place in here)
        categories.append(Category(name=category.name, values=known))
    return Encoding(columns=encoding.columns, numbers=tuple(numbers), categories=tuple(categories))


def recode(values: NDArray[np.float64], old: Encoding, new: Encoding) -> NDArray[np.float64]:
    """Return rows as ``new`` encodes them.

    Args:
        values: as ``old`` encodes them, ``(n, old.size)``.
        new: as ``refit`` returns it.

    Returns:
        float64 ``(n, new.size)``.
    """
    places = {name: place for place, name in enumerate(old.names)}
    known = {category.name: category.values for category in old.categories}
    columns = [values[:, places[number.name]] for number in new.numbers]
    for category in new.categories:
        codes = {value: code for code, value in enumerate(category.values, 1)}
        table = np.array([UNKNOWN, *(codes.get(value, UNKNOWN) for value in known[category.name])])
        columns.append(table[values[:, places[category.name]].astype(np.int64)])
    return np.column_stack(columns).astype(np.float64)

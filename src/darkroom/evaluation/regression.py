"""Logistic regressions of scikit-learn, from strong to weak regularisation, in bounded time."""

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of scikit-learn's ``C``, the inverse of the regularisation strength."""

MAX_ITERATIONS = 100
MIN_ITERATIONS = 20
MAX_PRODUCTS = 2e10
"""Maximum number of multiplications per fit; larger problems get fewer iterations."""

Vectors = NDArray[np.float64]
"""``(n, num_features)``"""
Probabilities = Callable[[Vectors], NDArray[np.float64]]
"""Returns probabilities of classes or labels, ``(n, num_classes)``, 0..1."""


def one_thread() -> threadpool_limits:
    """Return a context in which BLAS uses one thread, so that sums do not depend on the machine."""
    return threadpool_limits(1, user_api="blas")


def make_reduction(name: str, vectors: Vectors) -> Pipeline:
    """Return fitted transformations after which the regression converges fast.

    Args:
        name: ``pixels``: reduce to 64 principal components, then standardise. ``backbone``: standardise,
            then reduce to 512 principal components, which is lossless for up to 512 images or features.
    """
    size = min(vectors.shape)
    if name == "pixels":
        steps = [_pca(min(size, 64)), StandardScaler()]
    else:
        steps = [StandardScaler(), _pca(min(size, 512))]
    with _silent():
        return make_pipeline(*steps).fit(vectors)


def class_regressions(
    vectors: Vectors, labels: NDArray[np.int64], num_classes: int
) -> Iterator[tuple[float, Probabilities]]:
    """Yield each of ``STRENGTHS`` with a fitted multinomial regression.

    Each fit starts from the previous one.

    Args:
        labels: int64 ``(n,)``.
    """
    for strength, [model] in _fits(vectors, [labels], num_classes):
        yield strength, partial(_of_classes, model, num_classes)


def label_regressions(
    vectors: Vectors, labels: NDArray[np.uint8]
) -> Iterator[tuple[float, Probabilities]]:
    """Yield each of ``STRENGTHS`` with one fitted regression per label; see ``class_regressions``.

    Args:
        labels: uint8 ``(n, num_labels)`` of 0 and 1.
    """
    for strength, models in _fits(vectors, list(labels.T), labels.shape[1]):
        yield strength, partial(_of_labels, models)


def _fits(
    vectors: Vectors, columns: list[NDArray[Any]], num_classes: int
) -> Iterator[tuple[float, list[Any]]]:
    """Yield each strength with a model of each column; a column with a single class is its model."""
    limit = int(np.clip(MAX_PRODUCTS // (vectors.size * num_classes), MIN_ITERATIONS, MAX_ITERATIONS))
    models = [
        LogisticRegression(max_iter=limit, warm_start=True) if len(np.unique(column)) > 1 else column[0]
        for column in columns
    ]
    for strength in STRENGTHS:
        for model, column in zip(models, columns, strict=True):
            if isinstance(model, LogisticRegression):
                with _silent():  # fits that stop at the limit warn
                    model.set_params(C=strength).fit(vectors, column)
        yield strength, deepcopy(models)


def _of_classes(model: Any, num_classes: int, vectors: Vectors) -> NDArray[np.float64]:
    probabilities = np.zeros((len(vectors), num_classes))
    if isinstance(model, LogisticRegression):
        probabilities[:, model.classes_] = model.predict_proba(vectors)
    else:
        probabilities[:, model] = 1
    return probabilities


def _of_labels(models: list[Any], vectors: Vectors) -> NDArray[np.float64]:
    return np.stack([_of_classes(model, 2, vectors)[:, 1] for model in models], axis=1)


def _pca(num_components: int) -> PCA:
    return PCA(num_components, svd_solver="covariance_eigh")  # exact, not randomised


def _silent() -> warnings.catch_warnings:
    return warnings.catch_warnings(action="ignore")

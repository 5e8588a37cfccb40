"""Classify images in tasks of a cluster, with the same outcomes as in this process."""

from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import chain
from pathlib import Path

from darkroom.cluster import Cluster
from darkroom.digests import file_sha256
from darkroom.errors import UserError
from darkroom.models.exported import DESCRIPTION
from darkroom.parallel import chunked
from darkroom.prediction.decisions import Failure, Prediction
from darkroom.prediction.predictor import BATCH_SIZE, Predictor
from darkroom.prediction.remote import InputFile

IMAGES_PER_TASK = 4 * BATCH_SIZE


def predict_on(
    cluster: Cluster,
    model: Path,
    tiff: bool,
    abstain: bool,
    format_name: str,
    paths: Iterable[InputFile],
    top_k: int | None,
) -> Iterator[Prediction | Failure]:
    """Yield the outcome of each path in order, as ``Predictor.predict`` does.

    Raises:
        UserError: a node has another export at the path of this one; see also ``Cluster.map``.
    """
    digest = file_sha256(model / DESCRIPTION)
    classify = partial(_classify, model.absolute(), digest, tiff, abstain, format_name, top_k)
    # Ray runs one task per node at a time; the next one of each waits in the node's queue
    parts = chunked(paths, IMAGES_PER_TASK)
    yield from chain.from_iterable(cluster.map(classify, parts, 2 * cluster.num_nodes))


def _classify(
    model: Path,
    digest: str,
    tiff: bool,
    abstain: bool,
    format_name: str,
    top_k: int | None,
    paths: list[InputFile],
) -> list[Prediction | Failure]:
    return list(_predictor(model, digest, tiff, abstain, format_name).predict(paths, top_k))


@cache
def _predictor(model: Path, digest: str, tiff: bool, abstain: bool, format_name: str) -> Predictor:
    """Return the predictor of a process, loaded once."""
    if file_sha256(model / DESCRIPTION) != digest:
        raise UserError(f"{model}: is another export on a node of the cluster")
    return Predictor(model, tiff, abstain, format_name=format_name)

"""Preparation of images: decoded in bulk, compared by their pixels."""

from collections.abc import Iterator
from pathlib import Path

from darkroom.collection.collection import Collection
from darkroom.config.prepare import Prepare, PrepareConfig
from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.storage import choose_storage
from darkroom.preparation.ingest import IngestedImages, ingest
from darkroom.preparation.layout import settle_layout
from darkroom.preparation.prepared import PreparedData
from darkroom.preparation.report import write_preparation_report
from darkroom.preparation.series import series_remarks
from darkroom.progress import progress_bar

keeps_conflicts = False


def read(collection: Collection, config: PrepareConfig, cache: Path, workers: int) -> IngestedImages:
    options = config.prepare
    with progress_bar("read headers", collection.num_to_read) as bar:
        layout = settle_layout(collection, options, workers, bar.advance)
    storage = choose_storage(options.storage, layout.shape, collection.num_to_read)
    with progress_bar("decode", collection.num_to_read) as bar:
        return ingest(collection, layout, storage, options.tiff, cache, workers, bar.advance)


def threshold(options: Prepare) -> float | None:
    return options.near_duplicates


def remarks(prepared: PreparedData) -> Iterator[str]:
    return series_remarks(prepared.candidates, prepared.decision)


def write_report(
    prepared: PreparedData, manifest: Path, folder: Path, more_remarks: list[str]
) -> list[str]:
    candidates = prepared.candidates
    return write_preparation_report(
        manifest,
        prepared.info,
        prepared.decision.duplicates,
        candidates.pixels,
        folder,
        candidates.sets,
        more_remarks,
        candidates.pictures,
    )


def size(info: DatasetInfo) -> str:
    return "{} x {} x {}".format(*info.input_size, info.channels)

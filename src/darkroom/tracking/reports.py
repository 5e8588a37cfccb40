"""What a run tells of a stage's result, from the files that the stage reads and writes.

``pipeline/stage.py`` reports every stage's run from the project's files; the ledger reports the runs
that it restores from the files of earlier results. Both call the functions of this module, so a live
run and a restored one say the same. A stage itself logs only what no output file holds, such as the
metrics of each epoch while it trains.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from darkroom.collection.fetched import contents
from darkroom.dataset.info import DatasetInfo, profile
from darkroom.digests import file_sha256
from darkroom.errors import UserError
from darkroom.models.exported import DESCRIPTION
from darkroom.models.spec import ModelSpec, load_spec
from darkroom.paths import (
    DATASET,
    EXPORT,
    FETCHED,
    MANIFEST,
    METRICS,
    MODEL,
    PREPARE_METRICS,
    PREPARED,
    REPORT_EVALUATE,
    REPORT_PREPARE,
    REPORT_TRAIN,
)
from darkroom.tracking.descriptions import (
    describe_evaluation,
    describe_export,
    describe_preparation,
    describe_training,
    exported_metrics,
    kept_epoch,
    model_params,
    scores,
    training_tags,
)
from darkroom.tracking.run import Run, files_below, made_tag

ONNX = EXPORT / "model.onnx"
DESCRIBED = EXPORT / DESCRIPTION
PARITY = EXPORT / "parity.json"
SUMMARY = REPORT_TRAIN / "summary.txt"

ARTIFACTS = {
    "prepare": (DATASET, MANIFEST, REPORT_PREPARE),
    "train": (MODEL, REPORT_TRAIN),
    "evaluate": (REPORT_EVALUATE,),
    "export": (EXPORT,),
}
"""The files and folders that each stage keeps with its run."""

Params = Mapping[str, Any]
"""Parameters of a stage by full name."""


class Files(Protocol):
    """The files of one result of a stage, by their paths in the project."""

    def read(self, path: Path) -> bytes:
        """Return the bytes of a file."""

    def below(self, path: Path) -> list[Path]:
        """Return the file ``path``, or all files of the folder ``path``."""

    def on_disk(self, path: Path) -> AbstractContextManager[Path]:
        """Yield a place on disk where a library can read the file."""


class ProjectFiles:
    """The files as they are in the project."""

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def below(self, path: Path) -> list[Path]:
        return files_below(path)

    def on_disk(self, path: Path) -> AbstractContextManager[Path]:
        return nullcontext(path)


def report_inputs(stage: str, params: Params, run: Run, files: Files) -> None:
    """Log a run's parameters, and link it to the runs that produced what it reads.

    Raises:
        OSError, UserError, ValueError, KeyError: an input is missing or damaged.
    """
    run.log_params(params)
    if stage == "train":
        info = _read_json(files, DATASET)
        run.log_input(PREPARED, info["digest"])
        run.log_dataset("prepared", info["digest"], PREPARED, profile(info))
    elif stage in ("evaluate", "export"):
        with files.on_disk(MODEL) as path:
            run.log_input(MODEL, file_sha256(path), as_child=True)


def report_outcome(stage: str, params: Params, run: Run, files: Files) -> None:
    """Log what a stage produced: metrics, tags, artifacts, tables of the description, and the model.

    Raises:
        OSError, UserError, ValueError, KeyError: an output is missing or damaged.
    """
    if stage in _OUTCOMES:
        _OUTCOMES[stage](params, run, files)


def _report_fetch(params: Params, run: Run, files: Files) -> None:
    lists = [file for file in files.below(FETCHED) if file.parent == FETCHED and file.suffix == ".json"]
    sets = {file.stem: _read_json(files, file)["sha256"] for file in lists}
    if sets:
        run.log_metrics({"num_images": sum(map(len, sets.values()))})
        run.describe("Fetched", {name: contents(listed) for name, listed in sets.items()})


def _report_prepare(params: Params, run: Run, files: Files) -> None:
    info, counts = _read_json(files, DATASET), _read_json(files, PREPARE_METRICS)
    run.log_output(PREPARED, info["digest"])
    run.log_metrics(
        {
            f"{group}/{name}": number
            for group, numbers in counts.items()
            for name, number in numbers.items()
            if not isinstance(number, Mapping)  # counts of each label are in the artifact alone
        }
    )
    _log_artifacts("prepare", run, files)
    with _older_formats():
        run.describe("Data", describe_preparation(DatasetInfo(**profile(info)), counts))


def _report_train(params: Params, run: Run, files: Files) -> None:
    info = _read_json(files, DATASET)
    with files.on_disk(MODEL) as path:
        run.log_output(MODEL, file_sha256(path))
    _log_artifacts("train", run, files)
    with _older_formats():
        spec = _spec(files)
        run.log_tags(training_tags(spec.training))
        may_be_auto = ("train.batch_size", "train.lr", "train.weight_decay")
        chosen = [name for name in may_be_auto if params.get(name) == "auto"]
        run.log_tags({name: f"{spec.training[name]}" for name in chosen})
        rows = describe_training(spec, DatasetInfo(**profile(info)), _num_parameters(files))
        run.describe("Training", rows)


def _report_evaluate(params: Params, run: Run, files: Files) -> None:
    metrics = _read_json(files, METRICS)["test"]
    for tested in (run, run.producer_of(MODEL)):  # MLflow's table compares models by training run
        tested.log_metrics(scores(metrics))
        _log_artifacts("evaluate", tested, files)
        with _older_formats():
            tested.describe("Test", describe_evaluation(metrics))


def _report_export(params: Params, run: Run, files: Files) -> None:
    _log_artifacts("export", run, files)
    exported = files.below(EXPORT)
    with _older_formats():
        parities = _read_json(files, PARITY) if PARITY in exported else {}
        run.log_metrics(exported_metrics(parities))
        sizes = {file.name: _size(files, file) for file in exported if file.name in parities}
        run.describe("Exported", describe_export(sizes, parities))
    if ONNX in exported:
        spec = _spec(files)
        with files.on_disk(MODEL) as path:
            sha256 = file_sha256(path)
        run.producer_of(MODEL).log_onnx(
            ONNX,
            name="classifier",
            description=DESCRIBED if DESCRIBED in exported else None,
            params=model_params(spec),
            tags={made_tag(MODEL): sha256},
            metrics=scores(_read_json(files, METRICS)["test"]),
            dataset=("prepared", _read_json(files, DATASET)["digest"]),
            step=kept_epoch(spec.training)["epoch"],
        )


_OUTCOMES: dict[str, Callable[[Params, Run, Files], None]] = {
    "fetch": _report_fetch,
    "prepare": _report_prepare,
    "train": _report_train,
    "evaluate": _report_evaluate,
    "export": _report_export,
}


def _log_artifacts(stage: str, run: Run, files: Files) -> None:
    for path in ARTIFACTS[stage]:
        for file in files.below(path):
            run.log_file(file)


def _size(files: Files, path: Path) -> int:
    with files.on_disk(path) as file:
        return file.stat().st_size


def _read_json(files: Files, path: Path) -> Any:
    return json.loads(files.read(path))


def _spec(files: Files) -> ModelSpec:
    with files.on_disk(MODEL) as path:
        return load_spec(path)


def _num_parameters(files: Files) -> int | None:
    """Return the model's number of parameters as summary.txt says it; None if it does not."""
    found = re.search(r"([\d,]+) parameters", files.read(SUMMARY).decode())
    return int(found[1].replace(",", "")) if found else None


@contextmanager
def _older_formats() -> Iterator[None]:
    """Skip what files that another version of darkroom wrote do not say."""
    with suppress(UserError, ValueError, KeyError, TypeError):
        yield

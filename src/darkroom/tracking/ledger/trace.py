"""Leads from any run, experiment, commit, version or file to all others, by the hashes of contents."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.digests import file_sha256
from darkroom.errors import UserError
from darkroom.paths import METRICS, MODEL
from darkroom.tracking.descriptions import scores
from darkroom.tracking.ledger.data_digests import prepared_digest, raw_data
from darkroom.tracking.ledger.dvc_hash import dvc_md5
from darkroom.tracking.ledger.key_output import key_md5
from darkroom.tracking.ledger.known import TRAIN, Known, model_of, read_all
from darkroom.tracking.ledger.outputs import OutputDamaged, OutputMissing, Outputs
from darkroom.tracking.ledger.results import Result
from darkroom.tracking.ledger.revisions import Revision
from darkroom.tracking.ledger.runs import KnownRun
from darkroom.tracking.mlflow.promotion import Version
from darkroom.tracking.run import made_tag

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Trail:
    """One training, and everything that belongs to it."""

    model_md5: str = ""
    model_sha256: str = ""
    revisions: list[Revision] = field(default_factory=list)
    """The revisions whose dvc.lock has the training's model."""
    results: dict[str, Result] = field(default_factory=dict)
    """By stage, in the first of the revisions."""
    runs: list[KnownRun] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    prepared_digest: str = ""
    raw_md5: str = ""


@dataclass
class Trace:
    """What is known about ``subject``."""

    subject: str
    trails: list[Trail] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Where a file was found, for example ``data/fetched/digits/3/0001.png, read by prepare``."""
    trouble: str = ""
    """Why MLflow could not be read; empty if it could."""
    remarks: list[str] = field(default_factory=list)
    """One line per dvc.lock that was skipped because it is invalid."""


def trace(name: str) -> Trace:
    """Find what belongs to ``name``.

    Args:
        name: a file or folder, an MLflow run's id or name, a DVC experiment, a git revision,
            ``workspace``, or a registered model's ``NAME/VERSION`` or ``NAME@ALIAS``.

    Raises:
        UserError: nothing has this name, or the file is not known anywhere.
    """
    known = read_all()
    finders: tuple[Callable[[str, Known], Trace | None], ...] = (
        _trace_file,
        _trace_run,
        _trace_version,
        _trace_revision,
    )
    for find in finders:
        if found := find(name, known):
            found.trouble, found.remarks = known.trouble, known.remarks
            return found
    asked = f"; MLflow could not be read ({known.trouble})" if known.trouble else ""
    raise UserError(
        f"{name}: there is no file, run, experiment, git revision or registered model of this name"
        f"{asked}"
    )


def _trace_file(name: str, known: Known) -> Trace | None:
    path = Path(name)
    if not path.exists():
        return None
    md5 = dvc_md5(path)
    found = Trace(f"{name}, MD5 {md5}")
    sha256 = file_sha256(path) if path.is_file() else ""
    models = set()
    for _, results in known.results:
        for result in results.values():
            for place in _places(result, md5, known.outputs):
                role = "written" if _is_below(place, result.outs) else "read"
                line = f"{place}, {role} by {result.stage}"
                if line not in found.places:
                    found.places.append(line)
                models.add(model_of(results))
    models |= {run.output for run in known.runs if sha256 and run.tags.get(made_tag(MODEL)) == sha256}
    models.discard("")
    if not found.places and not models:
        raise UserError(
            f"{name}: no dvc.lock of this repository, and no run, has these contents (MD5 {md5})"
        )
    found.trails = [_trail(model, known) for model in _in_order(models, known)]
    return found


def _trace_run(name: str, known: Known) -> Trace | None:
    runs = [run for run in known.runs if name in (run.run_id, run.name)]
    if not runs:
        return None
    if len(runs) > 1 and not _RUN_ID.fullmatch(name):
        return Trace(f"{len(runs)} runs called {name}", _merged(runs, known))
    [run] = runs
    return Trace(f"run {run.name}, {run.run_id}", _merged([run], known))


def _trace_version(name: str, known: Known) -> Trace | None:
    for version in known.versions:
        names = {f"{version.name}/{version.number}", *(f"{version.name}@{a}" for a in version.aliases)}
        if name in names:
            runs = [run for run in known.runs if run.run_id == version.run_id]
            return Trace(f"{version}", _merged(runs, known))
    return None


def _trace_revision(name: str, known: Known) -> Trace | None:
    try:
        revision = known.revisions.find(name)
    except UserError:
        return None
    results = known.revisions.results(revision)
    kind = "experiment" if revision.baseline else "commit" if revision.commit else "the folder"
    subject = f"{kind} {revision.name} {revision.subject}".rstrip()
    model = model_of(results)
    if not model:
        return Trace(f"{subject}: no training in its dvc.lock")
    trail = _trail(model, known)
    if all(revision.commit != one.commit for one in trail.revisions):  # it did not change dvc.lock
        trail.revisions.insert(0, revision)
    trail.results = results
    return Trace(subject, [_filled(trail, known)])


def _merged(runs: list[KnownRun], known: Known) -> list[Trail]:
    """Return the trails of the trainings that the runs are, or are based on."""
    by_id = {run.run_id: run for run in known.runs}
    trails = []
    models = set()
    for run in runs:
        training = by_id.get(run.tags.get("mlflow.parentRunId", ""), run)
        if training.stage == TRAIN and training.output:
            models.add(training.output)
            continue
        found = {model_of(results) for _, results in known.results if _made(results, run.output)}
        models |= found
        if not found:  # the run was killed, or no dvc.lock has its result
            trails.append(_filled(Trail(runs=[run], params=dict(run.params)), known))
    return [*(_trail(model, known) for model in _in_order(models - {""}, known)), *trails]


def _made(results: dict[str, Result], md5: str) -> bool:
    return md5 != "" and any(key_md5(result) == md5 for result in results.values())


def _in_order(models: set[str], known: Known) -> list[str]:
    ordered = [model_of(results) for _, results in known.results]
    return sorted(models, key=lambda md5: ordered.index(md5) if md5 in ordered else len(ordered))


def _trail(model_md5: str, known: Known) -> Trail:
    """Return the trail of the training that produced a model."""
    found = [(rev, results) for rev, results in known.results if model_of(results) == model_md5]
    trail = Trail(model_md5, revisions=[revision for revision, _ in found])
    for _, results in found:
        trail.results = trail.results or results
        for result in results.values():
            trail.runs += [run for run in known.runs_of(result) if run not in trail.runs]
    trail.runs += [
        run
        for run in known.runs
        if run.stage == TRAIN and run.output == model_md5 and run not in trail.runs
    ]
    return _filled(trail, known)


def _filled(trail: Trail, known: Known) -> Trail:
    """Add what follows from a trail's runs and results."""
    trainings = [run for run in trail.runs if run.stage == TRAIN]
    for run in trainings:
        trail.model_sha256 = trail.model_sha256 or run.tags.get(made_tag(MODEL), "")
        trail.metrics = {**run.metrics, **trail.metrics}
        trail.params = trail.params or dict(run.params)
    run_ids = {run.run_id for run in trainings}
    trail.versions = [version for version in known.versions if version.run_id in run_ids]
    if trail.results:
        if TRAIN in trail.results:
            trail.params = trail.results[TRAIN].params
        raw = raw_data(trail.results)
        trail.raw_md5 = raw.md5 if raw else ""
        trail.prepared_digest = _or_empty(lambda: prepared_digest(trail.results, known.outputs))
        if not trail.metrics and "evaluate" in trail.results:
            trail.metrics = _test_metrics(trail.results["evaluate"], known.outputs)
        if not trail.model_sha256 and TRAIN in trail.results:
            trail.model_sha256 = _or_empty(
                lambda: hashlib.sha256(known.outputs.read(trail.results[TRAIN], MODEL)).hexdigest()
            )
    return trail


def _or_empty(read: Callable[[], str | None]) -> str:
    try:
        return read() or ""
    except (OutputMissing, OutputDamaged):
        return ""


def _test_metrics(result: Result, outputs: Outputs) -> dict[str, float]:
    try:
        return scores(json.loads(outputs.read(result, METRICS))["test"])
    except (OutputMissing, OutputDamaged, ValueError, KeyError):
        return {}


def _places(result: Result, md5: str, outputs: Outputs) -> Iterator[str]:
    """Yield the paths among a result's inputs and outputs that have this hash."""
    for name, content in {**result.deps, **result.outs}.items():
        if content.md5 == md5:
            yield name
        elif content.md5.endswith(".dir"):
            try:
                listing = outputs.listing(result, name)
            except (OutputMissing, OutputDamaged):
                continue
            yield from (f"{name}/{file}" for file, found in listing.items() if found == md5)


def _is_below(place: str, paths: dict[str, Any]) -> bool:
    return any(Path(place).is_relative_to(path) for path in paths)

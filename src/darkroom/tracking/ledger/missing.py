"""The results that MLflow has no run of."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from darkroom.errors import UserError
from darkroom.tracking.ledger.key_output import STAGES, key_md5
from darkroom.tracking.ledger.restored import Missing
from darkroom.tracking.ledger.results import WORKSPACE, Result
from darkroom.tracking.ledger.revisions import Revision, Revisions
from darkroom.tracking.ledger.runs import KnownRun
from darkroom.tracking.reports import ARTIFACTS


def wanted_results(
    revisions: Revisions,
    all_commits: bool = False,
    all_experiments: bool = False,
    remark: Callable[[str], None] | None = None,
) -> Iterator[Missing]:
    """Yield each result that should have a run, once, in the order in which they were computed.

    These are the results in the folder's dvc.lock, and on request those of all commits, and those of all
    experiments that differ from the commit on which the experiment is based.

    Args:
        remark: called with a message for each revision whose dvc.lock is invalid, which is then skipped.
            None: an invalid dvc.lock is an error.

    Raises:
        UserError: git fails; or a dvc.lock is invalid, and ``remark`` is None.
    """

    def readable(read: Callable[[Revision], dict[str, Result]], revision: Revision) -> dict[str, Result]:
        try:
            return read(revision)
        except UserError as error:
            if remark is None:
                raise
            remark(f"{error}; skipped")
            return {}

    seen = set()
    for commit in revisions.commits() if all_commits else []:
        for result in _known_stages(readable(revisions.results, commit)):
            if result.digest not in seen:
                seen.add(result.digest)
                yield Missing(result, commit, in_workspace=False)
    for experiment in revisions.experiments() if all_experiments else []:
        for result in _known_stages(readable(revisions.new_results, experiment)):
            yield Missing(result, experiment, experiment.name, in_workspace=False)
            seen.add(result.digest)
    workspace = revisions.find(WORKSPACE)
    for result in _known_stages(readable(revisions.results, workspace)):
        if result.digest not in seen:
            yield Missing(result, _commit_of(revisions, result) or workspace)


def missing_results(wanted: Iterable[Missing], runs: list[KnownRun]) -> Iterator[Missing]:
    """Yield the wanted results that have no run, or only runs of another experiment."""
    for one, makers in _with_makers(wanted, runs):
        if not makers:
            yield one
        elif one.experiment and all(run.experiment != one.experiment for run in makers):
            yield replace(one, original=makers[-1].run_id)


def emptied_runs(
    wanted: Iterable[Missing], runs: list[KnownRun], top_names: Callable[[KnownRun], set[str]]
) -> Iterator[KnownRun]:
    """Yield each run of a wanted result whose artifacts are gone.

    Args:
        top_names: returns the names of the files and folders at the top of a run's artifacts.
    """
    makers = {run.run_id: run for _, found in _with_makers(wanted, runs) for run in found}
    for run in makers.values():
        expected = {path.parts[0] for path in ARTIFACTS.get(run.stage.partition("@")[0], ())}
        if expected and not expected <= top_names(run):
            yield run


def _with_makers(
    wanted: Iterable[Missing], runs: list[KnownRun]
) -> Iterator[tuple[Missing, list[KnownRun]]]:
    by_output: dict[str, list[KnownRun]] = {}
    for run in runs:
        by_output.setdefault(run.output, []).append(run)
    for one in wanted:
        yield one, [run for run in by_output.get(key_md5(one.result), []) if run.produced(one.result)]


def _known_stages(results: dict[str, Result]) -> Iterator[Result]:
    """Yield the results of darkroom's own stages, in the order of the pipeline."""
    known = [result for result in results.values() if key_md5(result)]
    yield from sorted(known, key=lambda result: STAGES.index(result.verb))


def _commit_of(revisions: Revisions, result: Result) -> Revision | None:
    """Return the commit that is checked out, if its dvc.lock has the same result."""
    if revisions.repository is None or revisions.repository.commit("HEAD") is None:
        return None
    head = revisions.find("HEAD")
    try:
        committed = revisions.results(head).get(result.stage)
    except UserError:  # the folder's dvc.lock may be valid, and that of the commit not
        return None
    return head if committed is not None and committed.digest == result.digest else None

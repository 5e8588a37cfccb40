"""The models that can be compared, found by name: workspace, revision, experiment, run or version."""

from darkroom.comparison.from_dvc import of_revision, workspace
from darkroom.comparison.from_mlflow import ALIAS, RUN_ID, VERSION, of_registered, of_run, run_names
from darkroom.comparison.side import Side
from darkroom.errors import UserError, closest, listed
from darkroom.tracking.ledger.results import WORKSPACE
from darkroom.tracking.ledger.revisions import Revisions

KINDS = (
    "`workspace` (or .), a git revision (rev:NAME), a DVC experiment (exp:NAME), an MLflow run (its id, "
    "or run:NAME), a model version (version:3 or models:/NAME/3), `champion` or `candidate`"
)


def find_side(name: str) -> Side:
    """Return the model that ``name`` stands for, with its predictions.

    Raises:
        UserError: nothing or more than one thing has this name, or its predictions cannot be found.
    """
    if name in (WORKSPACE, "."):
        return workspace()
    if VERSION.fullmatch(name) or ALIAS.fullmatch(name):
        return of_registered(name)
    kind, _, rest = name.partition(":")
    if kind == "run":
        return of_run(rest)
    if kind in ("rev", "exp"):
        return of_revision(rest, kind)
    if RUN_ID.fullmatch(name):
        return of_run(name)
    return _of_bare_name(name)


def _of_bare_name(name: str) -> Side:
    """Return the revision or experiment, or else the run, of this name."""
    revisions = Revisions()
    experiments = [one.name for one in revisions.experiments()]
    is_revision = revisions.repository is not None and revisions.repository.commit(name) is not None
    if is_revision and name in experiments:
        raise UserError(
            f"{name}: both a git revision and a DVC experiment; write rev:{name} or exp:{name}"
        )
    if is_revision or name in experiments:
        return of_revision(name)
    runs, trouble = run_names()
    if name in runs:
        return of_run(name)
    names = [*experiments, *_branches(revisions), *runs, WORKSPACE, "champion", "candidate"]
    near = closest(name, names)
    raise UserError(
        f"{name}: not known; allowed are {KINDS}"
        + (f"; did you mean {listed([near])}?" if near else "")
        + (f" (MLflow could not be read: {trouble})" if trouble else "")
    )


def _branches(revisions: Revisions) -> list[str]:
    if revisions.repository is None:
        return []
    return revisions.repository.lines(
        "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags"
    )

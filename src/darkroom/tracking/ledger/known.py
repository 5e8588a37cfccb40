"""Everything that git, DVC and MLflow know about a project, read once."""

from dataclasses import dataclass, field

from darkroom.errors import UserError
from darkroom.tracking.address import Address
from darkroom.tracking.journal.trouble import reason
from darkroom.tracking.ledger.key_output import key_md5
from darkroom.tracking.ledger.outputs import Outputs
from darkroom.tracking.ledger.results import WORKSPACE, Result
from darkroom.tracking.ledger.revisions import Revision, Revisions
from darkroom.tracking.ledger.runs import KnownRun, known_runs
from darkroom.tracking.mlflow.promotion import Version, load_versions
from darkroom.tracking.root import project_root

TRAIN = "train"


@dataclass
class Known:
    """Results, runs and versions of a project.

    ``trouble`` says why MLflow could not be read; it is empty if it could.
    """

    revisions: Revisions
    outputs: Outputs
    results: list[tuple[Revision, dict[str, Result]]]
    runs: list[KnownRun]
    versions: list[Version]
    trouble: str = ""
    remarks: list[str] = field(default_factory=list)
    """One line per dvc.lock that was skipped."""

    def runs_of(self, result: Result) -> list[KnownRun]:
        """Return the runs that have a result's key output."""
        md5 = key_md5(result)
        return [run for run in self.runs if md5 and run.output == md5 and run.stage == result.stage]


def read_all() -> Known:
    """Read every dvc.lock, newest first, and all runs and versions. Invalid dvc.locks are skipped."""
    revisions = Revisions()
    known = [revisions.find(WORKSPACE), *reversed(revisions.commits()), *revisions.experiments()]
    results, remarks = [], []
    for revision in known:
        try:
            results.append((revision, revisions.results(revision)))
        except UserError as error:  # one bad dvc.lock must not hide the others
            remarks.append(f"{error}; skipped")
    outputs = Outputs(repository=revisions.repository, use_remote=False)
    try:
        runs, versions = _ask_mlflow()
    except Exception as error:  # of any kind: git and DVC still know a part
        return Known(revisions, outputs, results, [], [], reason(error), remarks)
    return Known(revisions, outputs, results, runs, versions, remarks=remarks)


def _ask_mlflow() -> tuple[list[KnownRun], list[Version]]:
    root = project_root()
    address = Address.of(root)
    if address.is_embedded and not (root / "mlflow.db").exists():
        return [], []
    from darkroom.tracking.mlflow.store import open_store

    store = open_store(root, address)
    from darkroom.tracking.mlflow.registry import model_name  # imports MLflow, which open_store sets up

    return known_runs(store), load_versions(store.client, model_name(address.experiment))


def model_of(results: dict[str, Result]) -> str:
    """Return DVC's hash of the model in a dvc.lock; an empty string if there is none."""
    return key_md5(results[TRAIN]) if TRAIN in results else ""

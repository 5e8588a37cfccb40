"""Makes MLflow complete: sends waiting journals, and logs the results that have no run."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.errors import UserError
from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import JOURNALS, journals
from darkroom.tracking.journal.private import private_folder
from darkroom.tracking.journal.trouble import OutOfReach, Trouble, end_trouble, read_trouble, reason
from darkroom.tracking.ledger.missing import emptied_runs, missing_results, wanted_results
from darkroom.tracking.ledger.outputs import OutputDamaged, OutputMissing, Outputs
from darkroom.tracking.ledger.restored import write_restored
from darkroom.tracking.ledger.results import WORKSPACE
from darkroom.tracking.ledger.revisions import Revisions
from darkroom.tracking.ledger.stages import Stages
from darkroom.tracking.mlflow.sender import LINGER_SECONDS, Sender
from darkroom.tracking.mlflow.sender_process import only_sender, start_sender
from darkroom.tracking.root import project_root

POLL_SECONDS = 0.1

PATIENCE_SECONDS = 1.0
"""How long another sender may take to stop before the work is left to it."""


@dataclass
class Outcome:
    """The outcome of a sync."""

    address: str = ""
    num_sent: int = 0
    """Number of runs whose waiting journals were sent."""
    num_live: int = 0
    """Number of runs that have not ended."""
    restored: list[str] = field(default_factory=list)
    """Names of the runs that were restored from results."""
    not_restored: list[str] = field(default_factory=list)
    """Results whose files cannot be found, with the reason."""
    emptied: list[str] = field(default_factory=list)
    """Runs whose artifacts are gone, with their ids."""
    remarks: list[str] = field(default_factory=list)
    """What could not be read, or was refused by MLflow."""
    num_elsewhere: dict[str, int] = field(default_factory=dict)
    """Number of runs that wait for another MLflow, by its address."""

    @property
    def is_incomplete(self) -> bool:
        """Whether MLflow lacks something."""
        return bool(self.not_restored or self.emptied or self.remarks)


def sync(
    all_commits: bool = False,
    all_experiments: bool = False,
    takes_all: bool = False,
    expect: Callable[[int], None] = lambda num_runs: None,
    advance: Callable[[int], None] = lambda num_runs: None,
) -> Outcome:
    """Send waiting journals to the MLflow that the environment names, then log results without a run.

    Args:
        all_commits: log the results of all commits, not only those in the folder's dvc.lock.
        all_experiments: log the results of DVC's experiments, too.
        takes_all: also send what was meant for another MLflow.
        expect: called with the number of further runs that will be sent.
        advance: called with the number of runs that were sent since the last call.

    Raises:
        UserError: MLflow is out of reach, or git fails. Journals keep waiting.
    """
    root = project_root()
    address = Address.of(root)
    outcome = Outcome(f"{address}")
    private_folder(root / JOURNALS)
    sender = Sender(root, address, takes_all, outcome.remarks.append)
    outcome.num_sent = _send(sender, root, address, expect, advance)

    try:
        from darkroom.tracking.ledger.runs import known_runs, top_names
        from darkroom.tracking.mlflow.store import open_store

        store = open_store(root, address)
        runs = known_runs(store)
        end_trouble(root, address)
    except OutOfReach as error:
        raise UserError(f"{Trouble.of(error).sentence(address)}; nothing is lost") from error
    except Exception as error:  # of any kind
        raise UserError(f"{address} is out of reach ({reason(error)}); nothing is lost") from error
    revisions = Revisions()
    outputs = Outputs(repository=revisions.repository)
    stages = Stages(revisions)
    wanted = list(wanted_results(revisions, all_commits, all_experiments, outcome.remarks.append))
    outcome.emptied = [
        f"{run.name} (run {run.run_id})"
        for run in emptied_runs(wanted, runs, lambda run: top_names(store, run))
    ]
    for missing in missing_results(wanted, runs):
        lock = revisions.find(WORKSPACE) if missing.in_workspace else missing.revision
        if not stages.has(lock, missing.result.stage):
            continue  # the stage was removed
        try:
            write_restored(missing, outputs, root, address)
        except (OutputMissing, OutputDamaged) as error:
            outcome.not_restored.append(f"{missing.name}: {error}")
        else:
            outcome.restored.append(missing.name)
    _send(sender, root, address, expect, advance)
    outcome.num_live = sender.num_growing()
    elsewhere = [journal for journal in journals(root) if not sender.is_ours(journal)]
    outcome.num_elsewhere = Counter(journal.start().address for journal in elsewhere)
    return outcome


def _send(
    sender: Sender,
    root: Path,
    address: Address,
    expect: Callable[[int], None],
    advance: Callable[[int], None],
) -> int:
    """Send all waiting runs, here or in the process that already sends; return their number."""
    num_sent, waiting = 0, _waiting(sender)
    expect(len(waiting))
    # a stage's sender sends the same journals, except those meant for another MLflow
    patience = LINGER_SECONDS + PATIENCE_SECONDS if sender.takes_all else PATIENCE_SECONDS
    with only_sender(root, address, patience) as is_only:
        if not is_only:
            start_sender(root)
        while waiting:
            try:
                if is_only:
                    sender.send_all()
            except OutOfReach as error:
                raise UserError(_waits(address, Trouble.of(error), len(waiting))) from error
            if not is_only and (trouble := read_trouble(root, address)):
                raise UserError(_waits(address, trouble, len(waiting)))
            left = _waiting(sender)
            advance(len(waiting - left))
            num_sent += len(waiting - left)
            if is_only and left == waiting:
                break  # the rest cannot be read, as a remark says
            waiting = left
            time.sleep(0 if is_only else POLL_SECONDS)
    return num_sent


def _waiting(sender: Sender) -> set[str]:
    """Return the names of the waiting journals that have ended, or whose process has."""
    return {journal.name for journal in sender.pending() if sender.has_ended(journal)}


def _waits(address: Address, trouble: Trouble, num_waiting: int) -> str:
    runs = "1 run is waiting" if num_waiting == 1 else f"{num_waiting} runs are waiting"
    return f"{trouble.sentence(address)}; {runs} in {JOURNALS}/, nothing is lost"

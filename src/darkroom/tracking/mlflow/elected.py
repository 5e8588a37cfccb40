"""One run per restored result, also if several machines, such as two CI jobs, log it at the same time.

MLflow chooses the ids of runs and has no "create unless there is one". What it does have is that a
parameter is written once: of two writers of different values, the second is refused. So every machine
creates a run, looks for others with the same result, and gives all but one of them a wrong value of a
parameter; then it writes the right value into the remaining one. A run with the wrong value can never
be kept, and one with the right value never be rejected, so at most one run is kept.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from darkroom.tracking.journal.file import Journal
from darkroom.tracking.journal.trouble import OutOfReach, Refused
from darkroom.tracking.records import Params

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RESULT_TAG = "restored.result"
"""The tag that identifies a restored result: the same on every machine, unlike its journal."""

REJECTED = "(another run has this result)"
"""The value that no parameter has."""

NUM_ROUNDS = 20
"""Each round rejects a run or ends; there are as many as machines that create one."""

POLL_SECONDS = 1.0

STALLED_SECONDS = 60.0
"""How long the run of another machine may stay unchanged before this one completes it."""

Call = Callable[[Callable[[], Any]], Any]
"""Calls MLflow; raises ``Refused`` if it refuses for good, and ``OutOfReach``."""


def elect_run(
    client: "MlflowClient",
    experiment_id: str,
    journal: Journal,
    call: Call,
    create: Callable[[], object],
) -> "Run":
    """Return the only active run of the result in ``journal``; create it if there is none.

    Every machine that calls this for the same result gets the same run, whenever it is interrupted.

    Args:
        create: creates a run for the journal.

    Raises:
        OutOfReach: MLflow does not answer, or other machines delete all runs.
    """
    result = journal.start().tags[RESULT_TAG]
    name, value = written_once(journal)

    def is_written(run: "Run", text: str) -> bool:
        try:
            call(lambda: client.log_param(run.info.run_id, name, text))
        except Refused:  # it has another value, or was deleted
            return False
        return True

    for _ in range(NUM_ROUNDS):
        found = call(lambda: client.search_runs([experiment_id], f"tags.`{RESULT_TAG}` = '{result}'"))
        found = sorted(found, key=lambda run: run.info.run_id)
        kept = next((run for run in found if run.data.params.get(name) == value), None)
        runs = [run for run in found if run.data.params.get(name) != REJECTED]
        candidate = kept or next(iter(runs), None)
        if candidate is None:
            create()
            continue
        others = [run for run in found if run is not candidate]
        if not all(run.data.params.get(name) == REJECTED or is_written(run, REJECTED) for run in others):
            continue  # one of them was kept meanwhile
        if is_written(candidate, value):
            for other_id in [run.info.run_id for run in others]:
                call(partial(client.delete_run, other_id))
            return candidate
    raise OutOfReach(f"the run of {journal.start().name} disappears as soon as it is created")


def written_once(journal: Journal) -> tuple[str, str]:
    """Return a parameter of the journal's run, which is the same on every machine: the shortest one."""
    params = {"stage": journal.start().stage}  # of a result without parameters
    for line in journal.read().lines:
        if isinstance(line.record, Params) and line.producer is None:
            params = {key: text for key, text in line.record.values.items() if text} or params
            break
    return min(params.items(), key=lambda item: (len(item[1]), item[0]))


def is_completed_elsewhere(client: "MlflowClient", run: "Run", call: Call) -> bool:
    """Wait while another machine sends a run; return whether it was sent completely.

    If the run does not change for a while, the machine was lost. Sending the same records again is
    harmless, so another one may complete the run.

    Raises:
        Refused: the run was deleted.
        OutOfReach: MLflow does not answer.
    """
    changed_at = time.monotonic()
    while run.info.status != "FINISHED":
        if time.monotonic() - changed_at > STALLED_SECONDS:
            return False
        time.sleep(POLL_SECONDS)
        seen, run = run, call(partial(client.get_run, run.info.run_id))
        if run.to_dictionary() != seen.to_dictionary():
            changed_at = time.monotonic()
    return True

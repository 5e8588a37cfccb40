"""Senders and writers of journals, for tests that kill them.

Each is a child of a process that has imported MLflow. See ``toy.py``: the same protocol, other jobs.
"""

import os
import signal
from pathlib import Path
from typing import Any

from toy import DONE, READY, serve, shared_numbers


def do(folder: Path, role: str, **job: Any) -> None:
    {"send": send, "write": write, "train": train}[role](folder, **job)


def send(folder: Path, crash_at: int = 0) -> None:
    """Sends all journals of the project in ``folder``.

    Args:
        crash_at: the moment, from 1, at which it dies: just before and just after each change that it
            makes in MLflow or on disk.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from darkroom.tracking.address import Address
    from darkroom.tracking.journal.file import Journal
    from darkroom.tracking.journal.receipts import Receipt
    from darkroom.tracking.mlflow.sender import Sender

    phases = shared_numbers(folder)

    def moment() -> None:
        phases[DONE] += 1
        if phases[DONE] == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            moment()
            result = original(*arguments, **named)
            moment()
            return result

        setattr(owner, name, watched)

    for name in (
        "create_run",
        "log_batch",
        "log_inputs",
        "log_outputs",
        "create_logged_model",
        "finalize_logged_model",
        "update_run_info",
        "set_tag",
        "delete_tag",
    ):
        watch(SqlAlchemyStore, name)
    for name in ("log_artifact", "log_artifacts"):
        watch(LocalArtifactRepository, name)
    watch(Receipt, "save")
    watch(Journal, "remove")
    phases[READY] = 1
    sender = Sender(folder, Address.of(folder, {}))
    while sender.pending():
        sender.send_all()


def write(folder: Path, num_points: int) -> None:
    """Writes a run's points; ``DONE`` counts those that were taken."""
    recorder = _recorder(folder)
    _say_points(recorder, num_points, shared_numbers(folder))
    recorder.close("FINISHED")


def train(folder: Path, num_points: int) -> None:
    """A training that resumes if it can, and logs all its points again, as ``fit`` does."""
    recorder = _recorder(folder)
    recorder.resume(folder / "memo")
    _say_points(recorder, num_points, shared_numbers(folder))
    (folder / "memo").unlink()
    recorder.close("FINISHED")


def _recorder(folder: Path) -> Any:
    from darkroom.tracking import recorder

    recorder.start_sender = _nothing
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return recorder.Recorder(folder, "train", seconds=0, may_resume=True)


def _nothing(*arguments: Any) -> None:
    return None


def _say_points(recorder: Any, num_points: int, phases: memoryview) -> None:
    import time

    from darkroom.tracking.records import Metrics, Params, Tags

    recorder.record(Params(values={"train.lr": "0.1"}))
    phases[READY] = 1
    for step in range(num_points):
        now_ms = time.time_ns() // 1_000_000
        recorder.record(Metrics(values={"loss": 1 / (step + 1)}, step=step, timestamp_ms=now_ms))
        phases[DONE] = step + 1
    recorder.record(Tags(values={"done": "yes"}))


if __name__ == "__main__":
    import mlflow.onnx
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    serve(do)

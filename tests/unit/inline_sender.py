"""A sender in the process of the stage: no other process has to start and to import MLflow."""

from contextlib import suppress
from pathlib import Path

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import JOURNALS
from darkroom.tracking.journal.trouble import OutOfReach
from darkroom.tracking.mlflow.sender import Sender


class InlineSender:
    """Sends in this process whenever the recorder, which waits, asks if its sender still runs."""

    def __init__(self, root: Path) -> None:
        self._log = root / JOURNALS / "sender.log"
        self._sender = Sender(root, Address.of(root), report=self._report)

    def poll(self) -> None:
        with suppress(OutOfReach):
            self._sender.send_all()

    def _report(self, remark: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{remark}\n")

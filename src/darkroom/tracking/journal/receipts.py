"""The part of a journal that MLflow has acknowledged, and that need not be sent again."""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Self

from darkroom.tracking.journal.file import Journal
from darkroom.tracking.journal.lines import seal, unseal
from darkroom.tracking.journal.private import open_private

NAME = "sent.json"


@dataclass
class Receipt:
    """A file beside the journal. If it is lost or old, records are sent twice, which is harmless."""

    destination: str = ""
    """Digest of the address that the receipt is about."""
    run_id: str = ""
    offset: int = 0
    """Number of bytes of the journal that have arrived."""
    producers: dict[str, str] = field(default_factory=dict)
    """Run ids by input artifact; empty if no run is known to have produced it."""
    refused: list[str] = field(default_factory=list)
    """Records that will never arrive, and why: MLflow refused them, or they are damaged."""

    @classmethod
    def load(cls, journal: Journal, destination: str) -> Self:
        """Read the receipt of ``destination``; return an empty one if it is missing or damaged."""
        try:
            raw = (journal.folder / NAME).read_bytes()
            receipt = cls(**json.loads(unseal(raw.removesuffix(b"\n"))))
            if receipt.destination == destination and 0 <= receipt.offset <= journal.size:
                return receipt
        except (OSError, ValueError, TypeError):
            pass
        return cls(destination)

    def forget(self) -> None:
        """Reset the receipt, so that the journal is sent from its beginning."""
        self.run_id, self.offset, self.producers, self.refused = "", 0, {}, []

    def save(self, journal: Journal) -> None:
        """Replace the receipt on disk in one step."""
        path = journal.folder / NAME
        temporary = path.with_suffix(".tmp")
        with open_private(temporary, "wb") as file:
            file.write(seal(json.dumps(asdict(self)).encode()))
        os.replace(temporary, path)

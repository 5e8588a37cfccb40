"""What an MLflow has acknowledged of a journal: as far as that, nothing needs to be sent again."""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Self

from darkroom.tracking.journal.file import Journal, seal, unseal
from darkroom.tracking.journal.private import open_private

NAME = "sent.json"


@dataclass
class Receipt:
    """Lies beside the journal. Lost or outdated it costs a second sending, which adds nothing twice."""

    destination: str = ""
    """Digest of the address that it speaks of."""
    run_id: str = ""
    offset: int = 0
    """Bytes of the journal that have arrived."""
    producers: dict[str, str] = field(default_factory=dict)
    """Artifacts that were used, and the runs that made them ("" where none is known)."""
    refused: list[str] = field(default_factory=list)
    """What will never arrive, and why: MLflow refuses it, or it is damaged."""

    @classmethod
    def load(cls, journal: Journal, destination: str) -> Self:
        """Reads the receipt of ``destination``; an empty one where there is none, or it is damaged."""
        try:
            raw = (journal.folder / NAME).read_bytes()
            receipt = cls(**json.loads(unseal(raw.removesuffix(b"\n"))))
            if receipt.destination == destination and 0 <= receipt.offset <= journal.size:
                return receipt
        except (OSError, ValueError, TypeError):
            pass
        return cls(destination)

    def forget(self) -> None:
        """Forgets everything, so that the journal is sent from its beginning."""
        self.run_id, self.offset, self.producers, self.refused = "", 0, {}, []

    def save(self, journal: Journal) -> None:
        """Replaces the receipt on disk at once."""
        path = journal.folder / NAME
        temporary = path.with_suffix(".tmp")
        with open_private(temporary, "wb") as file:
            file.write(seal(json.dumps(asdict(self)).encode()))
        os.replace(temporary, path)

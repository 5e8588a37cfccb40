"""The stages in a revision's dvc.yaml; its dvc.lock also keeps entries of stages that were removed."""

from darkroom.errors import UserError
from darkroom.paths import PARAMS, PIPELINE
from darkroom.tracking.ledger.revisions import Revision, Revisions


class Stages:
    """Asks DVC for the stages of each revision once; DVC resolves ``foreach`` and ``matrix``."""

    def __init__(self, revisions: Revisions) -> None:
        self._revisions = revisions
        self._names: dict[str, frozenset[str] | None] = {}

    def has(self, revision: Revision, stage: str) -> bool:
        """Return whether the dvc.yaml of ``revision`` has ``stage``, for example ``fetch@digits``.

        True if DVC cannot read that dvc.yaml, since then nothing shows that the stage was removed.
        """
        if revision.commit not in self._names:
            self._names[revision.commit] = self._read(revision)
        names = self._names[revision.commit]
        return names is None or stage in names

    def _read(self, revision: Revision) -> frozenset[str] | None:
        try:
            for name in (PIPELINE, PARAMS):
                self._revisions.check_yaml(revision, name)  # DVC reads YAML without bounds
        except UserError:
            return None
        from dvc.repo import Repo  # 0.2 s

        try:
            with Repo(str(self._revisions.folder), rev=revision.commit or None) as repo:
                names = {getattr(stage, "name", "") for stage in repo.index.stages}
        except Exception:  # DVC, git and YAML have errors of their own
            return None
        return frozenset(names) or None

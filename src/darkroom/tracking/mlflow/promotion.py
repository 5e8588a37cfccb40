"""The versions of the registered model, and the alias ``champion`` that names the one in use.

This talks to MLflow directly, not through a journal, so that whoever promotes a model knows that it
worked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from darkroom.errors import UserError
from darkroom.progress import progress_bar
from darkroom.tracking.address import Address
from darkroom.tracking.journal.trouble import reason
from darkroom.tracking.secrets.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

BY, AT, WHY, REPLACED = "promoted.by", "promoted.at", "promoted.why", "promoted.replaced"
"""Tags of a version that was promoted."""

OUT_AT, OUT_BY = "replaced.at", "replaced.by"
"""Tags of a version that was replaced, when and by which; the description says who did it, and why."""

_PROMOTED, _REPLACED = "- promoted ", "- replaced "
"""Prefixes of lines in a version's history, which is at the end of its description."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    """Of the model."""
    number: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    tags: dict[str, str]
    description: str
    source: str

    def __str__(self) -> str:
        aliases = f" ({', '.join(self.aliases)})" if self.aliases else ""
        return f"{self.name} version {self.number}{aliases}"


@dataclass(frozen=True)
class Details:
    """Facts in the logged model of a version; empty if the model was deleted."""

    scores: dict[str, float] = field(default_factory=dict)
    """Scores on the test split, for example ``test/f1_macro``."""
    params: dict[str, str] = field(default_factory=dict)
    """As returned by ``descriptions.model_params``."""
    data: str = ""
    """Digest of the data on which it was tested, as far as MLflow keeps it."""


class Registry:
    """The registered model of the project's experiment, as it was when this was opened.

    ``versions`` has at least one item; the newest is first.
    """

    def __init__(self, client: "MlflowClient", name: str, address: Address) -> None:
        self._client = client
        self._name = name
        self._address = address
        with self._reached("the model registry cannot be read"):
            self.versions = load_versions(client, name)

    @classmethod
    def open(cls, root: Path, address: Address) -> Self:
        """Read the registry.

        Raises:
            UserError: nothing is registered, or MLflow does not answer.
        """
        if address.is_embedded and not (root / "mlflow.db").exists():
            raise UserError(_nothing_registered(address))
        from darkroom.tracking.mlflow.store import open_client

        try:
            client = open_client(root, address)
        except Exception as error:  # of any kind: of a database or an HTTP library
            raise UserError(f"{address}: {reason(error)}") from None
        from darkroom.tracking.mlflow.registry import model_name

        registry = cls(client, model_name(address.experiment), address)
        if not registry.versions:
            raise UserError(_nothing_registered(address))
        return registry

    @property
    def champion(self) -> Version | None:
        """The version in use."""
        return self._find_alias("champion")

    @property
    def candidate(self) -> Version | None:
        """The version that was exported last."""
        return self._find_alias("candidate")

    def version(self, number: int) -> Version:
        """Return a version by its number.

        Raises:
            UserError: there is no such version.
        """
        for version in self.versions:
            if version.number == number:
                return version
        raise UserError(
            f"{self._name} has no version {number}, the latest is {self.versions[0].number}; "
            "`darkroom promote --list` lists them"
        )

    def details(self, version: Version) -> Details:
        """Read the facts about a version's model."""
        from darkroom.tracking.mlflow.registry import find_source

        with self._reached("nothing is changed"):
            model = find_source(self._client, version.source)
        if model is None:
            return Details()
        points = model.metrics or []
        return Details(
            scores={point.key: point.value for point in points if point.key.startswith("test/")},
            params=dict(model.params or {}),
            data=next((point.dataset_digest for point in points if point.dataset_digest), ""),
        )

    def read_back(self, version: Version) -> str:
        """Read a version's files back, compare them with its tags, and return a sentence that says so.

        Raises:
            UserError: a file is missing or differs, the version has no digests, or MLflow does not
                answer.
        """
        from darkroom.tracking.mlflow.read_back import (
            FILES_TAG,
            Unsound,
            num_bytes_of,
            read_back,
            recorded_files,
        )
        from darkroom.tracking.mlflow.registry import find_source

        with self._reached("nothing is changed"):
            model = find_source(self._client, version.source)
            try:
                if model is None:
                    raise Unsound(f"its logged model ({version.source}) is gone")
                of_model = {name: text for name, text in model.tags.items() if name == FILES_TAG}
                recorded = recorded_files({**version.tags, **of_model})
                with progress_bar("read back", num_bytes_of(self._client, model), "bytes") as bar:
                    read_back(self._client.tracking_uri, model, recorded, bar.advance)
            except Unsound as error:
                raise UserError(
                    f"version {version.number} cannot be used: {error}; nothing is changed; promote "
                    "another version, or export this one again: `dvc repro --force export`, then "
                    "`darkroom sync`"
                ) from None
        files = "1 file" if len(recorded) == 1 else f"{len(recorded)} files"
        return f"version {version.number}: {files} read back, SHA-256 as recorded when it was exported"

    def promote(self, new: Version, why: str, who: str) -> None:
        """Make ``new`` the champion, and record who did it and why, in it and in the previous champion.

        The alias moves last: after an earlier failure the champion is unchanged, and repeating the call
        records nothing twice.

        Raises:
            UserError: MLflow does not answer, or refuses.
        """
        from darkroom.tracking.mlflow.registry import CHAMPION

        old, why = self.champion, redact(" ".join(why.split()))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        by = f"{_minute(at)} UTC by {who}"
        with self._reached(f"version {new.number} is not promoted"):
            replaced = f"{old.number}" if old else "none"
            instead = f", in place of version {old.number}" if old else ""
            self._tag(new, {BY: who, AT: at, WHY: why, REPLACED: replaced})
            self._describe(new, f"{_PROMOTED}{by}{instead}: {why}")
            if old:
                self._tag(old, {OUT_AT: at, OUT_BY: f"{new.number}"})
                self._describe(old, f"{_REPLACED}{by}, by version {new.number}: {why}")
            for tag in (OUT_AT, OUT_BY):  # of an earlier replacement
                if tag in new.tags:
                    self._client.delete_model_version_tag(self._name, f"{new.number}", tag)
            self._client.set_registered_model_alias(self._name, CHAMPION, f"{new.number}")

    def _find_alias(self, alias: str) -> Version | None:
        return next((version for version in self.versions if alias in version.aliases), None)

    def _tag(self, version: Version, tags: dict[str, str]) -> None:
        for name, text in tags.items():
            self._client.set_model_version_tag(self._name, f"{version.number}", name, text)

    def _describe(self, version: Version, event: str) -> None:
        """Add a line to a version's history, or replace the line of an attempt that failed."""
        lines = version.description.splitlines()
        kind = next(kind for kind in (_PROMOTED, _REPLACED) if event.startswith(kind))
        if lines and lines[-1].startswith(kind):
            lines.pop()
        separator = [""] if lines and not lines[-1].startswith("- ") else []
        text = "\n".join([*lines, *separator, event])
        self._client.update_model_version(self._name, f"{version.number}", text)

    @contextmanager
    def _reached(self, consequence: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of any kind: of MLflow, a database or an HTTP library
            raise UserError(f"{self._address}: {reason(error)}; {consequence}") from None


def load_versions(client: "MlflowClient", name: str) -> list[Version]:
    """Return the versions of a registered model, newest first; none if there is no such model."""
    from mlflow.exceptions import MlflowException

    from darkroom.tracking.mlflow.registry import is_absent

    try:
        of_alias = client.get_registered_model(
            name
        ).aliases  # a search for versions does not return them
    except MlflowException as error:
        if is_absent(error):
            return []
        raise
    found, token = [], None
    while token != "":
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += page
        token = page.token or ""
    return [
        Version(
            name=name,
            number=int(version.version),
            aliases=tuple(
                sorted(
                    alias for alias, number in of_alias.items() if f"{number}" == f"{version.version}"
                )
            ),
            created=datetime.fromtimestamp(version.creation_timestamp / 1_000, UTC),
            run_id=version.run_id or "",
            tags=dict(version.tags),
            description=version.description or "",
            source=version.source or "",
        )
        for version in sorted(found, key=lambda version: int(version.version), reverse=True)
    ]


def _nothing_registered(address: Address) -> str:
    return f"{address}: no model is registered for {address.experiment}; `dvc repro` exports one"


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")

"""The revisions that have results: the folder, commits, and DVC's experiments."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from darkroom.bounded_yaml import MAX_BYTES, BadYaml, decode_text, load_yaml, read_text
from darkroom.errors import UserError, did_you_mean
from darkroom.tracking.git import Repository
from darkroom.tracking.ledger.results import LOCK, WORKSPACE, Result, parse_results

# As in dvc/repo/experiments/refs.py, which is not public API; DVC's other refs do not match.
_EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38}|[0-9a-f]{62})/([^/]+)")

_FIELDS = "%H%x1f%ct%x1f%an%x1f%s"

_MAIN_BRANCHES = [
    f"--refs=refs/{place}/{name}" for name in ("main", "master") for place in ("heads", "remotes/*")
]
_BRANCHES = ["--refs=refs/heads/*", "--refs=refs/remotes/*", "--exclude=refs/remotes/*/HEAD"]

NAMED_AT_ONCE = 1_000
"""Commits per call of git: a command line is limited to 128 KiB on some systems."""


@dataclass(frozen=True)
class Revision:
    """One state of the project: the folder as it is, a commit, or an experiment."""

    name: str
    """``workspace``, an experiment's name, or the commit's first 7 digits."""
    commit: str = ""
    """40 hex digits; empty for the workspace."""
    committed_ms: int | None = None
    """Milliseconds since 1970, UTC; None for the workspace."""
    author: str = ""
    subject: str = ""
    """The first line of the commit's message."""
    branch: str = ""
    """``main`` or ``master`` if it has the commit, else the closest branch; empty if there is none."""
    baseline: str = ""
    """For an experiment, the commit on which it is based; else empty."""


class Revisions:
    """The revisions of the project in ``folder``, the folder of dvc.yaml.

    Without git, or before the first commit, there is only the workspace.

    Raises:
        UserError: git refuses the repository, for example because of its owner.
    """

    def __init__(self, folder: Path = Path()) -> None:
        self.folder = folder
        self.repository = Repository.around(folder)
        self._committed: dict[str, dict[str, Result]] = {}

    def find(self, rev: str) -> Revision:
        """Return the revision ``rev``: ``workspace``, a name that git understands, or an experiment.

        Raises:
            UserError: nothing has this name, or several experiments have.
        """
        if rev == WORKSPACE:
            return Revision(WORKSPACE)
        if self.repository is None:
            raise UserError(f"{rev}: {self.folder.absolute()} is not in a git repository")
        commit = self.repository.commit(rev)
        experiments = self.experiments()
        if commit is not None:
            named = [one for one in experiments if one.commit == commit]
            return named[0] if named else self._described([commit])[commit]
        found = [one for one in experiments if one.name == rev]
        if len(found) > 1:  # like DVC, prefer the one based on the commit that is checked out
            head = self.repository.commit("HEAD")
            found = [one for one in found if one.baseline == head] or found
        if len(found) > 1:
            commits = ", ".join(one.commit[:7] for one in found)
            raise UserError(f"{rev}: {len(found)} experiments have this name; name one of {commits}")
        if not found:
            near = did_you_mean(rev, [one.name for one in experiments])
            raise UserError(f"{rev}: neither a git revision nor a DVC experiment{near}")
        return found[0]

    def commits(self) -> list[Revision]:
        """Return the commits that changed dvc.lock, on any branch or tag, oldest first.

        Experiments are included only if a branch was made from them. In a shallow clone the oldest
        commit counts as the one that wrote all of its dvc.lock.

        Raises:
            UserError: git fails.
        """
        if self.repository is None:
            return []
        starts = ["--branches", "--tags", "--remotes"]
        if self.repository.commit("HEAD"):  # HEAD may be detached, or not exist yet
            starts.append("HEAD")
        # full: otherwise git skips what a merge has discarded
        order = ("--full-history", "--topo-order", "--reverse", "--format=%H")
        commits = self.repository.lines("log", *order, *starts, "--", LOCK.as_posix())
        return list(self._described(commits).values())

    def experiments(self) -> list[Revision]:
        """Return all experiments that DVC keeps, oldest first, each as its last commit.

        Raises:
            UserError: git fails, for example because an experiment's commit is lost.
        """
        if self.repository is None:
            return []
        refs = self.repository.lines("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
        matches = [(_EXPERIMENT.fullmatch(ref), commit) for ref, commit in map(str.split, refs)]
        experiments = [(match, commit) for match, commit in matches if match]
        described = self._described([commit for _, commit in experiments])
        revisions = [
            replace(described[commit], name=match[3], baseline=match[1] + match[2])
            for match, commit in experiments
        ]
        return sorted(revisions, key=lambda one: (one.committed_ms or 0, one.name))

    def results(self, revision: Revision) -> dict[str, Result]:
        """Return the results in a revision's dvc.lock by stage; none if the file does not exist.

        Raises:
            UserError: the dvc.lock is invalid.
        """
        if revision.commit in self._committed:
            return self._committed[revision.commit]
        text = self._text(revision, LOCK)
        results = parse_results(text, revision.commit or WORKSPACE)
        if revision.commit:  # many experiments share a baseline
            self._committed[revision.commit] = results
        return results

    def new_results(self, experiment: Revision) -> dict[str, Result]:
        """Return the results that an experiment does not share with its base commit, by stage.

        All results if that commit is missing, as in a shallow clone, or its dvc.lock is invalid.

        Raises:
            UserError: the experiment's dvc.lock is invalid.
        """
        try:
            baseline = self.results(Revision(experiment.baseline[:7], experiment.baseline))
        except UserError:
            baseline = {}
        old = {stage: result.digest for stage, result in baseline.items()}
        return {
            stage: result
            for stage, result in self.results(experiment).items()
            if result.digest != old.get(stage)
        }

    def check_yaml(self, revision: Revision, name: Path) -> None:
        """Check that a revision's file, if it exists, can be read in bounded time.

        Raises:
            UserError: the file is not YAML, or takes too much work.
        """
        text = self._text(revision, name)
        try:
            load_yaml(text)
        except BadYaml as error:
            raise UserError(f"{name} at {revision.name}: {error}") from None

    def _text(self, revision: Revision, name: Path) -> str:
        """Return the text of a revision's YAML file; empty if there is no such file."""
        if not revision.commit:
            try:
                return read_text(self.folder / name)
            except FileNotFoundError:
                return ""
        if self.repository is None:
            return ""
        content = self.repository.file(revision.commit, name.as_posix(), MAX_BYTES + 1)
        try:
            return decode_text(content or b"")
        except BadYaml as error:
            raise UserError(f"{name} at {revision.name}: {error}") from None

    def _described(self, commits: list[str]) -> dict[str, Revision]:
        """Return the revision of each commit, in their order."""
        assert self.repository is not None
        described = {}
        for start in range(0, len(commits), NAMED_AT_ONCE):
            part = commits[start : start + NAMED_AT_ONCE]
            branches = self._branches(part)
            lines = self.repository.lines("log", "--no-walk=unsorted", f"--format={_FIELDS}", *part)
            for line in lines:
                commit, seconds, author, subject = line.split("\x1f", 3)
                described[commit] = Revision(
                    name=commit[:7],
                    commit=commit,
                    committed_ms=int(seconds) * 1_000,
                    author=author,
                    subject=subject,
                    branch=branches.get(commit, ""),
                )
        return described

    def _branches(self, commits: list[str]) -> dict[str, str]:
        """Return the branch of each commit that is on a branch."""
        assert self.repository is not None
        branches: dict[str, str] = {}
        for refs in (_MAIN_BRANCHES, _BRANCHES):
            others = [commit for commit in commits if commit not in branches]
            for line in self.repository.lines("name-rev", *refs, *others) if others else []:
                commit, _, name = line.partition(" ")  # `main~3^2`, `remotes/origin/main~3`
                if name != "undefined":
                    branch = re.split(r"[~^]", name)[0]
                    branches[commit] = re.sub(r"^(heads|remotes/[^/]+)/", "", branch)
        return branches

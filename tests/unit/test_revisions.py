import shutil
from pathlib import Path

import pytest
from project import Project
from tiny import RESTORED_OUTPUT, copied, empty_repository, experiment, set_lr, tiny

from darkroom.errors import UserError
from darkroom.tracking.ledger.results import Result
from darkroom.tracking.ledger.revisions import Revision, Revisions

pytestmark = pytest.mark.slow


def lr(results: dict[str, Result]) -> float:
    return results["train"].params["train.lr"]


def rev_list(project: Project, *arguments: str) -> list[str]:
    return project.git("rev-list", *arguments).split()


def test_commits_from_the_oldest_with_what_git_knows(tiny_history: Project) -> None:
    revisions = Revisions(tiny_history.folder)
    commits = revisions.commits()
    assert [one.commit for one in commits] == rev_list(tiny_history, "--reverse", "main")
    assert [lr(revisions.results(one)) for one in commits] == [0.1, 0.2, 0.3]
    first = commits[0]
    seconds = int(tiny_history.git("show", "--no-patch", "--format=%ct", first.commit))
    assert first == Revision(
        first.commit[:7], first.commit, seconds * 1000, "test", "lr 0.1", branch="main"
    )
    assert {result.revision for result in revisions.results(first).values()} == {first.commit}


def test_experiments_and_what_is_theirs_alone(tiny_history: Project) -> None:
    revisions = Revisions(tiny_history.folder)
    experiments = {one.name: one for one in revisions.experiments()}
    assert list(experiments) == ["faster", "seeded", "restored"]
    assert {one.baseline for one in experiments.values()} == {rev_list(tiny_history, "main")[0]}
    listed = tiny_history.dvc("exp", "list", "--sha-only", "--all-commits").split()
    assert sorted(one.commit for one in experiments.values()) == sorted(listed)
    for name, rate in (("faster", 0.4), ("seeded", 0.5), ("restored", 0.1)):
        new = revisions.new_results(experiments[name])
        assert list(new) == ["train", "evaluate"]
        assert lr(new) == rate
    assert len(revisions.results(experiments["faster"])) == 4


def test_a_result_restored_from_the_run_cache_is_the_one_it_was(tiny_history: Project) -> None:
    output = (tiny_history.folder.parent / RESTORED_OUTPUT).read_text()
    assert "'train' is cached - skipping run" in output
    revisions = Revisions(tiny_history.folder)
    first, second, _ = map(revisions.results, revisions.commits())
    restored = revisions.results(revisions.find("restored"))
    assert restored["train"].digest == first["train"].digest
    assert restored["train"].digest != second["train"].digest
    assert restored["train"].revision != first["train"].revision


def test_find(tiny_history: Project) -> None:
    revisions = Revisions(tiny_history.folder)
    head = rev_list(tiny_history, "main")[0]
    assert revisions.find("workspace") == Revision("workspace")
    assert revisions.find("HEAD").commit == head
    assert revisions.find("main~2") == revisions.commits()[0]
    assert revisions.find(head[:8]).branch == "main"
    faster = revisions.find("faster")
    assert (faster.name, faster.baseline) == ("faster", head)
    assert revisions.find(faster.commit[:9]) == faster
    for rev in ("fastr", "HEAD~9", "--all", ""):
        with pytest.raises(UserError, match="neither a git revision nor a DVC experiment"):
            revisions.find(rev)
    with pytest.raises(UserError, match=r"did you mean faster\?"):
        revisions.find("fastr")


def test_experiments_of_one_name(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    first, _, head = rev_list(project, "--reverse", "main")
    commit = Revisions(project.folder).find("faster").commit
    project.git("update-ref", f"refs/exps/{first[:2]}/{first[2:]}/faster", first)
    revisions = Revisions(project.folder)
    assert len(revisions.experiments()) == 4
    assert revisions.find("faster").commit == commit  # it began with HEAD
    project.git("checkout", "--quiet", "HEAD~1")
    with pytest.raises(UserError, match="faster: 2 experiments have this name"):
        revisions.find("faster")
    project.git("update-ref", "-d", f"refs/exps/{head[:2]}/{head[2:]}/faster")
    assert revisions.find("faster").baseline == first


def test_bookkeeping_of_dvc_is_no_experiment_and_no_commit(
    tiny_history: Project, tmp_path: Path
) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    commit = Revisions(project.folder).find("faster").commit
    for name in (
        "exec/EXEC_HEAD",
        "apply/ORIG_HEAD",
        "celery/stash",
        "celery/failed",
        "stash",
        "temp/x",
    ):
        project.git("update-ref", f"refs/exps/{name}", commit)
    project.git("update-ref", "refs/stash", commit)
    before, after = Revisions(tiny_history.folder), Revisions(project.folder)
    assert "exec/EXEC_HEAD" in project.git("for-each-ref")
    assert after.experiments() == before.experiments()
    assert after.commits() == before.commits()


def test_commits_of_all_branches_and_tags(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    on_main = Revisions(project.folder).commits()

    def change(text: str) -> str:
        (project.folder / "dvc.lock").open("a").write(f"# {text}\n")
        project.commit(text)
        return project.git("rev-parse", "HEAD").strip()

    project.git("branch", "a-name-before-main")
    project.git("branch", "nearer", "HEAD~1")
    project.git("checkout", "--quiet", "-b", "dir/side", "HEAD~1")
    on_side = change("side")
    project.git("checkout", "--quiet", "--detach")
    on_tag = change("tagged")
    project.git("tag", "v1")
    detached = change("detached")
    revisions = Revisions(project.folder)
    found = {one.commit: one.branch for one in revisions.commits()}
    assert found == {
        **{one.commit: "main" for one in on_main},
        on_side: "dir/side",
        on_tag: "",
        detached: "",
    }
    assert revisions.find("HEAD").commit == detached
    project.git("checkout", "--quiet", "main")
    assert detached not in {one.commit for one in revisions.commits()}

    (project.folder / "README").write_text("no result")
    project.commit("not of the lock")
    assert len(revisions.commits()) == len(on_main) + 2
    # a merge that keeps nothing of the other side: git's own simplification would hide that side
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    project.git(*author, "merge", "--quiet", "--strategy=ours", "--message=merge", "dir/side")
    project.git("branch", "--delete", "--force", "dir/side")
    project.git("tag", "--delete", "v1")
    assert on_side in {one.commit for one in revisions.commits()}


def test_the_workspace_is_read_as_it_is(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    set_lr(project, 0.9)
    project.dvc("repro", "train")
    revisions = Revisions(project.folder)
    assert lr(revisions.results(Revision("workspace"))) == 0.9
    assert lr(revisions.results(revisions.find("HEAD"))) == 0.3
    (project.folder / "dvc.lock").write_text("a: 1\n<<<<<<< HEAD\nb: 2\n")
    with pytest.raises(UserError, match=r"^dvc\.lock, line 3: .* merge conflict"):
        revisions.results(Revision("workspace"))
    (project.folder / "dvc.lock").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"dvc\.lock: not UTF-8"):
        revisions.results(Revision("workspace"))
    (project.folder / "dvc.lock").unlink()
    assert revisions.results(Revision("workspace")) == {}
    project.commit("no lock")
    assert revisions.commits()[-1].subject == "no lock"
    assert revisions.results(revisions.commits()[-1]) == {}


def test_a_baseline_that_is_gone_leaves_all_results_new(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    commit = Revisions(project.folder).find("faster").commit
    project.git("update-ref", f"refs/exps/{'0' * 2}/{'1' * 38}/orphan", commit)
    revisions = Revisions(project.folder)
    assert len(revisions.new_results(revisions.find("orphan"))) == 4


def test_a_lost_commit_is_said(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    commit = Revisions(project.folder).find("faster").commit
    (project.folder / ".git/objects" / commit[:2] / commit[2:]).unlink()
    with pytest.raises(UserError, match=f"git log: fatal: bad object {commit}"):
        Revisions(project.folder).experiments()
    assert len(Revisions(project.folder).commits()) == 3


def test_a_branch_made_of_an_experiment(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    before = Revisions(project.folder).experiments()
    project.dvc("exp", "branch", "faster", "kept")
    revisions = Revisions(project.folder)
    assert [one.branch for one in revisions.commits()] == ["main", "main", "main", "kept"]
    assert lr(revisions.results(revisions.commits()[-1])) == 0.4
    kept = {one.name: one.commit for one in before}
    assert {one.name: one.commit for one in revisions.experiments()} == kept


def test_an_experiment_run_in_a_copy(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    project.dvc("exp", "run", "--temp", "--name", "aside", "--set-param", "train.lr=0.6")
    project.dvc("exp", "run", "--queue", "--name", "waiting", "--set-param", "train.lr=0.7")
    revisions = Revisions(project.folder)
    assert [one.name for one in revisions.experiments()][-1] == "aside"
    assert len(revisions.experiments()) == 4
    assert lr(revisions.new_results(revisions.find("aside"))) == 0.6


def test_a_shallow_clone(tiny_history: Project, tmp_path: Path) -> None:
    project = Project.at(tmp_path)
    project.git("clone", "--quiet", "--depth=1", tiny_history.folder.as_uri(), "clone")
    revisions = Revisions(tmp_path / "clone")
    (commit,) = revisions.commits()
    assert commit == Revisions(tiny_history.folder).commits()[-1]
    assert lr(revisions.results(commit)) == 0.3
    assert revisions.experiments() == []


def test_branches_of_a_clone_are_those_of_its_remote(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    project.git("checkout", "--quiet", "-b", "side")
    (project.folder / "dvc.lock").open("a").write("# side\n")
    project.commit("side")
    project.git("checkout", "--quiet", "main")
    Project.at(tmp_path).git("clone", "--quiet", "copy", "clone")
    assert [one.branch for one in Revisions(tmp_path / "clone").commits()] == [*["main"] * 3, "side"]


def test_without_git_there_is_the_workspace_alone(tiny_history: Project, tmp_path: Path) -> None:
    project = copied(tiny_history, tmp_path / "copy")
    shutil.rmtree(project.folder / ".git")
    revisions = Revisions(project.folder)
    assert (revisions.repository, revisions.commits(), revisions.experiments()) == (None, [], [])
    assert lr(revisions.results(revisions.find("workspace"))) == 0.3
    with pytest.raises(UserError, match=r"HEAD: .* is not in a git repository"):
        revisions.find("HEAD")


def test_before_the_first_commit(tmp_path: Path) -> None:
    empty_repository(tmp_path)
    revisions = Revisions(tmp_path)
    assert (revisions.commits(), revisions.experiments()) == ([], [])
    assert revisions.results(Revision("workspace")) == {}
    with pytest.raises(UserError, match="HEAD: neither"):
        revisions.find("HEAD")


def test_git_that_refuses_or_is_not_there(
    tiny_history: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").write_text("nonsense")
    with pytest.raises(UserError, match=f"{tmp_path}: fatal: invalid gitfile format"):
        Revisions(tmp_path)
    revisions = Revisions(tiny_history.folder)
    monkeypatch.setattr("darkroom.tracking.git.TIMEOUT_SECONDS", 1e-9)
    with pytest.raises(UserError, match=r"git log: no answer in 1e-09 seconds|git rev-parse: no answer"):
        revisions.commits()
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git log: git is not installed"):
        revisions.commits()
    assert Revisions(tiny_history.folder).commits() == []


def test_in_a_hook_of_another_repository(
    tiny_history: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Revisions(tiny_history.folder).commits()
    empty_repository(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert Revisions(tiny_history.folder).commits() == commits


@pytest.mark.parametrize(
    ("dvc_folder", "pipeline_folder"),
    [
        ("ml", "ml"),
        ("", "pipe line"),
        ("ml", "ml/größe"),
    ],
)
def test_a_pipeline_in_a_folder_of_the_repository(
    tmp_path: Path, dvc_folder: str, pipeline_folder: str
) -> None:
    project = tiny(tmp_path / "repository", dvc_folder, pipeline_folder)
    revisions = Revisions(project.folder)
    (commit,) = revisions.commits()
    assert lr(revisions.results(commit)) == 0.1
    assert Revisions(tmp_path / "repository").commits() == []
    experiment(project, "faster", "train.lr=0.4")
    assert lr(revisions.new_results(revisions.find("faster"))) == 0.4

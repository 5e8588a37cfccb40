"""Workflows, the report, comments, and whether results were reproduced."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from comments_api import TOKEN, CommentsApi, comments_api
from compared import BAD, files_of
from ruamel.yaml import YAML

from darkroom.ci.hosting import MARK, hosting_of, publish
from darkroom.ci.report import report
from darkroom.ci.reproduced import compare_with_commit
from darkroom.ci.workflow import SETUP_CLONE, SETUP_PROJECT, workflow
from darkroom.cli import main
from darkroom.errors import UserError
from darkroom.paths import METRICS, PREDICTIONS
from darkroom.tracking.git import Repository

ROOT = Path(__file__).parents[2]


def parsed(hosting: str, *arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(workflow(hosting, *arguments))
    return found


@pytest.fixture
def api() -> Iterator[CommentsApi]:
    with comments_api() as api:
        yield api


def github(api: CommentsApi) -> dict[str, str]:
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": api.address,
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_REPOSITORY": "me/mine",
        "GITHUB_TOKEN": TOKEN,
    }


def gitlab(api: CommentsApi) -> dict[str, str]:
    return {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": api.address,
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_PROJECT_ID": "12",
        "GITLAB_TOKEN": TOKEN,
    }


def test_githubs_workflow_has_least_rights_and_pinned_actions() -> None:
    found = parsed("github")
    assert found["permissions"] == {"contents": "read"}
    rights = {name: job["permissions"] for name, job in found["jobs"].items() if "permissions" in job}
    assert rights == {"pipeline": {"contents": "read", "pull-requests": "write"}}
    steps = [step for job in found["jobs"].values() for step in job["steps"]]
    for step in steps:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step.get("uses", f"actions/x@{'0' * 40}"))
        assert "${{" not in step.get("run", "")  # where a branch's name would be run as code
    assert "secrets" not in f"{found['jobs']['fork']}"
    assert all("env" not in job for job in found["jobs"].values())
    tokens = [step["name"] for step in steps if "github.token" in f"{step.get('env')}"]
    assert tokens == ["Comment"]


@pytest.mark.parametrize("command", [SETUP_CLONE, SETUP_PROJECT])
@pytest.mark.parametrize(("hosting", "times"), [("github", 4), ("gitlab", 1)])
def test_each_job_sets_up_the_environment(hosting: str, times: int, command: str) -> None:
    lines = workflow(hosting, setup=command).splitlines()
    assert [line.strip(" -") for line in lines].count(command) == times


def test_options_change_what_they_name() -> None:
    gpu = parsed("github", (), True, True)["jobs"]
    assert gpu["pipeline"]["runs-on"] == gpu["reproducible"]["runs-on"] == ["self-hosted", "gpu"]
    assert gpu["fork"]["runs-on"] == gpu["smoke"]["runs-on"] == "ubuntu-24.04"
    assert gpu["pipeline"]["permissions"]["contents"] == "write"
    assert "secrets." not in workflow("github", ())
    assert parsed("gitlab", (), True)["pipeline"]["tags"] == ["gpu"]
    assert "tags" not in f"{parsed('gitlab')}"
    with pytest.raises(UserError, match="--secret a b: write the name of a variable"):
        workflow("github", ("a b",))


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
@pytest.mark.parametrize("gpu", [False, True])
def test_actionlint_finds_nothing(gpu: bool) -> None:
    own_label = ("-ignore", 'label "gpu" is unknown')
    text = workflow("github", gpu=gpu, plots=gpu).encode()
    done = subprocess.run(["actionlint", "-no-color", *own_label, "-"], input=text, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def test_a_workflow_that_was_edited_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["ci", "github"]).exit_code == 0
    path = Path(".github/workflows/darkroom.yml")
    assert path.read_text() == CliRunner().invoke(main, ["ci", "github", "--print"]).output
    assert CliRunner().invoke(main, ["ci", "github"]).exit_code == 0
    path.write_text("mine")
    refused = CliRunner().invoke(main, ["ci", "github"])
    assert (refused.exit_code, path.read_text()) == (2, "mine")
    assert "exists and differs" in refused.output


@pytest.mark.parametrize(
    ("environ", "where", "one", "verb"),
    [
        (github, "/repos/me/mine/issues/7/comments", "/repos/me/mine/issues/comments", "PATCH"),
        (gitlab, "/projects/12/merge_requests/7/notes", "/projects/12/merge_requests/7/notes", "PUT"),
    ],
)
def test_the_comment_is_updated_not_repeated(
    api: CommentsApi, environ: Any, where: str, one: str, verb: str
) -> None:
    api.comments = dict.fromkeys(range(1, 131), f"> {MARK}\nquoted")  # more than a page
    hosting = hosting_of(environ(api))
    assert hosting is not None
    assert publish("first", hosting) == "created"
    assert publish("second", hosting) == "updated"
    assert api.writes == [f"POST {where}", f"{verb} {one}/131"]
    assert api.comments[131] == f"{MARK}\nsecond"
    assert len(api.comments) == 131


def test_plots_are_uploaded_once(
    api: CommentsApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plot.png").write_bytes(b"\x89PNG")
    text = "![A plot](plot.png) ![Not ours](https://example.org/x.png) ![Secret](/etc/x.png)"
    for _ in range(2):
        hosting = hosting_of(github(api), "plots")
        assert hosting is not None
        publish(text, hosting)
    assert [call.split("/mine/")[1].split("/")[0] for call in api.writes] == [
        *["git"] * 3, "contents", *["issues"] * 2,
    ]  # fmt: skip
    [name] = api.files
    assert f"![A plot](/me/mine/blob/plots/{name}?raw=true) ![Not ours](https" in api.comments[1]
    for environ, shown in ((github, "A plot: `plot.png` in the job's"), (gitlab, "![A plot](/uploads/")):
        hosting = hosting_of(environ(api))
        assert hosting is not None
        publish(text, hosting)
        assert shown in api.comments[1]


def test_a_refusal_names_the_status_and_no_token(api: CommentsApi) -> None:
    api.status = 403
    hosting = hosting_of(github(api))
    assert hosting is not None
    with pytest.raises(UserError, match=r"GET .*: 403 Forbidden: .*not allowed") as refused:
        publish("text", hosting)
    assert TOKEN not in f"{refused.value}{hosting!r}"


def test_only_jobs_for_pull_requests_post(api: CommentsApi) -> None:
    assert hosting_of({**github(api), "GITHUB_REF": "refs/heads/main"}) is None
    assert hosting_of({**gitlab(api), "CI_MERGE_REQUEST_IID": ""}) is None
    for environ in ({}, {**github(api), "GITHUB_TOKEN": ""}):
        with pytest.raises(UserError, match="set"):
            hosting_of(environ)


def git(*arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *author, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a better model than that of its last commit."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    METRICS.parent.mkdir(parents=True)
    write(BAD)
    Path("dvc.lock").write_text("old")
    Path("environment.json").write_text('{"fingerprint": "a"}')
    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message", "results")
    return tmp_path


def write(scores: Any) -> None:
    predictions, metrics = files_of(scores)
    PREDICTIONS.write_bytes(predictions)
    METRICS.write_bytes(metrics)


def test_other_bytes_fail_only_in_the_same_environment(project: Path) -> None:
    assert compare_with_commit() == (
        True, "dvc.lock is unchanged: the same bytes as when it was committed",
    )  # fmt: skip
    Path("dvc.lock").write_text("new")
    holds, sentence = compare_with_commit()
    assert (holds, sentence.startswith("dvc.lock changed in the environment")) == (False, True)
    Path("environment.json").write_text('{"fingerprint": "b"}')
    assert compare_with_commit()[0]


def test_the_report_has_scores_beside_those_of_the_branch(project: Path) -> None:
    metrics = json.loads(METRICS.read_bytes())
    for commit, score in ((True, 0.5), (False, 0.75)):
        metrics["test"] |= {"f1_macro": score, "f1_macro_low": score - 0.1, "f1_macro_high": score + 0.1}
        METRICS.write_text(json.dumps(metrics))
        if commit:
            git("commit", "--quiet", "--all", "--message", "scores")
    Path("dvc.lock").write_text("stages: {}")
    Path("plan.md").write_text("**Plan:** train runs.")
    got = CliRunner().invoke(main, ["ci", "report", "--against", "main", "--plan", "plan.md"])
    assert got.exit_code == 0, got.output
    assert "| macro F1 | 0.5000 (0.4000 to 0.6000) | 0.7500 (0.6500 to 0.8500) |" in got.output
    assert "**Not compared with main:**" in got.output
    for part in ("No gate is set", "not that of the commit", "train runs.", "MLflow has no run"):
        assert part in got.output
    wrong = CliRunner().invoke(main, ["ci", "report", "--against", "nowhere"])
    assert (wrong.exit_code, wrong.output) == (2, "--against nowhere: not a git revision\n")


def test_a_gate_that_is_not_set_passes_only_if_asked(project: Path) -> None:
    assert CliRunner().invoke(main, ["gate"]).exit_code == 2
    assert CliRunner().invoke(main, ["gate", "--if-set"]).exit_code == 0


def test_the_smoke_profile_changes_params_alone(project: Path) -> None:
    done = CliRunner().invoke(main, ["use", f"{ROOT / 'profiles/smoke.yaml'}"])
    assert done.exit_code == 0, done.output
    assert "train.epochs: 40 -> 1" in done.output
    absent = CliRunner().invoke(main, ["use", "profiles/none.yaml"])
    assert (absent.exit_code, absent.output) == (2, "profiles/none.yaml: the file does not exist\n")


def test_the_report_names_the_authors_commit_not_githubs_merge(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("dvc.lock").write_text("stages: {}")
    git("checkout", "--quiet", "-b", "side")
    git("commit", "--quiet", "--all", "--message", "by the author")
    git("checkout", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "side")
    here, side = (Repository(project, "").commit(name) for name in ("HEAD", "side"))
    monkeypatch.delenv("GITHUB_HEAD_REF", raising=False)
    assert here
    assert side
    assert report().startswith(f"## darkroom at {here[:7]}\n")
    monkeypatch.setenv("GITHUB_HEAD_REF", "side")
    assert report().startswith(f"## darkroom at {side[:7]}\n")

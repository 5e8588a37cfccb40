"""The report on a pull request, as Markdown: plan, scores, verdict, gate, plots, run.

Plots are images with local paths, which ``publish`` replaces by addresses.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.comparison.from_dvc import workspace
from darkroom.comparison.gate import judge_workspace
from darkroom.comparison.sides import find_side
from darkroom.comparison.text import markdown as comparison_markdown
from darkroom.comparison.verdict import compare
from darkroom.errors import UserError
from darkroom.escape import for_markdown
from darkroom.params import load_params
from darkroom.paths import EVALUATE_PLOTS, METRICS, PARAMS
from darkroom.tracking.address import Address
from darkroom.tracking.git import Repository
from darkroom.tracking.ledger.known import TRAIN, read_all
from darkroom.tracking.root import project_root
from darkroom.tracking.secrets.addresses import shown_address
from darkroom.tracking.secrets.redaction import redact

PLOTS = {
    "Confusion matrix": EVALUATE_PLOTS / "confusion.png",
    "Precision and recall": EVALUATE_PLOTS / "precision_recall.png",
    "Images that are hardest": EVALUATE_PLOTS / "hardest.png",
}

THIS = "this branch"

TITLES = {"f1_macro": "macro F1", "f1_micro": "micro F1", "accuracy": "accuracy"}
"""Titles of scores; others are named as in metrics.json."""


def report(against: str | None = None, plan: str = "") -> str:
    """Return the report on the results in the folder.

    Args:
        against: the git revision to compare with, such as ``origin/main``.
        plan: what ``darkroom plan --markdown`` printed before the run.

    Raises:
        UserError: the model was not evaluated, or ``against`` is not a git revision.
    """
    repository = Repository.around(Path())
    if against and not (repository and repository.commit(against)):
        raise UserError(f"--against {against}: not a git revision")
    here = _scores(METRICS.read_bytes() if METRICS.is_file() else None)
    if here is None:
        raise UserError(f"{METRICS}: missing or damaged; run `dvc repro evaluate`")
    parts = [f"## darkroom{_head(repository)}"]
    if against and repository:
        parts.append(_verdict(against))
        there = _scores(repository.file(against, METRICS.as_posix()))
        parts.append(_table(here, there, against))
    else:
        parts.append(_table(here))
    parts.append(_gate())
    if repository and _lock_differs(repository):
        parts.append(
            "`dvc.lock` is not that of the commit. To commit these results, run `dvc repro --pull`, "
            "which restores what took long, and commit `dvc.lock`, `environment.json` and "
            f"`{METRICS}`."
        )
    if plan.strip():
        parts.append(_details("Plan: what ran, and why", plan))
    plots = [f"![{title}]({path})" for title, path in PLOTS.items() if path.is_file()]
    parts += [_details("Plots", "\n\n".join(plots))] if plots else []
    text = redact("\n\n".join(parts))
    return f"{text}\n\n{_runs()}\n"  # redact would take a run's id for a token


def _head(repository: Repository | None) -> str:
    """Return which commit is reported on, as its author knows it."""
    if repository is None:
        return ""
    merged = os.environ.get("GITHUB_HEAD_REF") and repository.commit("HEAD^2")
    commit = merged or repository.commit("HEAD")  # GitHub checks out a merge with the target branch
    return f" at {commit[:7]}" if commit else ""


def _scores(content: bytes | None) -> dict[str, Any] | None:
    """Return the scores on the test images; None if there are none."""
    try:
        test = json.loads(content or b"")["test"]
    except (ValueError, KeyError, TypeError):
        return None
    return test if isinstance(test, dict) else None


def _table(here: Mapping[str, Any], there: Mapping[str, Any] | None = None, against: str = "") -> str:
    """Return the scores that have intervals, beside those of the target branch."""
    names = [name for name in here if f"{name}_low" in here and f"{name}_high" in here]
    headings = ["test (95 % interval)", *([for_markdown(against)] if against else []), THIS]
    lines = [f"| {' | '.join(headings)} |", f"|---{'|---:' * (len(headings) - 1)}|"]
    for name in names:
        cells = [TITLES.get(name, name.replace("_", " "))]
        cells += [_score(there or {}, name)] if against else []
        lines.append(f"| {' | '.join([*cells, _score(here, name)])} |")
    return "\n".join(lines)


def _score(scores: Mapping[str, Any], name: str) -> str:
    values = [scores.get(f"{name}{suffix}") for suffix in ("", "_low", "_high")]
    value, low, high = (f"{one:.4f}" if isinstance(one, int | float) else "unknown" for one in values)
    return f"{value} ({low} to {high})"


def _verdict(against: str) -> str:
    try:
        sides = replace(find_side(f"rev:{against}"), name=against), replace(workspace(), name=THIS)
        comparison = compare(*sides)
    except UserError as error:
        return f"➖ **Not compared with {for_markdown(against)}:** {for_markdown(error)}"  # noqa: RUF001
    sentence, _, tables = comparison_markdown(comparison).partition("\n")
    return f"{sentence}\n\n{_details('Comparison', tables)}"


def _gate() -> str:
    required = load_params(PARAMS).evaluate.gate
    if required is None:
        return "No gate is set (`evaluate.gate`)."
    try:
        reasons, _ = judge_workspace(required)
    except UserError as error:
        return f"❌ **The gate cannot be judged:** {for_markdown(error)}"
    if not reasons:
        return "✅ **The gate is passed.**"
    return "\n".join(["❌ **The gate is not passed.**", *(f"- {for_markdown(one)}" for one in reasons)])


def _lock_differs(repository: Repository) -> bool:
    lock = Path("dvc.lock")
    return lock.is_file() and repository.file("HEAD", lock.name) != lock.read_bytes()


def _runs() -> str:
    """Return the MLflow runs of the model in the folder, with links if MLflow has an address."""
    known = read_all()
    if known.trouble:
        return f"MLflow could not be read: {for_markdown(redact(known.trouble))}."
    results = next((found for revision, found in known.results if not revision.commit), {})
    runs = known.runs_of(results[TRAIN]) if TRAIN in results else []
    if not runs:
        return "MLflow has no run of this model."
    address = Address.of(project_root())
    return "MLflow: " + ", ".join(_links(address, [(run.name, run.run_id) for run in runs[:3]]))


def _links(address: Address, runs: list[tuple[str, str]]) -> Iterator[str]:
    """Yield a link per run; only its name and id if the address is not a page or may hold a secret."""
    base = shown_address(address.uri).rstrip("/")
    is_page = base.startswith(("http://", "https://")) and "*" not in base
    for name, run_id in runs:
        title = f"run {for_markdown(redact(name))}"
        yield f"[{title}]({base}/#/runs/{run_id})" if is_page else f"{title} (`{run_id}`)"


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content.strip()}\n\n</details>"

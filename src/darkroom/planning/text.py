"""A plan as a table for the terminal, and as Markdown for a comment on a pull request."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from darkroom.escape import for_line, for_markdown
from darkroom.planning.plan import Plan, PlannedStage

ACTIONS = {
    "run": "runs",
    "cached": "from DVC's cache",
    "pull": "from the remote",
    "unchanged": "unchanged",
}

STYLES = {"run": "bold", "cached": "cyan", "pull": "cyan", "unchanged": "dim"}


def table(plan: Plan) -> Table:
    """Return the plan as a table, one row per stage."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("stage", no_wrap=True)
    shown.add_column("", no_wrap=True)
    shown.add_column("time", justify="right", no_wrap=True)
    shown.add_column("why", overflow="fold")
    for one in plan.stages:
        why = Text("\n".join(map(for_line, one.reasons)))
        shown.add_row(one.stage, Text(ACTIONS[one.action], STYLES[one.action]), _time(one), why)
    return shown


def sentence(plan: Plan) -> str:
    """Return in one line how many stages run, and how long that takes."""
    runs = [one for one in plan.stages if one.action == "run"]
    if not runs:
        restored = any(one.action != "unchanged" for one in plan.stages)
        return "no stage runs; outputs are only restored" if restored else "nothing to do"
    known = [one.seconds for one in runs if one.seconds is not None]
    unknown = [one.stage for one in runs if one.seconds is None]
    number = (
        f"{len(runs)} of {len(plan.stages)} stages run" if len(runs) > 1 else f"{runs[0].stage} runs"
    )
    time = f", about {duration(sum(known))}" if known else ""
    return f"{number}{time}" + (f"; time unknown for {', '.join(unknown)}" if unknown else "")


def markdown(plan: Plan) -> str:
    """Return the plan as Markdown."""
    lines = [
        f"**Plan:** {for_markdown(sentence(plan))}.",
        "",
        "| stage | | time | why |",
        "|---|---|--:|---|",
    ]
    for one in plan.stages:
        why = "<br>".join(map(for_markdown, one.reasons))
        action = ACTIONS[one.action]
        shown = f"**{action}**" if one.action == "run" else action
        lines.append(f"| {for_markdown(one.stage)} | {shown} | {_time(one)} | {why} |")
    lines += ["", *(f"- {for_markdown(remark)}" for remark in plan.remarks)] if plan.remarks else []
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Return a duration as in ``9 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _time(one: PlannedStage) -> str:
    if one.action != "run":
        return ""
    return "unknown" if one.seconds is None else duration(one.seconds)

"""The report of a sweep as a page."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from darkroom.reporting.page import embed_png, write_page
from darkroom.sweep.figures import MAX_AXES, draw_importances, draw_parallel, draw_scores
from darkroom.sweep.importance import MIN_TRIALS, Importance, importances
from darkroom.sweep.study import Trial
from darkroom.sweep.summary import Summary, text_of
from darkroom.sweep.winner import REPORT

MAX_ROWS = 500
"""Number of trials that the table lists."""


def write_report(summary: Summary, folder: Path) -> None:
    """Write report.html into the folder of a sweep."""
    found = importances(summary.sweep, summary.trials)
    order = {one.name: number for number, one in enumerate(found)}
    dimensions = [one for one in summary.sweep.space.dimensions if len(one.values.ends()) > 1]
    dimensions.sort(key=lambda one: order.get(one.name, len(order)))
    pictures = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "figure.png"
        draw_scores(summary, path)
        pictures["scores"] = embed_png(path)
        if dimensions:
            draw_parallel(summary, dimensions, path)
            pictures["parallel"] = embed_png(path)
        if found:
            draw_importances(found, path)
            pictures["importances"] = embed_png(path)
    names = [one.name for one in summary.sweep.space.dimensions]
    best = summary.best
    write_page(
        Path(__file__).with_name("report.html.j2"),
        folder / REPORT,
        title=f"Sweep {summary.sweep.name}",
        subtitle=summary.sentences[0],
        headline=_headline(summary),
        remarks=summary.sentences[1:],
        pictures=pictures,
        best=[(name, text_of(value)) for name, value in summary.overlay(best).items()],
        names=names,
        rows=[_row(summary, one, names) for one in _ordered(summary)[:MAX_ROWS]],
        num_trials=len(summary.trials),
        first=summary.sweep.rungs[0],
        is_pruned=len(summary.sweep.rungs) > 1,
        num_axes=min(MAX_AXES, len(dimensions)),
        num_dimensions=len(dimensions),
        min_trials=MIN_TRIALS,
        verdict=_verdict(found),
    )


def _headline(summary: Summary) -> list[tuple[str, str]]:
    current = next(one for one in summary.trials if one.index == 0)
    return [
        ("best macro F1, validation", f"{summary.best.score():.4f}"),
        (
            "params.yaml as it is" + ("" if current.state == "complete" else f" ({current.state})"),
            f"{current.score():.4f}",
        ),
        ("optimism by chance, up to", f"{summary.optimism:.4f}"),
        ("two trials differ by chance, up to", f"{summary.noise:.4f}"),
        ("trials", f"{len(summary.trials)}"),
    ]


def _ordered(summary: Summary) -> Sequence[Trial]:
    """Return complete trials, then pruned ones, then others; within each, the best first."""
    rank = {"complete": 0, "pruned": 1, "running": 2, "waiting": 2, "failed": 3}
    return sorted(summary.trials, key=lambda one: (rank[one.state], -one.score(), one.index))


def _row(summary: Summary, trial: Trial, names: Sequence[str]) -> list[str]:
    values = summary.overlay(trial)
    epochs = max(trial.scores, default=0)
    spread = ""
    if summary.sweep.num_seeds > 1 and trial.scores:
        spread = " ".join(f"{score:.4f}" for score in trial.scores[epochs])
    return [
        f"{trial.index}",
        f"failed: {trial.failure}" if trial.state == "failed" else trial.state,
        f"{epochs}",
        f"{trial.score():.4f}",
        *([spread] if summary.sweep.num_seeds > 1 else []),
        *(text_of(values[name]) for name in names),
    ]


def _verdict(found: Sequence[Importance]) -> str:
    """Return what the importances allow to say."""
    if not found:
        return ""
    sure = [one.name for one in found[:1] if len(found) == 1 or one.low > found[1].high]
    if sure:
        return f"{sure[0]} matters most, in nine tenths of all resamples."
    return "Which parameter matters most is not certain: the intervals overlap."

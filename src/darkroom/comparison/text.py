"""A comparison as tables for the terminal, and as Markdown for a comment on a pull request."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from darkroom.comparison.verdict import ClassDifference, Comparison
from darkroom.escape import for_line, for_markdown
from darkroom.targets import WORDS

NUM_CLASSES = 10
"""Number of classes that are listed."""

NUM_FLIPPED = 20
"""Number of images that are listed for each direction."""

Row = tuple[str, str, str, str]
"""title, first model, second model, difference"""


def score_rows(comparison: Comparison) -> Iterator[Row]:
    """Yield what is measured of both models."""
    yield _row("macro F1", comparison.paired.scores)
    if (seeds := comparison.seeds) and seeds.is_known:
        yield seeds.row
    words = WORDS[comparison.images.first.target]
    yield _row(words.score_title, comparison.accuracies)
    if (only := comparison.only_right) is not None:
        yield "only this one right", f"{only[0]:,}", f"{only[1]:,}", f"p {comparison.mcnemar_p:.2g}"
    before, after = comparison.calibration
    for name in before:
        yield _row(SCORES[name], (before[name], after[name]))
    old, new = comparison.model_bytes
    if old is not None and new is not None:
        yield "model file (MB)", f"{old / 1e6:,.2f}", f"{new / 1e6:,.2f}", f"{(new - old) / 1e6:+,.2f}"
    old, new = comparison.costs.parameters
    if old is not None and new is not None:
        yield "parameters", f"{old:,}", f"{new:,}", f"{new - old:+,}"
    if latency := comparison.costs.latency:
        first, second = (f"{m:.3g} ({low:.3g} to {high:.3g})" for m, low, high in latency.milliseconds)
        median, low, high = latency.ratio
        yield (
            f"one {comparison.words.one} (ms)",
            first,
            second,
            f"x {median:.2f} ({low:.2f} to {high:.2f})",
        )


SCORES = {"nll": "negative log-likelihood", "brier": "Brier score", "ece": "calibration error"}
"""The titles of what ``calibration`` returns."""


def _row(title: str, scores: tuple[float, float]) -> Row:
    return title, f"{scores[0]:.4f}", f"{scores[1]:.4f}", f"{scores[1] - scores[0]:+.4f}"


def class_rows(classes: list[ClassDifference]) -> Iterator[tuple[str, ...]]:
    """Yield name, images, F1 of both, difference with interval, and corrected p-value of each class."""
    for one in classes:
        first, second = (f"{score:.3f}" for score in one.f1)
        interval = f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
        p_value = f"{one.p_value:.2g}{' *' * one.is_significant}"
        yield one.name, f"{one.support:,}", first, second, interval, p_value


def class_headings(comparison: Comparison) -> tuple[str, ...]:
    """Return the headings of ``class_rows`` after the name."""
    return comparison.words.several, "F1 of A", "F1 of B", "difference (95 %)", "p (Holm)"


def tables(comparison: Comparison) -> Group:
    """Return the scores, the classes that changed most, and the images that flipped, for a terminal."""
    scores = Table(box=SIMPLE_HEAD)
    scores.add_column("")
    first, second = comparison.names
    for name in (f"A: {first}", f"B: {second}", "difference"):
        scores.add_column(for_line(name), justify="right", overflow="fold")
    for row in score_rows(comparison):
        scores.add_row(*row)
    classes = Table(box=SIMPLE_HEAD)
    words = WORDS[comparison.images.first.target]
    classes.add_column(words.one, min_width=8, overflow="fold")
    for heading in class_headings(comparison):
        classes.add_column(heading, justify="right", no_wrap=True)
    changed = _changed(comparison)
    for name, *cells in class_rows(changed[:NUM_CLASSES]):
        classes.add_row(for_line(name), *cells)
    if len(changed) > NUM_CLASSES:
        classes.caption = f"{len(changed) - NUM_CLASSES:,} more classes changed; --json has all"
    flipped = Table(box=SIMPLE_HEAD)
    for heading in ("", comparison.words.one, "true", "A", "B"):
        flipped.add_column(heading, overflow="fold")
    for kind, path, *cells in flipped_rows(comparison, NUM_FLIPPED):
        flipped.add_row(kind, *map(for_line, (path, *cells)))
    num_flipped = len(comparison.lost) + len(comparison.gained)
    if num_flipped > flipped.row_count:
        flipped.caption = (
            f"{num_flipped - flipped.row_count:,} more {comparison.words.several}; --json has all"
        )
    return Group(scores, *([classes] if changed else []), *([flipped] if flipped.row_count else []))


def flipped_rows(comparison: Comparison, most: int) -> Iterator[tuple[str, ...]]:
    """Yield lost and gained, path, truth and both predictions of the images that flipped."""
    before, after = comparison.images.first, comparison.images.second
    for kind, indices in (("lost", comparison.lost), ("gained", comparison.gained)):
        for index in indices[:most]:
            yield kind, before.paths[index], before.truth(index), before.pred(index), after.pred(index)


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
    marks = {"better": "✅", "worse": "❌", "indistinguishable": "➖"}  # noqa: RUF001
    lines = [f"{marks[comparison.verdict]} **{for_markdown(comparison.sentence)}**", ""]
    first, second = comparison.names
    headings = ("", f"A: {first}", f"B: {second}", "difference")
    lines += _table(headings, score_rows(comparison))
    changed = _changed(comparison)
    if changed:
        rows = class_rows(changed[:NUM_CLASSES])
        lines += ["", *_table(("class", *class_headings(comparison)), rows)]
    notes = [*comparison.remarks, *([comparison.seeds.sentence] if comparison.seeds else [])]
    lines += [f"\n{for_markdown(note)}" for note in notes]
    return "\n".join(lines) + "\n"


def _changed(comparison: Comparison) -> list[ClassDifference]:
    return [one for one in comparison.classes if one.difference or one.p_value < 1]


def _table(headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(map(for_markdown, headings))} |"
    yield f"|---{'|---:' * (len(headings) - 1)}|"
    for row in rows:
        yield f"| {' | '.join(map(for_markdown, row))} |"

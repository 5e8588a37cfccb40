"""Tables of the model's versions for the terminal: all of them, or one beside the champion."""

from collections.abc import Iterator, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from darkroom.tracking.descriptions import DIGEST_LENGTH, TITLES
from darkroom.tracking.mlflow.promotion import AT, BY, OUT_AT, OUT_BY, WHY, Details, Registry, Version

NUM_LISTED = 20

LISTED = ("f1_macro", "iou_macro", "accuracy", "exact_match")
"""The scores in the list of versions, as far as versions have them."""


def table_of_versions(registry: Registry) -> Table:
    """Return a table of the newest versions, and of the champion however old it is."""
    versions = registry.versions[:NUM_LISTED]
    champion = registry.champion
    if champion and champion not in versions:
        versions = [*versions, champion]
    details = [registry.details(version) for version in versions]
    names = [name for name in LISTED if any(f"test/{name}" in each.scores for each in details)]
    table = Table(box=SIMPLE_HEAD)
    table.add_column("version", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("exported", no_wrap=True)
    for name in names:
        table.add_column(TITLES[name], justify="right", no_wrap=True)
    table.add_column("promoted", ratio=1)
    for version, each in zip(versions, details, strict=True):
        table.add_row(
            f"{version.number}",
            "\n".join(version.aliases),
            f"{version.created:%Y-%m-%d}",
            *(_number(each.scores, name) for name in names),
            _promoted(version),
        )
    if len(registry.versions) > len(versions):
        table.caption = f"{len(registry.versions) - len(versions)} older ones are not shown"
    return table


def comparison(registry: Registry, new: Version) -> Table:
    """Return a table of a version beside the champion."""
    after, old = registry.details(new), registry.champion
    before = registry.details(old) if old else Details()
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column(f"champion: version {old.number}" if old else "no champion yet", justify="right")
    table.add_column(f"version {new.number}", justify="right")
    table.add_column("change", justify="right")
    for name, title in TITLES.items():
        cells = [_number(each.scores, name) for each in (before, after)]
        if any(cells):
            change = after.scores[f"test/{name}"] - before.scores[f"test/{name}"] if all(cells) else None
            table.add_row(f"test {title}", *cells, "" if change is None else f"{change:+.4f}")
    table.add_row("model", *(each.params.get("architecture", "") for each in (before, after)))
    table.add_row("test data", *(each.data[:DIGEST_LENGTH] for each in (before, after)))
    table.add_row(
        "exported (UTC)", *(f"{each.created:%Y-%m-%d %H:%M}" if each else "" for each in (old, new))
    )
    return table


def remarks(registry: Registry, new: Version) -> Iterator[str]:
    """Yield reasons not to compare the version with the champion."""
    after, old = registry.details(new), registry.champion
    if not after.scores:
        yield f"version {new.number} has no known scores: its logged model is gone, or was not tested"
    before = registry.details(old) if old else Details()
    if before.data and after.data and before.data != after.data:
        yield "both were tested on different data, so their scores are not comparable"


def _promoted(version: Version) -> Text:
    """Return when a version was last promoted, by whom and why, and which version replaced it."""
    tags = version.tags
    if AT not in tags:
        return Text()
    lines = [f"{tags[AT][:10]} by {tags.get(BY)}: {tags.get(WHY)}"]
    if OUT_BY in tags:
        lines.append(f"until {tags.get(OUT_AT, '')[:10]}, when {tags[OUT_BY]} replaced it")
    return Text("\n".join(lines))  # people's text is not markup


def _number(scores: Mapping[str, float], name: str) -> str:
    value = scores.get(f"test/{name}")
    return "" if value is None else f"{value:.4f}"

"""Check the corrections that were filled in, and return which labels change."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from darkroom.collection.labels import join_labels, split_labels
from darkroom.dataset.targets.interface import check_labelled
from darkroom.errors import UserError, counted, did_you_mean, listed
from darkroom.suspects.findings import Correction
from darkroom.targets import target_of_columns

MAX_NAMED = 5
"""Maximum number of mistakes in a message."""


@dataclass(frozen=True)
class Known:
    """What ``prepare`` has recorded about a file."""

    label: str
    split: str | None
    """None: the file is not used."""
    pixels: str | None
    """SHA-256 of the prepared pixels."""
    duplicate_of: str | None = None
    """Another image with the same pixels, or nearly the same."""


Changes = Mapping[str, str | None]
"""The new label of each image that gets one, or None if the image is excluded."""


def load_known(manifest: Path) -> dict[str, Known]:
    """Return every file that ``prepare`` has found, by its path in the collection.

    Raises:
        UserError: there is no manifest, or its images have masks.
    """
    if not manifest.exists():
        raise UserError(f"{manifest}: the file does not exist; run `dvc repro prepare`")
    check_labelled(target_of_columns(pq.read_schema(manifest).names), "relabel", "the data set")
    columns = ["path", "label", "split", "pixel_sha256", "duplicate_of"]
    table = pq.read_table(manifest, columns=columns).to_pydict()
    return {
        path: Known(label or "", split, pixels, original)
        for path, label, split, pixels, original in zip(*table.values(), strict=True)
    }


def check_corrections(
    corrections: Iterable[Correction],
    known: Mapping[str, Known],
    separator: str | None,
    table: Path,
    new_classes: bool = False,
    test: bool = False,
    keeps_conflicts: bool = False,
) -> dict[str, str | None]:
    """Return the new label of each image that gets one, and None for each that is excluded.

    Excluded, too, are unused copies of excluded images, which would otherwise take their place.

    Args:
        separator: ``data.label_separator``. The separator alone stands for no label at all.
        table: name of the edited table, for messages.
        new_classes: accept classes that no image has had so far.
        test: accept images of the test split.
        keeps_conflicts: see ``PreparedInput``.

    Raises:
        UserError: a path or class is unknown, the label has changed since, two rows contradict each
            other, an image is in the test split, images with the same pixels would get different
            labels, or a class would lose its last training image. All mistakes are named, up to a limit.
    """
    classes = {name for one in known.values() if one.split for name in _classes_of(one.label, separator)}
    changes: dict[str, str | None] = {}
    mistakes = []
    for row in corrections:
        try:
            new = _checked(row, known, classes, separator, new_classes, test)
            if changes.setdefault(row.path, new) != new:
                both = (changes[row.path], new)
                shown = ("excluded" if one is None else f"labelled {one!r}" for one in both)
                raise ValueError(f"is to be both {' and '.join(shown)}")
        except ValueError as error:
            mistakes.append(f"{table}:{row.line}: {row.path} {error}")
    changes = {path: new for path, new in changes.items() if new != known[path].label}
    if not mistakes:
        torn = () if keeps_conflicts else _torn_copies(changes, known)
        mistakes = [*torn, *_emptied_classes(changes, known, separator)]
    if mistakes:
        more = [f"... and {counted(len(mistakes) - MAX_NAMED, 'more mistake')}"]
        raise UserError("\n".join(mistakes[:MAX_NAMED] + more * (len(mistakes) > MAX_NAMED)))
    if not changes:
        raise UserError(f"{table}: no label changes; fill in the column new_label or exclude")
    return _with_unused_copies(changes, known)


def _checked(
    row: Correction,
    known: Mapping[str, Known],
    classes: set[str],
    separator: str | None,
    new_classes: bool,
    test: bool,
) -> str | None:
    """Return the new label of a row as ``prepare`` writes labels, or None if the image is excluded.

    Raises:
        ValueError: the row is wrong.
    """
    if row.path not in known:
        raise ValueError(f"is not in data.path{did_you_mean(row.path, known)}")
    image = known[row.path]
    if image.split is None:
        raise ValueError("is not used in any split")
    if image.split == "test" and not test:
        raise ValueError("is in the test split; to correct it there, too, use --test")
    new: str | None
    if row.exclude and row.new_label:
        raise ValueError(f"is excluded and gets the label {row.new_label!r}; fill in only one of them")
    if row.exclude:
        names, new = [], None
    elif separator is None:
        names, new = [row.new_label], row.new_label
    else:
        empty = row.new_label == separator
        names = [] if empty else [name.strip() for name in row.new_label.split(separator)]
        new = join_labels(names, separator)
    for name in names:
        if name not in classes and not new_classes:
            hint = did_you_mean(name, classes) or f"; the classes are {listed(sorted(classes), 20)}"
            raise ValueError(f"gets the unknown class {name!r}{hint}. --new-classes accepts it")
    if row.label != image.label and image.label != new:
        raise ValueError(
            f"has the label {image.label!r} by now, not {row.label!r}; run `darkroom suspects` again"
        )
    return new


def _torn_copies(changes: Changes, known: Mapping[str, Known]) -> Iterator[str]:
    """Yield a message for each changed image that has copies which do not change in the same way."""
    copies = defaultdict(list)
    for path, image in known.items():
        if image.split and image.pixels:
            copies[image.pixels].append(path)
    for path, new in changes.items():
        others = [
            other
            for other in copies.get(known[path].pixels or "", ())
            if changes.get(other, known[other].label) != new
        ]
        if others and new is None:
            yield f"{path}: has the same pixels as {listed(others, 3)}; exclude them, too"
        elif others:
            yield (
                f"{path}: has the same pixels as {listed(others, 3)}, with another label then; give them"
                f" the label {new!r}, too"
            )


def _emptied_classes(
    changes: Changes, known: Mapping[str, Known], separator: str | None
) -> Iterator[str]:
    """Yield a message for each class of an excluded image that would have no training image."""

    left: Counter[str] = Counter()
    for path, image in known.items():
        label = changes.get(path, image.label)
        if image.split == "train" and label is not None:
            left.update(_classes_of(label, separator))
    excluded = (known[path].label for path, new in changes.items() if new is None)
    for name in sorted({name for label in excluded for name in _classes_of(label, separator)}):
        if not left[name]:
            yield f"{name!r}: the class would lose its last training image; exclude fewer, or relabel it"


def _classes_of(label: str, separator: str | None) -> list[str]:
    return split_labels(label, separator) if separator else [label]


def _with_unused_copies(
    changes: dict[str, str | None], known: Mapping[str, Known]
) -> dict[str, str | None]:
    """Return the changes, with the unused copies of excluded images as excluded."""
    copies = defaultdict(list)
    for path, image in known.items():
        if image.duplicate_of and not image.split:
            copies[image.duplicate_of].append(path)
    waiting = [path for path, new in changes.items() if new is None]
    while waiting:
        for path in copies.pop(waiting.pop(), ()):
            changes[path] = None
            waiting.append(path)
    return changes

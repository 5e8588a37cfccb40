"""A comparison as one HTML page, with the pictures of the images that flipped."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.comparison.matching import Matched
from darkroom.comparison.text import class_headings, class_rows, score_rows
from darkroom.comparison.verdict import Comparison
from darkroom.dataset.info import load_info
from darkroom.dataset.prepared import open_split
from darkroom.dataset.shards import Shards
from darkroom.dataset.targets.interface import stored_target
from darkroom.errors import UserError
from darkroom.evaluation.pictures import pictures_of
from darkroom.paths import DATASET, PREPARED
from darkroom.reporting.page import write_page
from darkroom.reporting.shown import ReportImage

NUM_SHOWN = 60
"""Number of images that are shown for each direction."""


@dataclass(frozen=True)
class Flipped:
    """An image that only one of the models has right."""

    path: str
    truth: str
    preds: tuple[str, str]
    picture: ReportImage | None
    """None if the workspace does not have the image."""


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page; pictures are those of the workspace's test images with the same path and label."""
    shards = _shards()
    places = _places(comparison.images, shards) if shards else {}
    sections = [
        (
            title,
            len(indices),
            [_flipped(comparison, index, shards, places) for index in indices[:NUM_SHOWN]],
        )
        for title, indices in (
            (f"Lost: only {comparison.names[0]} has these right", comparison.lost),
            (f"Gained: only {comparison.names[1]} has these right", comparison.gained),
        )
        if comparison.only_right is not None
    ]
    remarks = [*comparison.remarks, *([comparison.seeds.sentence] if comparison.seeds else [])]
    if any(not image.picture for _, _, images in sections for image in images):
        several = comparison.words.several.capitalize()
        remarks = [*remarks, f"{several} that data/prepared/ does not have are shown without a picture."]
    write_page(
        Path(__file__).with_name("comparison.html.j2"),
        path,
        title=f"{comparison.names[1]} against {comparison.names[0]}",
        subtitle=comparison.sentence,
        headline=[
            ("verdict", comparison.verdict),
            ("difference of macro F1", f"{comparison.paired.difference:+.4f}"),
            ("95 % interval", f"{comparison.paired.low:+.4f} to {comparison.paired.high:+.4f}"),
            (f"test {comparison.words.several}", f"{comparison.num_images:,}"),
        ],
        remarks=remarks,
        names=comparison.names,
        scores=list(score_rows(comparison)),
        class_headings=class_headings(comparison),
        class_test=comparison.kind.class_test,
        classes=list(class_rows(comparison.classes)),
        sections=sections,
    )


def _shards() -> Shards | None:
    try:
        return open_split(PREPARED / "test", load_info(DATASET))
    except UserError:  # not prepared, or of another commit
        return None


def _places(images: Matched, shards: Shards) -> dict[int, int]:
    """Return the place in the shards of each image that they have, with the same labels."""
    names = load_info(DATASET).class_names
    if set(names) != set(images.first.class_names):
        return {}
    order = [names.index(name) for name in images.first.class_names]
    targets = stored_target(shards.target).indicators(shards.labels, len(names))[:, order]
    stored: dict[tuple[str, int], int] = {}
    seen: dict[str, int] = {}
    for place, path in enumerate(shards.paths):
        stored[path, seen.get(path, 0)] = place
        seen[path] = seen.get(path, 0) + 1
    return {
        index: stored[key]
        for index, key in enumerate(images.first.keys)
        if key in stored and (targets[stored[key]] == images.first.targets[index]).all()
    }


def _flipped(
    comparison: Comparison, index: int, shards: Shards | None, places: dict[int, int]
) -> Flipped:
    before, after = comparison.images.first, comparison.images.second
    picture = None
    if shards is not None and index in places:
        pictures = pictures_of(shards, load_info(DATASET).encoding)
        pixels = pictures.gather(np.array([places[index]]))[0]
        picture = ReportImage(pixels, before.paths[index])
    return Flipped(
        before.paths[index], before.truth(index), (before.pred(index), after.pred(index)), picture
    )

"""The page that shows the suspects: pictures, labels and suggestions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.errors import counted
from darkroom.evaluation.pictures import Pictures
from darkroom.inputs import InputWords
from darkroom.reporting.page import write_page
from darkroom.reporting.shown import ReportImage
from darkroom.suspects.findings import Finding, Findings

MAX_PAIRS = 20
"""Maximum number of rows in the table of labels and suggestions."""


@dataclass(frozen=True)
class Suspect(ReportImage):
    """A suspect with its picture."""

    rank: int
    found: Finding


def write_gallery(
    findings: Findings, images: Pictures, words: InputWords, most: int, table: Path, path: Path
) -> None:
    """Write a page with the first ``most`` suspects.

    Args:
        images: pictures of the train and val images or rows.
        words: for these.
        table: the CSV file that belongs to the page.
    """
    shown = findings.suspects[:most]
    pixels = images.gather(np.array([one.index for one in shown], np.int64))
    pictures = [
        Suspect(image, one.path, rank, one)
        for rank, (image, one) in enumerate(zip(pixels, shown, strict=True), 1)
    ]
    num_suspects = len(findings.suspects)
    remarks = []
    if findings.num_unjudged:
        remarks.append(
            f"{counted(findings.num_unjudged, words.one)} could not be judged, because too few"
            f" {words.several} have the same label"
        )
    write_page(
        Path(__file__).with_name("gallery.html.j2"),
        path,
        title="Suspect labels",
        subtitle=f"{words.several.capitalize()} whose label is probably wrong, by models that did not"
        " see them in training.",
        headline=[
            (f"{words.several} judged", f"{len(findings.ranked):,}"),
            ("suspects", f"{num_suspects:,}"),
            ("estimated wrong labels", f"{findings.estimate:,}"),
        ],
        remarks=remarks,
        pictures=pictures,
        num_suspects=num_suspects,
        pairs=findings.confusions()[:MAX_PAIRS],
        table=f"{table}",
        words=words,
    )

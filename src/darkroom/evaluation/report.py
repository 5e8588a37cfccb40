"""The evaluation as one HTML file that needs no network: pictures are inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.evaluation.confusions import Confusion, Matrix
from darkroom.evaluation.hardest import HardImage
from darkroom.reporting.page import embed_png, write_page
from darkroom.reporting.scores import (
    baseline_scores,
    definition,
    macro_scores,
    overall_scores,
)
from darkroom.reporting.templates import number

Figures = Sequence[tuple[str, Path]]
"""(caption, PNG file)"""


def _worst_first(per_class: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows with the lowest F1 first, and classes that are not measured last."""

    def key(row: tuple[str, Any]) -> tuple[bool, float]:
        f1 = row[1]["f1"]
        return f1 is None, f1 or 0.0

    return dict(sorted(per_class.items(), key=key))


def write_report(
    title: str,
    subtitle: str,
    metrics: Mapping[str, Any],
    sections: Sequence[tuple[str, Figures]],
    remarks: Sequence[str],
    path: Path,
    *,
    matrix: Matrix | None = None,
    confusions: Sequence[Confusion] = (),
    about_confusions: str = "",
    hardest: Sequence[HardImage] = (),
    about_hardest: str = "",
) -> None:
    """Writes the report.

    Args:
        metrics: as ``classification_metrics`` or ``multi_label_metrics`` returns.
        sections: (heading, figures), in their order.
        remarks: what the reader should know before all else.
        matrix: of confusions, as far as it can be read.
        confusions: the most frequent ones.
    """
    cards = {
        **macro_scores(metrics),
        **overall_scores(metrics),
        **{f"macro F1: {title}": value for title, value in baseline_scores(metrics).items()},
    }
    write_page(
        Path(__file__).with_name("report.html.j2"),
        path,
        title=title,
        subtitle=subtitle,
        headline=[
            *((name, number(value)) for name, value in cards.items()),
            ("test images", f"{metrics['num_images']:,}"),
        ],
        per_class=_worst_first(metrics["per_class"]),
        matrix=matrix,
        confusions=confusions,
        about_confusions=about_confusions,
        hardest=hardest,
        about_hardest=about_hardest,
        definition=definition(metrics),
        remarks=remarks,
        sections=[
            (heading, [(caption, embed_png(file)) for caption, file in figures])
            for heading, figures in sections
        ],
    )

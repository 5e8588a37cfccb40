"""The evaluation as one HTML file that needs no network: pictures are inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def write_report(
    title: str,
    subtitle: str,
    metrics: Mapping[str, Any],
    sections: Sequence[tuple[str, Figures]],
    remarks: Sequence[str],
    path: Path,
) -> None:
    """Writes the report.

    Args:
        metrics: as ``classification_metrics`` or ``multi_label_metrics`` returns.
        sections: (heading, figures), in their order.
        remarks: what the reader should know before all else.
    """
    cards = {
        **macro_scores(metrics),
        **overall_scores(metrics),
        **{f"macro F1: {title}": value for title, value in baseline_scores(metrics).items()},
    }
    write_page(
        "report.html.j2",
        path,
        title=title,
        subtitle=subtitle,
        headline=[
            *((name, number(value)) for name, value in cards.items()),
            ("test images", f"{metrics['num_images']:,}"),
        ],
        per_class=metrics["per_class"],
        definition=definition(metrics),
        remarks=remarks,
        sections=[
            (heading, [(caption, embed_png(file)) for caption, file in figures])
            for heading, figures in sections
        ],
    )

"""The evaluation as one HTML file that needs no network: pictures are inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.reporting.page import embed_png, write_page

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
        metrics: as ``classification_metrics`` returns.
        sections: (heading, figures), in their order.
        remarks: what the reader should know before all else.
    """
    headline = [
        ("macro F1", f"{metrics['f1_macro']:.4f}"),
        ("macro precision", f"{metrics['precision_macro']:.4f}"),
        ("macro recall", f"{metrics['recall_macro']:.4f}"),
        ("accuracy", f"{metrics['accuracy']:.4f}"),
        ("test images", f"{metrics['num_images']:,}"),
    ]
    write_page(
        "report.html.j2",
        path,
        title=title,
        subtitle=subtitle,
        headline=headline,
        per_class=metrics["per_class"],
        remarks=remarks,
        sections=[
            (heading, [(caption, embed_png(file)) for caption, file in figures])
            for heading, figures in sections
        ],
    )

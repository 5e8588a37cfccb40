"""The evaluation as one HTML file that needs no network: pictures are inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.reporting.page import embed_png, write_page

Figures = Sequence[tuple[str, Path]]
"""(caption, PNG file)"""


def overall_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns by their titles the scores that are no averages over classes.

    Args:
        metrics: as ``write_report``.
    """
    if "exact_match" in metrics:
        return {"exact match": metrics["exact_match"], "Hamming loss": metrics["hamming_loss"]}
    return {"accuracy": metrics["accuracy"]}


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
        "macro F1": metrics["f1_macro"],
        "macro precision": metrics["precision_macro"],
        "macro recall": metrics["recall_macro"],
        **overall_scores(metrics),
    }
    write_page(
        "report.html.j2",
        path,
        title=title,
        subtitle=subtitle,
        headline=[
            *((name, f"{value:.4f}") for name, value in cards.items()),
            ("test images", f"{metrics['num_images']:,}"),
        ],
        per_class=metrics["per_class"],
        remarks=remarks,
        sections=[
            (heading, [(caption, embed_png(file)) for caption, file in figures])
            for heading, figures in sections
        ],
    )

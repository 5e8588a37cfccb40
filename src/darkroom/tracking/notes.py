"""A run's description, which MLflow shows at the top: independent sections of Markdown."""

import re
from collections.abc import Mapping

from darkroom.escape import for_markdown

NOTE_TAG = "mlflow.note.content"
"""The tag in which MLflow keeps the description."""

_HEADING = "### "


def table(rows: Mapping[str, object]) -> str:
    """Return a Markdown table of names and values."""
    lines = (f"| {for_markdown(name)} | {for_markdown(value)} |" for name, value in rows.items())
    return "\n".join(["| | |", "|---|---|", *lines])


def with_section(note: str, title: str, text: str) -> str:
    """Replace or add a section of a description; other sections, and text before them, stay.

    A new section comes first, because MLflow shows only the first lines until somebody expands them.
    """
    before, *sections = re.split(rf"^(?={_HEADING})", note, flags=re.MULTILINE)
    new = f"{_HEADING}{title}\n\n{text}"
    titles = [section.partition("\n")[0].removeprefix(_HEADING).strip() for section in sections]
    if title in titles:
        sections[titles.index(title)] = new
    else:
        sections.insert(0, new)
    return "\n\n".join(part for part in (piece.strip() for piece in (before, *sections)) if part)

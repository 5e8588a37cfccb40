"""The description of a run, which MLflow shows at its top: sections of Markdown, each told by itself."""

import re
from collections.abc import Mapping

from darkroom.escape import for_markdown

NOTE_TAG = "mlflow.note.content"
"""Where MLflow keeps it."""

_HEADING = "### "


def table(rows: Mapping[str, object]) -> str:
    """Returns a Markdown table of names and values."""
    lines = (f"| {for_markdown(name)} | {for_markdown(value)} |" for name, value in rows.items())
    return "\n".join(["| | |", "|---|---|", *lines])


def with_section(note: str, title: str, text: str) -> str:
    """Replaces a section of a description, or adds it; all others stay, and what people wrote above.

    A new one comes first: MLflow shows no more than the first lines unasked.
    """
    before, *sections = re.split(rf"^(?={_HEADING})", note, flags=re.MULTILINE)
    new = f"{_HEADING}{title}\n\n{text}"
    titles = [section.partition("\n")[0].removeprefix(_HEADING).strip() for section in sections]
    if title in titles:
        sections[titles.index(title)] = new
    else:
        sections.insert(0, new)
    return "\n\n".join(part for part in (piece.strip() for piece in (before, *sections)) if part)

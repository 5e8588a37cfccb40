"""Write docs/parameters.md, the list of parameters, from the config classes."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from darkroom.params import parameters

PAGE = Path("docs/parameters.md")

WIDTH = 118
"""Columns of a line. Markdown files of this project have at most 120."""

INTRODUCTION = """\
# Parameters

Every parameter of `params.yaml`: its name, what it means, and the allowed values. `make docs` writes
this page from the classes in `src/darkroom/config/`; `darkroom params` prints the same list with your
values."""


def parameter_page() -> str:
    """Return the page as Markdown, with one heading per section of params.yaml."""
    return "\n".join([INTRODUCTION, *_lines(), ""])


def _lines() -> Iterator[str]:
    current = ""
    for name, allowed, description in parameters():
        section = name.split(".")[0] if "." in name else "general"
        if section != current:
            current = section
            yield f"\n## {section}\n"
        meaning = f"{description}. Allowed: {allowed}.".replace("*", r"\*")
        yield textwrap.fill(
            f"- **`{name}`**: {meaning}",
            WIDTH,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )


if __name__ == "__main__":
    PAGE.write_text(parameter_page(), encoding="utf-8")

"""Writes docs/parameters.md, the table of parameters, from the config classes."""

from pathlib import Path

from darkroom.params import parameters

PAGE = Path("docs/parameters.md")


def parameter_page() -> str:
    """Returns the page as Markdown."""
    rows = [f"| `{name}` | {allowed} | {description} |" for name, allowed, description in parameters()]
    return "\n".join(
        [
            "# Parameters",
            "",
            "What `params.yaml` holds; `darkroom params` prints this table too.",
            "",
            "| parameter | allowed | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(parameter_page(), encoding="utf-8")

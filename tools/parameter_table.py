"""Writes the table of parameters, made from the config classes, into README.md."""

from pathlib import Path

from darkroom.params import parameters

README = Path("README.md")
BEGIN, END = "<!-- parameters: written by `make docs` -->", "<!-- end of parameters -->"


def parameter_table() -> str:
    """Returns the table as Markdown."""
    rows = [f"| `{name}` | {allowed} | {description} |" for name, allowed, description in parameters()]
    return "\n".join(["| parameter | allowed | meaning |", "|---|---|---|", *rows])


def with_table(readme: str) -> str:
    """Returns the text of the README with the table renewed."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{parameter_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")

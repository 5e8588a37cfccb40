"""Write the line numbers into the links of the documentation that name a piece of code.

Such a link reads [`Class.method`](../src/FILE.py#L12), or has a part of a line as its text. The number
is that of the line on which the class, function or variable is defined, or else of the first line with
the text.
"""

import ast
import re
from pathlib import Path

PAGES = (Path("docs/pytorch-notes.md"),)

LINK = re.compile(r"\[`([^`\]]+)`\]\(([^)#\s]+)#L(\d+)\)")


def renewed(text: str, folder: Path) -> str:
    """Return the text of a page in ``folder`` with the present line numbers.

    Raises:
        ValueError: a file does not contain what a link names.
    """

    def link(match: re.Match[str]) -> str:
        symbol, target, _ = match.groups()
        return f"[`{symbol}`]({target}#L{line_of(symbol, folder / target)})"

    return LINK.sub(link, text)


def line_of(symbol: str, file: Path) -> int:
    """Return the line, from 1, that defines ``symbol`` or is the first to contain it.

    Raises:
        ValueError: there is none.
    """
    code = file.read_text(encoding="utf-8")
    if file.suffix == ".py" and (line := _definition(symbol.split("."), ast.parse(code))):
        return line
    for number, content in enumerate(code.splitlines(), start=1):
        if symbol in content:
            return number
    raise ValueError(f"{file} does not contain {symbol}")


def _definition(names: list[str], node: ast.AST) -> int | None:
    """Return the line that defines the last of ``names``, each inside the one before it."""
    for child in ast.iter_child_nodes(node):
        if names[0] in _defined_by(child):
            assert isinstance(child, ast.stmt)
            return child.lineno if len(names) == 1 else _definition(names[1:], child)
    return None


def _defined_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renewed(page.read_text(encoding="utf-8"), page.parent), encoding="utf-8")

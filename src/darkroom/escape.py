"""Escape text from data (names of classes, files, branches, runs) for terminals and Markdown.

Jinja escapes HTML in the templates, and writers escape CSV and JSON. CSV cells are not changed beyond
that, because programs read them: ``=1+1`` is the name of a class.
"""

import re

# Characters that change the direction of text (Unicode Standard Annex 9), or end a line for some.
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_LINE_ENDS = "\u2028\u2029"
_UNSAFE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_DIRECTIONS}{_LINE_ENDS}\ufeff\ud800-\udfff]")
_UNSAFE_IN_LINE = re.compile(f"{_UNSAFE.pattern[:-1]}\t\n]")

# Punctuation with a meaning in CommonMark or GitHub's Markdown anywhere in a line; "_" only at the edge
# of a word, as in these two, so that `train.batch_size` stays readable.
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~$!]|(?<![^\W_])_|_(?![^\W_])")


def for_terminal(text: str) -> str:
    r"""Return text with escapes such as ``\x1b`` for control characters and changes of direction.

    Tabs and line ends are kept. Bytes that were not UTF-8 (surrogates) become ``\udcff``.
    """
    return _UNSAFE.sub(_visible, text)


def for_line(text: str) -> str:
    """Return the text of ``for_terminal`` on one line, with escapes for tabs and line ends too."""
    return _UNSAFE_IN_LINE.sub(_visible, text)


def for_markdown(text: object) -> str:
    """Return text on one line that Markdown shows unchanged, also in a table cell."""
    line = for_line(" ".join(f"{text}".split()))
    return _MARKDOWN.sub(lambda mark: _ENTITIES.get(mark[0], f"\\{mark[0]}"), line)


_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
"""Characters that some Markdown renderers do not accept a backslash before."""


def _visible(mark: re.Match[str]) -> str:
    code = ord(mark[0])
    names = {9: r"\t", 10: r"\n", 13: r"\r"}
    return names.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")

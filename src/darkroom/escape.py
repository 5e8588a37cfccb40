"""Text from data (names of classes, files, branches, runs) made harmless, by where it is shown.

HTML is escaped by Jinja in the templates themselves, and CSV and JSON by their writers. CSV cells are
not changed beyond that: the files are read back by programs, to which ``=1+1`` is the name of a class.
"""

import re

# What turns the direction of the text that follows (Unicode Standard Annex 9), or is a line end to some.
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_LINE_ENDS = "\u2028\u2029"
_UNSAFE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_DIRECTIONS}{_LINE_ENDS}\ufeff\ud800-\udfff]")
_UNSAFE_IN_LINE = re.compile(f"{_UNSAFE.pattern[:-1]}\t\n]")

# Punctuation that begins something in CommonMark or GitHub's Markdown, wherever it is in a line; "_"
# only at the edge of a word, as in these two, so that `train.batch_size` stays readable.
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~$!]|(?<![^\W_])_|_(?![^\W_])")


def for_terminal(text: str) -> str:
    r"""Returns text whose control characters and changes of direction are visible, as ``\x1b``.

    Tabs and line ends stay. Bytes that were not UTF-8 (surrogates) become ``\udcff``.
    """
    return _UNSAFE.sub(_visible, text)


def for_line(text: str) -> str:
    """Returns the same as ``for_terminal`` on a single line: tabs and line ends are visible, too."""
    return _UNSAFE_IN_LINE.sub(_visible, text)


def for_markdown(text: object) -> str:
    """Returns text that Markdown shows as it is, on one line, also in the cell of a table."""
    line = for_line(" ".join(f"{text}".split()))
    return _MARKDOWN.sub(lambda mark: _ENTITIES.get(mark[0], f"\\{mark[0]}"), line)


_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
"""A backslash before these is right in CommonMark, but not everywhere that shows Markdown."""


def _visible(mark: re.Match[str]) -> str:
    code = ord(mark[0])
    names = {9: r"\t", 10: r"\n", 13: r"\r"}
    return names.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")

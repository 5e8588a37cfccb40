"""The names of classes: stripped of blanks, merged as configured, and checked for look-alikes."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import lru_cache

from darkroom.errors import UserError, counted, did_you_mean, listed

_IGNORABLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")
"""Invisible characters outside Unicode's category Cf: fillers and variation selectors."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:[ -][A-Za-z0-9_]+)*")
_NOT_TEXT = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
"""Words that YAML 1.1 or 1.2 does not read as text, in lower case."""

MAX_SHOWN = 10
"""Maximum number of groups of look-alikes in a message."""


class Renaming:
    """Strips labels of surrounding blanks, and merges them as ``data.merge_labels`` says."""

    def __init__(self, merge: Mapping[str, str]) -> None:
        self.merge = merge
        self._found: set[str] = set()

    def __call__(self, label: str) -> str:
        """Return the class of a label, empty if the label consists of blanks.

        Raises:
            ValueError: the label consists of invisible characters.
        """
        name = label.strip()
        if name and is_blank(name):
            raise ValueError("consists only of invisible characters")
        self._found.add(name)
        return self.merge.get(name, name)

    def check(self) -> None:
        """Check the mapping against the labels that were read.

        Raises:
            UserError: the mapping names a label that no file has.
        """
        for label in self.merge:
            if label not in self._found:
                raise UserError(
                    f"data.merge_labels: no file has the label {quoted(label)}"
                    f"{did_you_mean(label, self._found)}; the labels are"
                    f" {listed(sorted(self._found - {''}), most=20)}"
                )
        sources = Counter(self.merge.values())
        for label, target in self.merge.items():
            if target not in self._found and sources[target] == 1:
                raise UserError(
                    f"data.merge_labels: {quoted(label)} is merged into {quoted(target)}, which no file"
                    f" has as its label{did_you_mean(target, self._found)}; a new name needs at least"
                    " two labels"
                )


@lru_cache(maxsize=4096)
def look_alike_key(name: str) -> str:
    """Return a key that is equal for names that look alike.

    These differ only in case, blanks, invisible characters or Unicode form. Case is folded and
    compatibility forms are composed (NFKC: full-width letters, ligatures), as in Unicode's caseless
    matching (UAX 15, UTS 46); Turkish dotted and dotless i are one letter, runs of blanks one blank.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    folded = folded.replace("i\u0307", "i").replace("\u0131", "i")  # Turkish: with and without a dot
    visible = "".join(
        letter
        for letter in _IGNORABLE.sub("", folded)
        if letter.isspace() or unicodedata.category(letter) not in ("Cf", "Cc")
    )
    return " ".join(visible.split())


def is_blank(name: str) -> bool:
    """Return whether a name has no visible character."""
    return not look_alike_key(name)


def explain_look_alikes(counts: Mapping[str, int], merge: Mapping[str, str], collection: str) -> str:
    """Return a message about classes whose names look alike; empty if there are none.

    Classes that ``data.merge_labels`` maps to themselves are different on purpose.

    Args:
        counts: number of files of each class, after merging.
        merge: ``data.merge_labels``.
        collection: the name of the collection.

    Returns:
        The classes with their counts, and both ways to set ``data.merge_labels``.
    """
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        by_key[look_alike_key(name)].append(name)
    groups = [
        names
        for names in by_key.values()
        if len(names) > 1 and not all(merge.get(name) == name for name in names)
    ]
    if not groups:
        return ""
    groups.sort()
    lines = [
        "  " + ", ".join(f"{quoted(name)} ({counted(counts[name], 'file')})" for name in names)
        for names in groups[:MAX_SHOWN]
    ]
    if len(groups) > MAX_SHOWN:
        lines.append(f"  and {counted(len(groups) - MAX_SHOWN, 'more group')}")
    one_class = {name: _commonest(names, counts) for names in groups for name in names}
    one_class = {name: target for name, target in one_class.items() if name != target}
    kept = {name: one_class.get(target, target) for name, target in merge.items()}
    apart = {name: name for names in groups for name in names}
    return (
        f"data.path: {collection} has classes whose names differ only in case, blanks, invisible"
        " characters or Unicode form:\n"
        + "\n".join(lines)
        + "\nIf the names on a line mean one class, set under data in params.yaml:\n"
        + f"  merge_labels: {_flow(kept | one_class)}\n"
        + "If they are different classes, map each to itself:\n"
        + f"  merge_labels: {_flow(dict(merge) | apart)}"
    )


def quoted(name: str) -> str:
    """Return a name in YAML syntax, with every character visible.

    Names of plain ASCII letters stay as they are. Others are put into double quotes, with escapes for
    characters that are invisible or have several Unicode forms.
    """
    if _PLAIN.fullmatch(name) and name.lower() not in _NOT_TEXT:
        return name
    ambiguous = not (name.isprintable() and unicodedata.is_normalized("NFKC", name)) or any(
        unicodedata.decomposition(letter) or unicodedata.combining(letter) for letter in name
    )
    return '"' + "".join(_escaped(letter, ambiguous) for letter in name) + '"'


def _escaped(letter: str, ambiguous: bool) -> str:
    code = ord(letter)
    if letter in '"\\':
        return f"\\{letter}"
    if 0x20 <= code < 0x7F or (not ambiguous and letter.isprintable()):
        return letter
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _flow(mapping: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{quoted(name)}: {quoted(mapping[name])}" for name in mapping) + "}"


def _commonest(names: list[str], counts: Mapping[str, int]) -> str:
    """Return the name with most files; on a tie the one in lower case, then the first."""
    return min(names, key=lambda name: (-counts[name], name != name.lower(), name))

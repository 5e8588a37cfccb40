"""Groups that must not be split, taken from the paths with a regular expression."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.errors import UserError, brief

GROUP = "group"
"""If a capturing group has this name, only its text names the group."""

_EXAMPLE = "for example ^(.*)_frame, which puts clip3_frame0001.jpg into the group clip3"


class GroupPattern:
    """A regular expression whose capturing groups name the group of a path.

    RE2 evaluates the expression in a time linear in the length of the path, and therefore has no
    backreferences and no lookaround.
    """

    def __init__(self, pattern: str) -> None:
        """Compile the expression.

        Raises:
            UserError: the expression is invalid or has no capturing group.
        """
        self.pattern = pattern
        self._named = _name_groups(pattern)
        try:
            fields = pc.extract_regex(pa.array([""]), self._named).type
        except pa.ArrowInvalid as error:
            reason = brief(str(error).rpartition(": " + self._named)[0] or str(error))
            raise UserError(
                f"data.group_pattern: {pattern!r} is not a valid regular expression ({reason}). RE2 has"
                f" no lookaround and no backreferences. Write {_EXAMPLE}"
            ) from None
        self._names = [field.name for field in fields]
        if not self._names:
            raise UserError(
                f"data.group_pattern: {pattern!r} has no capturing group to name the groups of images;"
                f" add parentheses, {_EXAMPLE}"
            )

    def groups(self, paths: pa.Array) -> pa.Array:
        """Return the group of each path as text, null if the expression captures nothing.

        Args:
            paths: text ``(n,)``, relative to the collection, with ``/``.
        """
        found = pc.extract_regex(paths, self._named)
        names = [GROUP] if GROUP in self._names else self._names
        parts = [pc.struct_field(found, name) for name in names]
        joined = pc.binary_join_element_wise(*parts, "/")
        is_empty = pc.equal(pc.utf8_length(pc.utf8_trim(joined, "/")), 0)
        return pc.if_else(is_empty, pa.scalar(None, pa.string()), joined)


def check_groups(pattern: str, paths: pa.ChunkedArray, groups: pa.ChunkedArray, where: str) -> None:
    """Check the groups that a pattern found.

    Args:
        paths, groups: of all files to be read; null if a file has no group.

    Raises:
        UserError: the pattern matches no path, or puts all files into one group.
    """
    if groups.null_count == len(groups):
        raise UserError(
            f"data.group_pattern: {pattern!r} matches none of the {len(paths):,} paths in {where}, for"
            f" example {paths[0]}; it is matched against the path below {where}, {_EXAMPLE}"
        )
    if groups.null_count == 0 and len(pc.unique(groups)) == 1:
        raise UserError(
            f"data.group_pattern: {pattern!r} puts all {len(paths):,} files in {where} into one group,"
            f" {groups[0].as_py()!r}, which cannot be split; capture more of {paths[0]}"
        )


def _name_groups(pattern: str) -> str:
    """Return the expression with a name for each capturing group, as Arrow requires."""
    number = 0

    def name(match: re.Match[str]) -> str:
        nonlocal number
        if match[0] != "(":
            return match[0]
        number += 1
        return f"(?P<unnamed_{number}>"

    # parentheses that open no group: quoted, escaped, in brackets, or followed by ?
    skipped = r"\\Q.*?(?:\\E|\Z)", r"\\.", r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", r"\(\?"
    return re.sub("|".join((*skipped, r"\(")), name, pattern, flags=re.DOTALL)

"""Groups that must not be split, named by a regular expression that is searched in the paths."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.errors import UserError, brief

GROUP = "group"
"""A capturing group of this name alone names the group."""

_EXAMPLE = "such as ^(.*)_frame, for which clip3_frame0001.jpg is in the group clip3"


class GroupPattern:
    """A regular expression whose capturing groups name the group of a path.

    Expressions are those of RE2, whose time is linear in the length of a path whatever the expression;
    so there are no backreferences and no lookaround.
    """

    def __init__(self, pattern: str) -> None:
        """Checks the expression.

        Raises:
            UserError: it is invalid, or captures nothing.
        """
        self.pattern = pattern
        self._named = _name_groups(pattern)
        try:
            fields = pc.extract_regex(pa.array([""]), self._named).type
        except pa.ArrowInvalid as error:
            reason = brief(str(error).rpartition(": " + self._named)[0] or str(error))
            raise UserError(
                f"data.group_pattern: {pattern!r} cannot be used ({reason}). It must be a regular"
                f" expression of RE2, which has no lookaround and no backreferences, {_EXAMPLE}"
            ) from None
        self._names = [field.name for field in fields]
        if not self._names:
            raise UserError(
                f"data.group_pattern: {pattern!r} has no capturing group, which would name the group;"
                f" put one into parentheses, {_EXAMPLE}"
            )

    def groups(self, paths: pa.Array) -> pa.Array:
        """Returns the group of each path: text, null where the expression captures nothing.

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
    """Checks what a pattern found.

    Args:
        paths, groups: of all files that are to be read; a group is null where there is none.

    Raises:
        UserError: it matches no path, or all files are of one group.
    """
    if groups.null_count == len(groups):
        raise UserError(
            f"data.group_pattern: {pattern!r} matches none of the {len(paths):,} paths in {where}, such"
            f" as {paths[0]}; it is searched in the path below {where}, {_EXAMPLE}"
        )
    if groups.null_count == 0 and len(pc.unique(groups)) == 1:
        raise UserError(
            f"data.group_pattern: {pattern!r} puts all {len(paths):,} files in {where} into the one"
            f" group {groups[0].as_py()!r}, which cannot be split; capture more of {paths[0]}"
        )


def _name_groups(pattern: str) -> str:
    """Returns an expression in which each capturing group has a name, as Arrow wants it."""
    number = 0

    def name(match: re.Match[str]) -> str:
        nonlocal number
        if match[0] != "(":
            return match[0]
        number += 1
        return f"(?P<unnamed_{number}>"

    # what is quoted, escaped or in brackets opens no group, nor does what starts with (?
    skipped = r"\\Q.*?(?:\\E|\Z)", r"\\.", r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", r"\(\?"
    return re.sub("|".join((*skipped, r"\(")), name, pattern, flags=re.DOTALL)

"""Explains why paths listed in a manifest are missing, and how they would be found."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from darkroom.errors import listed

MAX_TRIED = 1_000
"""Maximum number of missing paths for which matches are searched."""
LEAST_SHARE = 0.5
"""Minimum share of the matches that a suggested remedy must cover."""


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _loose(path: str) -> str:
    return "/".join(part.strip() for part in unquote(path).casefold().split("/"))


_WAYS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (lambda path: path, lambda path: path),
    (lambda path: path, _stem),
    (_stem, _stem),
    (_loose, _loose),
    (lambda path: _loose(path), lambda path: _stem(_loose(path))),
    (lambda path: _stem(_loose(path)), lambda path: _stem(_loose(path))),
)
"""Ways to compare a listed path with the path of a file, the strictest first: (listed, file)."""


@dataclass(frozen=True)
class _Match:
    root: str
    """Folder to which the rest of the listed path is relative; empty: the collection."""
    dropped: str
    """Prefix of the listed path before the rest, with a slash; often empty."""
    change: str
    """How the rest must be changed, in words; empty: not at all."""


def explain_missing(
    missing: Sequence[str], there: Iterable[str], folder: str, place: str, num_listed: int
) -> str:
    """Return a message with the number of missing paths, the first, and how they would be found.

    Args:
        missing: listed paths as in the manifest, at least one.
        there: paths of the files in the collection.
        folder: folder in the collection to which listed paths are relative; empty: the collection.
        place: name of the collection.
        num_listed: number of listed paths.
    """
    summary = (
        f"{len(missing):,} of {num_listed:,} listed paths are missing, the first: {listed(missing[:1])}"
    )
    base = f"{place}/{folder}" if folder else place
    found, example, paths = _search(missing[:MAX_TRIED], list(there))
    if not found:
        looked = f"; paths are relative to {base}"
        return summary + looked + (f", which contains {listed(paths)}, for example" if paths else "")
    best, count = found.most_common(1)[0]
    if count < LEAST_SHARE * found.total() and len({match.root for match in found}) > 1:
        roots = sorted({match.root for match in found})
        instead = example.removeprefix(f"{folder}/") if folder else example
        return (
            f"{summary}; {found.total():,} of {min(len(missing), MAX_TRIED):,} have the name of a file"
            f" in one of {len(roots):,} folders, {listed(roots, most=3)}; write paths relative to"
            f" {base}, for example {listed([instead])} for {listed(missing[:1])}"
        )
    remedies = []
    if best.dropped:
        remedies.append(f"remove {best.dropped!r} from the beginning of the paths")
    if best.change:
        remedies.append(best.change)
    if best.root != folder:
        remedies.append(f"set data.image_root: {best.root or '.'}")
    tried = min(len(missing), MAX_TRIED)
    where = f"{place}/{best.root}" if best.root else place
    return (
        f"{summary}; {count:,} of {tried:,} would be found in {where}: {', and '.join(remedies)}"
        f" (paths are relative to {base})"
    )


def _search(missing: Sequence[str], there: list[str]) -> tuple[Counter[_Match], str, list[str]]:
    """Return how many missing paths each match covers, the first file found, and any file."""
    there.sort()
    indices = []
    for _, of_file in _WAYS:
        index: defaultdict[str, list[str]] = defaultdict(list)
        for path in there:
            index[of_file(posixpath.basename(path))].append(path)
        indices.append(index)
    matches: Counter[_Match] = Counter()
    example = ""
    for given in missing:
        listed_path = posixpath.normpath(given.replace("\\", "/"))
        if (found := _match(listed_path, indices)) is not None:
            match, path = found
            matches[match] += 1
            example = example or path
    return matches, example, there[:1]


def _match(given: str, indices: Sequence[defaultdict[str, list[str]]]) -> tuple[_Match, str] | None:
    parts = given.split("/")
    for start in range(len(parts)):
        rest = "/".join(parts[start:])
        for (of_listed, of_file), index in zip(_WAYS, indices, strict=True):
            wanted = of_listed(rest)
            for path in index.get(of_listed(posixpath.basename(rest)), ()):
                if f"/{of_file(path)}".endswith(f"/{wanted}"):
                    depth = len(rest.split("/"))
                    root = "/".join(path.split("/")[:-depth])
                    dropped = given[: len(given) - len(rest)]
                    return _Match(root, dropped, _describe(rest, path)), path
    return None


def _describe(rest: str, path: str) -> str:
    """Return how ``rest`` must be changed to be the end of ``path``."""
    actual = "/".join(path.split("/")[-len(rest.split("/")) :])
    if actual == rest:
        return ""
    suffix, given = posixpath.splitext(actual)[1], posixpath.splitext(rest)[1]
    if actual == rest + suffix:
        return f"add the suffix {suffix}"
    if suffix != given and _stem(actual) == _stem(rest):
        return f"write the suffix {suffix} instead of {given}"
    return "write the names exactly as the files have them (case, blanks, percent signs)"

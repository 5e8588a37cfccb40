"""Recognises sidecars, files that describe the images beside them: annotations, metadata, notes."""

from pathlib import PurePosixPath

_SUFFIXES = frozenset(
    {
        *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".geojson", ".xml", ".yaml", ".yml"),
        *(".toml", ".ini", ".cfg", ".conf", ".parquet", ".feather", ".xls", ".xlsx", ".ods"),
        *(".idx", ".lst", ".list", ".names", ".data", ".cache", ".pts", ".xmp", ".aae", ".exif"),
        *(".md", ".rst", ".log", ".htm", ".html", ".url", ".bib"),
        *(".md5", ".sha1", ".sha256", ".sfv", ".par2"),
    }
)
_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "changelog", "sha256sums"})
"""File names without a suffix, in lower case."""


def is_sidecar(path: str) -> bool:
    """Return whether a file has the name of a sidecar (``1.txt``, ``README``).

    The caller checks the content first: an image called ``1.txt`` is an image.
    """
    name = PurePosixPath(path)
    return name.suffix.lower() in _SUFFIXES or name.name.lower() in _NAMES

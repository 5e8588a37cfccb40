"""Files that describe images and lie beside them: annotations, metadata, notes."""

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
"""Names without a suffix, in small letters."""


def is_sidecar(path: str) -> bool:
    """Tells whether a file has the name of one that describes images (``1.txt``, ``README``).

    The content of a file counts for more than its name: an image that is called ``1.txt`` is an image.
    """
    name = PurePosixPath(path)
    return name.suffix.lower() in _SUFFIXES or name.name.lower() in _NAMES

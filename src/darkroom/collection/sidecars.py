"""Recognises sidecars, files that describe the images beside them: annotations, metadata, notes."""

from pathlib import PurePosixPath

_SUFFIXES = frozenset(
    {
        *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".geojson", ".xml", ".yaml", ".yml"),
        *(".toml", ".ini", ".cfg", ".conf", ".parquet", ".feather", ".xls", ".xlsx", ".ods"),
        *(".idx", ".lst", ".list", ".names", ".data", ".cache", ".pts", ".xmp", ".aae", ".exif"),
        *(".json5", ".pbtxt", ".prototxt", ".ann", ".anno", ".meta", ".nfo", ".cff", ".kml", ".gpx"),
        *(".jgw", ".pgw", ".tfw", ".wld", ".prj"),
        *(".md", ".rst", ".log", ".htm", ".html", ".url", ".bib", ".rtf", ".doc", ".docx", ".odt"),
        *(".md5", ".sha1", ".sha256", ".sha512", ".sfv", ".par2", ".asc", ".sig"),
    }
)
_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "notice", "changelog", "sha256sums", "authors"}
)
"""File names without a suffix, in lower case."""

_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst"})


def is_sidecar(path: str) -> bool:
    """Return whether a file has the name of a sidecar (``1.txt``, ``README``).

    The caller checks the content first: an image called ``1.txt`` is an image.
    """
    name = PurePosixPath(path)
    if name.suffix.lower() in _COMPRESSED:
        name = name.with_suffix("")
    return name.suffix.lower() in _SUFFIXES or name.name.lower() in _NAMES

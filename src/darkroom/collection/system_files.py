"""Files that systems and programs leave behind: in prepare and predict alike, they are no images."""

_NAMES = frozenset(
    {
        # Windows
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        # macOS; the custom icon of a folder is called "Icon" and a carriage return
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        # Linux
        "lost+found",
        # network storage: Synology, QNAP
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "@__thumb",
        "#recycle",
        "#snapshot",
        # thumbnails and caches of programs
        "picasa.ini",
        "pspbrwse.jbf",
        "zbthumbnail.info",
        "__pycache__",
    }
)
"""Names of files and folders, in small letters."""

_SUFFIXES = (":zone.identifier", ":zone.identifier:$data", "@synoeastream", "@synoresource")
"""Endings of a file's metadata that Windows or Synology keep beside it, in small letters."""


def is_hidden(path: str) -> bool:
    """Tells whether a file, or a folder that it lies in, was left behind by a system or a program.

    Those are names that begin with a dot (``.DS_Store``, ``._1.jpg``, ``.git``), and known names in
    any case (``Thumbs.db``, ``@eaDir``, ``__MACOSX``, ``lost+found``).

    Args:
        path: relative to the collection, with ``/``.
    """
    return any(_is_left_behind(name) for name in path.split("/"))


def _is_left_behind(name: str) -> bool:
    lower = name.lower()
    return name.startswith(".") or lower in _NAMES or lower.endswith(_SUFFIXES)

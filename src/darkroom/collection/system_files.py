"""Recognises files that systems and programs leave behind, for both prepare and predict."""

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
        "indexervolumeguid",
        "wpsettings.dat",
        "pagefile.sys",
        "hiberfil.sys",
        "swapfile.sys",
        "autorun.inf",
        "msocache",
        "config.msi",
        "found.000",
        # macOS; the file of a custom folder icon is named "Icon" and a carriage return
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        "desktop db",
        "desktop df",
        # Linux
        "lost+found",
        "lost.dir",
        # network storage: Synology, QNAP, NetApp
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "@sharebin",
        "@appstore",
        "~snapshot",
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
"""Names of files and folders, in lower case."""

_SUFFIXES = (":zone.identifier", ":zone.identifier:$data", "@synoeastream", "@synoresource")
"""Endings of metadata files that Windows or Synology keep beside a file, in lower case."""


def is_hidden(path: str) -> bool:
    """Return whether a system or a program left behind a file or one of its folders.

    These have names that begin with a dot (``.DS_Store``, ``._1.jpg``, ``.git``), or known names in any
    case (``Thumbs.db``, ``@eaDir``, ``__MACOSX``, ``lost+found``).

    Args:
        path: relative to the collection, with ``/``.
    """
    return any(_is_left_behind(name) for name in path.split("/"))


def _is_left_behind(name: str) -> bool:
    lower = name.lower()
    return name.startswith((".", "~$")) or lower in _NAMES or lower.endswith(_SUFFIXES)

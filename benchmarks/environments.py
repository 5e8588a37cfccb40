"""Throw-away environments for other projects, beside the packages of this one."""

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make_environments(
    packages: Mapping[str, str | None], folder: Path
) -> tuple[dict[str, Path], dict[str, dict[str, Any]]]:
    """Makes an environment per name in ``folder``; None: that of this process.

    Returns:
        The Python of each, and the figures of those that cannot be installed: why they are not measured.
    """
    pythons, failed = {}, {}
    for name, package in packages.items():
        try:
            pythons[name] = make_environment(package, folder / name) if package else Path(sys.executable)
        except subprocess.CalledProcessError as error:
            failed[name] = {"not_measured": error.stderr.decode().strip().splitlines()[-1]}
    return pythons, failed


def make_environment(package: str, folder: Path) -> Path:
    """Makes a virtual environment with a package beside those of this one; returns its Python."""
    venv.create(folder)
    python = folder / "bin" / "python"
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "packages_of_darkroom.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True, capture_output=True)
    return python

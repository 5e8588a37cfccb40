"""Compare the environment with the one that produced the results, without importing any package."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from darkroom.bounded_json import load_json
from darkroom.errors import listed
from darkroom.paths import ENVIRONMENT


def environment_remark(root: Path) -> str:
    """Return what differs between environment.json and this machine; an empty string if nothing does.

    Only Python and packages are compared: the processor and the GPU are not.
    """
    try:
        recorded = load_json(root / ENVIRONMENT)
        differences = listed(_differences(recorded), 5)
    except (OSError, ValueError, AttributeError):
        return ""
    if not differences:
        return ""
    return (
        f"the environment differs from that of the results ({ENVIRONMENT}): {differences}; DVC does not "
        "run stages again for that, `dvc repro --force` does"
    )


def _differences(recorded: dict[str, str]) -> Iterator[str]:
    for name, before in recorded.items():
        now = _version(name)
        if now is not None and now != before.partition("+")[0]:
            yield f"{name} {before} -> {now}"


def _version(name: str) -> str | None:
    if name == "python":
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None

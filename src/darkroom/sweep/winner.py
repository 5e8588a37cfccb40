"""The best trial of a finished sweep, for `darkroom use`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.bounded_json import load_json
from darkroom.errors import UserError, did_you_mean, listed
from darkroom.paths import DATASET

SWEEPS = Path("sweeps")

BEST = "best.yaml"
"""The values of the best trial, as a recipe."""

SUMMARY = "sweep.json"
REPORT = "report.html"


def folder_of_sweep(name: str) -> Path:
    """Return the folder of a finished sweep.

    Raises:
        UserError: there is none of this name, or it is not finished.
    """
    folder = SWEEPS / name
    if (folder / BEST).is_file():
        return folder
    if folder.is_dir() and name:
        raise UserError(f"{folder}: the sweep is not finished; run `darkroom sweep` with its file again")
    names = sorted(path.parent.name for path in SWEEPS.glob(f"*/{BEST}"))
    known = f"There are: {listed(names)}" if names else "There is none; see `darkroom sweep --help`"
    raise UserError(f"{name} is not a finished sweep{did_you_mean(name, names) or '.'} {known}")


def differences(folder: Path, params: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return what a new training depends on that was otherwise in a sweep.

    Args:
        folder: of a finished sweep.
        params: the current parameters by full name, with the values of the best trial.

    Returns:
        ``(name, value in the sweep, value now)``; ``data.digest`` for the prepared images.
    """
    found = load_json(folder / SUMMARY)
    best = next(one for one in found["trials"] if one["trial"] == found["best"])
    wanted = {**found["origin"], **best["params"]}
    now = json.loads(json.dumps(dict(params)))
    if DATASET.is_file():
        from darkroom.dataset.info import load_info

        now["data.digest"] = load_info(DATASET).digest
    return [
        (name, wanted[name], now[name]) for name in now if name in wanted and wanted[name] != now[name]
    ]

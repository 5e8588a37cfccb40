"""What a training settles once, such as the value of a parameter that is ``auto``, kept for a resume."""

import json
import sys
from pathlib import Path
from typing import Any

from darkroom.bounded_json import load_json
from darkroom.digests import Mismatch, seal, unseal
from darkroom.errors import brief
from darkroom.whole_files import whole_file


def load_settled(path: Path) -> dict[str, Any]:
    """Return what ``save_settled`` wrote; empty if there is no such file, or it is damaged."""
    try:
        return unseal(load_json(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, Mismatch) as error:
        print(f"train: {path}: damaged ({brief(error)}); it is computed again", file=sys.stderr)
        return {}


def save_settled(path: Path, values: dict[str, Any]) -> None:
    """Replace the file at ``path``.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as part:
        part.write_text(json.dumps(seal(values)), encoding="utf-8")

"""A good model, a similar one and a bad one, as their files and as commits, to be compared."""

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner
from handmade import write_lock
from numpy.typing import NDArray

from darkroom.cli import main
from darkroom.paths import DATASET, METRICS, MODEL, PREDICTIONS

NAMES = ("cat", "dog", "<b>|owl")
RANDOM = np.random.default_rng(5)
LABELS = RANDOM.choice(3, 300, p=[0.5, 0.3, 0.2])


def guesses(wrong: float, seed: int) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    return np.where(random.random(len(LABELS)) < wrong, random.integers(0, 3, len(LABELS)), LABELS)


GOOD, SIMILAR, BAD = guesses(0.05, 1), guesses(0.06, 2), guesses(0.4, 3)


def files_of(
    preds: NDArray[np.int64], labels: NDArray[np.int64] = LABELS, paths: list[str] | None = None
) -> tuple[bytes, bytes]:
    """predictions.parquet and metrics.json as evaluate writes them."""
    probabilities = np.full((len(preds), 3), 0.1, dtype=np.float32)
    probabilities[np.arange(len(preds)), preds] = 0.8
    table = pa.table(
        {
            "path": paths or [f"{index}.png" for index in range(len(preds))],
            "label": [NAMES[index] for index in labels],
            "pred": [NAMES[index] for index in preds],
            "correct": preds == labels,
            "probability": np.full(len(preds), 0.8, dtype=np.float32),
            "probabilities": list(probabilities),
        }
    )
    written = io.BytesIO()
    pq.write_table(table, written)
    metrics = {"test": {"per_class": [{"class": name} for name in NAMES]}}
    return written.getvalue(), json.dumps(metrics).encode()


def commit_both(folder: Path) -> None:
    """Commits a bad and a good model in the current folder, with a branch each."""
    (folder / ".dvc").mkdir()
    git("init", "--quiet", "--initial-branch=main")
    for branch, preds in (("bad", BAD), ("good", GOOD)):
        for path, content in zip((PREDICTIONS, METRICS), files_of(preds), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for path in (MODEL, DATASET):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"digest": "d" * 64}) + branch * (path == MODEL))
        (folder / "reports/train").mkdir(exist_ok=True)
        (folder / "reports/train/history.csv").write_text(branch)
        write_lock(folder)
        git("add", "--all")
        git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", branch)
        git("branch", branch)


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["compare", *arguments])
    return result.exit_code, result.stdout + result.stderr

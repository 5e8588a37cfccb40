"""Trains the default model on the default data with seeds 0 to 4, and measures each on the test split.

Each seed draws its own split. Prints a line a seed and writes benchmarks/results/digits-seeds.jsonl.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import RESULTS
from ruamel.yaml import YAML

FILE = RESULTS / "digits-seeds.jsonl"
STAGES = ("prepare", "train", "evaluate")


def measure(seed: int) -> dict[str, object]:
    """Runs the stages with another seed in a copy of the project."""
    with TemporaryDirectory() as folder:
        for name in ("stages", "dvc.yaml", "params.yaml", "data/digits"):
            copy = shutil.copytree if Path(name).is_dir() else shutil.copy
            copy(name, Path(folder, name))
        params = Path(folder, "params.yaml")
        yaml = YAML()
        values = yaml.load(params)
        values["seed"] = seed
        yaml.dump(values, params)
        for stage in STAGES:
            subprocess.run(
                [sys.executable, f"stages/{stage}.py"],
                cwd=folder,
                env={**os.environ, "DARKROOM_TRACKING": "off", "PYTHONPATH": str(Path("src").resolve())},
                check=True,
                stdout=subprocess.DEVNULL,
            )
        test = json.loads(Path(folder, "reports/evaluate/metrics.json").read_text())["test"]
        environment = json.loads(Path(folder, "environment.json").read_text())
    return {
        "seed": seed,
        **{name: test[name] for name in ("f1_macro", "accuracy", "num_images")},
        "fingerprint": environment["fingerprint"],
    }


def main() -> None:
    lines = []
    for seed in range(5):
        lines.append(json.dumps(measure(seed)))
        print(lines[-1], flush=True)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

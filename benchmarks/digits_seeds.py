"""Trains the default model on the default data with seeds 0 to 4, and measures each on the test split.

Each seed draws its own split. Prints a line a seed and writes benchmarks/results/digits-seeds.jsonl.
"""

import json

from machine import RESULTS
from stages import change_params, project_copy, run_stage, test_metrics

FILE = RESULTS / "digits-seeds.jsonl"


def measure(seed: int) -> dict[str, object]:
    """Runs the stages with another seed in a copy of the project."""
    with project_copy("data/digits") as folder:
        change_params(folder / "params.yaml", {"seed": seed})
        for stage in ("prepare", "train", "evaluate"):
            run_stage(stage, folder)
        test = test_metrics(folder)
        environment = json.loads((folder / "environment.json").read_text())
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

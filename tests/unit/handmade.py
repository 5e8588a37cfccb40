"""A project whose results came without their runs, as by `dvc pull`, made by hand in an instant."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from darkroom.tracking.ledger.dvc_hash import dvc_md5

HISTORY = (
    "epoch,lr,train_loss,val_loss,val_f1_macro,val_f1_standard_error,is_best,is_kept\n"
    "1,0.1,2.5,2.25,0.5,0.125,True,True\n"
    "2,0.05,1.5,1.25,0.75,0.0625,True,True\n"
    "3,0.025,1.25,1.5,0.625,0.25,False,False\n"
)

INFO = {"digest": "d" * 64, "class_names": ["a", "b"]}

FILES = {
    "data/prepared/dataset.json": json.dumps(INFO),
    "models/model.safetensors": "weights",
    "reports/train/history.csv": HISTORY,
    "reports/evaluate/metrics.json": json.dumps({"test": {"f1_macro": 0.875, "per_class": []}}),
    "reports/evaluate/predictions.parquet": "predictions",
}


def write_results(folder: Path) -> None:
    """Writes the results of train and evaluate, and their dvc.lock."""
    (folder / ".dvc").mkdir()
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_lock(folder)


def write_lock(folder: Path) -> None:
    def entries(*paths: str) -> list[dict[str, Any]]:
        return [{"path": path, "hash": "md5", "md5": dvc_md5(folder / path)} for path in paths]

    stages = {
        "train": {
            "cmd": "python stages/train.py",
            "deps": entries("data/prepared/dataset.json"),
            "params": {"params.yaml": {"train": {"lr": 0.1, "epochs": 2}, "seed": 0}},
            "outs": entries("models/model.safetensors", "reports/train"),
        },
        "evaluate": {
            "cmd": "python stages/evaluate.py",
            "deps": entries("models/model.safetensors"),
            "params": {"params.yaml": {"evaluate": {"batch_size": 256}}},
            "outs": entries("reports/evaluate/metrics.json", "reports/evaluate/predictions.parquet"),
        },
    }
    if (folder / "export").exists():
        stages["export"] = {
            "cmd": "python stages/export.py",
            "deps": entries("models/model.safetensors"),
            "outs": entries("export"),
        }
    with (folder / "dvc.lock").open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)

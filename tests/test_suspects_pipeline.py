"""`darkroom suspects` and `darkroom relabel` as commands, with a network trained on each fold."""

import csv
from pathlib import Path

import pytest
from effort import only_with_all
from project import small_project


@pytest.mark.slow
@only_with_all
def test_a_planted_label_is_found_and_put_right(tmp_path: Path) -> None:
    project = small_project(tmp_path)
    project.set_params(train__epochs=8, seed=1)
    project.run("python", "stages/fetch.py", DARKROOM_TRACKING="off")
    (tmp_path / "data/fetched/digits").rename(tmp_path / "data/mine")
    planted = tmp_path / "data/mine/1/planted.png"
    (tmp_path / "data/mine/0/000000.png").rename(planted)
    project.set_params(data__fetch=[], data__path="data/mine", prepare__val_fraction=0.4)
    project.set_params(prepare__test_fraction=0.05)
    project.run("python", "stages/prepare.py", DARKROOM_TRACKING="off")
    output = project.run("darkroom", "suspects", "--folds", "2")
    assert "suspects/suspects.csv: " in output
    assert "run `darkroom relabel suspects/suspects.csv`" in output
    assert not (tmp_path / "mlflow.db").exists()
    table = tmp_path / "suspects/suspects.csv"
    written = table.read_bytes()
    rows = list(csv.DictReader(table.open(newline="")))
    [rank] = [number for number, row in enumerate(rows) if row["path"] == "1/planted.png"]
    assert rank < 100
    assert rows[rank]["suggested"] == "0"
    kept = list((tmp_path / ".darkroom/retraining").glob("*/*/probabilities.npy"))
    assert len(kept) == 2
    kept[0].unlink()  # as if it had been stopped in one fold
    project.run("darkroom", "suspects", "--folds", "2")
    assert table.read_bytes() == written
    rows[rank]["new_label"] = "0"
    with table.open("w", newline="") as file:
        edited = csv.DictWriter(file, list(rows[0]))
        edited.writeheader()
        edited.writerows(rows)
    assert "new labels or exclusions filled in" in project.run("darkroom", "suspects", check=False)
    printed = project.run("darkroom", "relabel", "suspects/suspects.csv")
    assert "data/mine/labels.csv: 1 label changed" in printed
    assert "  data.manifest: labels.csv\n  data.split_column: split\n" in printed
    with (tmp_path / "data/mine/labels.csv").open(newline="") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert labels["1/planted.png"] == "0"

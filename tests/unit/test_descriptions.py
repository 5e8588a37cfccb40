"""Descriptions of runs: tables that Markdown cannot break, sections that replace themselves alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from support import make_spec

from darkroom.dataset.info import DatasetInfo
from darkroom.runtime import Runtime
from darkroom.tracking.address import Address
from darkroom.tracking.descriptions import (
    describe_evaluation,
    describe_export,
    describe_preparation,
    describe_training,
    exported_metrics,
    kept_epoch,
    model_params,
    scores,
    training_tags,
)
from darkroom.tracking.destinations import tracked
from darkroom.tracking.mlflow.store import open_store
from darkroom.tracking.notes import NOTE_TAG, table, with_section
from darkroom.tracking.records import Note
from darkroom.tracking.run import Run

MODEL = Path("models/model.safetensors")
TRAINING: dict[str, Any] = {
    "seed": 7,
    "train.epochs": 30,
    "kept": {
        "epoch": 12,
        "val_loss": 0.25,
        "val_accuracy": 0.9,
        "val_f1_macro": 0.875,
        "below_best": 0.015625,
        "reason": "kept epoch 12 of 20: because",
        "remarks": [],
    },
    "best": {"epoch": 10, "val_f1_macro": 0.890625, "val_f1_standard_error": 0.0212},
    "num_epochs": 20,
    "overfits_since_epoch": None,
}

OLDER = {
    "seed": 7,
    "train.epochs": 30,
    "best": {"epoch": 12, "val_loss": 0.25, "val_accuracy": 0.9, "val_f1_macro": 0.875},
    "overfits_since_epoch": 9,
}
"""What model files recorded while the best epoch was kept."""


def make_info(num_classes: int = 3) -> DatasetInfo:
    names = [f"class {index}" for index in range(num_classes)]
    return DatasetInfo(
        format_version=1,
        class_names=names,
        target="one_class",
        counts={split: dict.fromkeys(names, 10) for split in ("train", "val", "test")},
        labels_per_image={"train": [0, 1_200], "val": [0, 300], "test": [0, 400]},
        input_size=(8, 16),
        channels=3,
        resize="crop",
        mean=[0.5] * 3,
        std=[0.5] * 3,
        digest="0123456789abcdef" * 4,
    )


def test_a_table_is_two_columns_of_markdown() -> None:
    assert table({"macro F1": "0.9000", "images": 12}) == (
        "| | |\n|---|---|\n| macro F1 | 0.9000 |\n| images | 12 |"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("*bold* _it_ `code`", r"\*bold\* \_it\_ \`code\`"),
        ("<script>", "&lt;script&gt;"),
        ("[text](address)", r"\[text\](address)"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_names_are_not_read_as_markdown(name: str, shown: str) -> None:
    assert table({name: name}).splitlines()[2] == f"| {shown} | {shown} |"


def test_a_section_replaces_itself_and_a_new_one_comes_first() -> None:
    first = with_section("", "Training", "t1")
    assert first == "### Training\n\nt1"
    both = with_section(first, "Test", "e1")
    assert both == "### Test\n\ne1\n\n### Training\n\nt1"
    assert with_section(both, "Training", "t2") == "### Test\n\ne1\n\n### Training\n\nt2"
    assert with_section(both, "Test", "e1") == both  # said once more


def test_what_people_write_stays() -> None:
    theirs = "My best run.\n\n# With a title\n\n#### and another"
    note = with_section(with_section(theirs, "Training", "t1"), "Training", "t2")
    assert note == f"{theirs}\n\n### Training\n\nt2"
    with_theirs = with_section(note + "\n\n### Remarks\n\nmine", "Training", "t3")
    assert with_theirs == f"{theirs}\n\n### Training\n\nt3\n\n### Remarks\n\nmine"


def test_a_training_tells_model_scores_epoch_images_and_data() -> None:
    spec = make_spec(training=TRAINING)
    assert describe_training(spec, make_info(), 1_000) == {
        "model": f"{spec.name}, 1,000 parameters",
        "validation macro F1": "0.8750",
        "validation accuracy": "0.9000",
        "validation loss": "0.2500",
        "kept epoch": "12 of 20",
        "best epoch": "10, with 0.8906 (standard error 0.0212)",
        "kept below the best": "0.0156",
        "reason": "kept epoch 12 of 20: because",
        "images": "1,200 train, 300 val",
        "data": "0123456789ab",
    }
    overfit = make_spec(training={**TRAINING, "overfits_since_epoch": 5})
    assert describe_training(overfit, make_info())["overfits since epoch"] == "5"
    early = make_spec(training={**TRAINING, "kept": {**TRAINING["kept"], "remarks": ["too early"]}})
    assert describe_training(early, make_info())["remark"] == "too early"


def test_a_model_file_of_before_is_told_as_it_was() -> None:
    rows = describe_training(make_spec(training=OLDER), make_info())
    assert (rows["kept epoch"], rows["validation macro F1"]) == ("12 of 30", "0.8750")
    assert "best epoch" not in rows
    assert kept_epoch(OLDER)["epoch"] == 12
    assert training_tags(OLDER) == {
        "kept_epoch": "12",
        "best_epoch": "12",
        "overfits_since_epoch": "9",
    }


def test_trainings_are_found_by_the_epochs_that_matter() -> None:
    assert kept_epoch(TRAINING) == TRAINING["kept"]
    assert training_tags(TRAINING) == {
        "kept_epoch": "12",
        "best_epoch": "10",
        "kept_reason": "kept epoch 12 of 20: because",
        "overfits_since_epoch": "never",
    }


def test_an_evaluation_tells_scores_and_the_worst_classes() -> None:
    metrics = {
        "num_images": 1_000,
        "accuracy": 0.75,
        "f1_macro": 0.5,
        "precision_macro": 0.6,
        "recall_macro": 0.7,
        "roc_auc_macro": None,
        "per_class": [{"class": f"c{index}", "f1": 1 - index / 10} for index in range(8)],
    }
    assert describe_evaluation(metrics) == {
        "macro F1": "0.5000",
        "macro precision": "0.6000",
        "macro recall": "0.7000",
        "accuracy": "0.7500",
        "lowest F1": "c7 (0.3000), c6 (0.4000), c5 (0.5000), c4 (0.6000), c3 (0.7000)",
        "images": "1,000",
    }
    perfect = {**metrics, "per_class": [{"class": "a", "f1": 1.0}, {"class": "b", "f1": 1.0}]}
    assert describe_evaluation(perfect)["lowest F1"] == "1 in every class"
    one = {**metrics, "per_class": [{"class": "a", "f1": 1.0}, {"class": "b", "f1": 0.5}]}
    assert describe_evaluation(one)["lowest F1"] == "b (0.5000)"
    assert scores(metrics) == {
        "test/num_images": 1_000,
        "test/accuracy": 0.75,
        "test/f1_macro": 0.5,
        "test/precision_macro": 0.6,
        "test/recall_macro": 0.7,
    }


def test_an_evaluation_tells_of_baselines_and_of_what_was_not_measured() -> None:
    metrics = {
        "num_images": 10,
        "f1_macro": 0.5,
        "precision_macro": None,
        "recall_macro": 0.7,
        "accuracy": 0.5,
        "baseline": {
            "logistic_regression": {
                "f1_macro": 0.75,
                "accuracy": 0.8,
                "features": "pixels",
                "inverse_regularisation": 0.1,
            },
            "most_frequent": {"f1_macro": None, "accuracy": 0.25},
        },
        "per_class": [
            {"class": "seen", "f1": 0.5, "support": 10, "predicted": 9},
            {"class": "unseen", "f1": None, "support": 0, "predicted": 1},
        ],
    }
    rows = describe_evaluation(
        metrics | {"baseline": metrics["baseline"] | {"most_frequent": {"f1_macro": 0.1}}}
    )
    assert "macro precision" not in rows
    assert rows["macro F1 of logistic regression"] == "0.7500"
    assert rows["macro F1 of most frequent"] == "0.1000"
    assert rows["lowest F1"] == "seen (0.5000)"
    assert "unseen" in rows["remark"]
    assert "does not beat a logistic regression" in rows["remark 2"]
    assert scores(metrics) == {
        "test/num_images": 10,
        "test/f1_macro": 0.5,
        "test/recall_macro": 0.7,
        "test/accuracy": 0.5,
        "test/baseline/logistic_regression/f1_macro": 0.75,
        "test/baseline/logistic_regression/accuracy": 0.8,
        "test/baseline/logistic_regression/inverse_regularisation": 0.1,
        "test/baseline/most_frequent/accuracy": 0.25,
    }


def test_an_evaluation_of_several_labels_has_its_own_scores() -> None:
    metrics = {
        "num_images": 10,
        "f1_macro": 0.5,
        "precision_macro": 0.6,
        "recall_macro": 0.7,
        "exact_match": 0.3,
        "hamming_loss": 0.1,
        "per_class": [{"class": "a", "f1": 0.5}],
    }
    rows = describe_evaluation(metrics)
    assert (rows["exact match"], rows["Hamming loss"]) == ("0.3000", "0.1000")
    assert "accuracy" not in rows


def test_a_preparation_tells_images_classes_problems_and_duplicates() -> None:
    counts = {
        "num_images": {"train": 1_200, "val": 300, "test": 400},
        "num_files": {"used": 1_900, "truncated": 2, "not_an_image": 0},
        "num_pairs": {"same_pixels": 0, "nearly_same_pixels": 3},
    }
    assert describe_preparation(make_info(), counts) == {
        "images": "1,200 train, 300 val, 400 test",
        "image size": "8 x 16 x 3",
        "classes": "3: class 0, class 1, class 2",
        "excluded files": "2 truncated",
        "pairs of duplicates": "3 nearly same pixels",
        "digest": "0123456789ab",
    }
    clean = {**counts, "num_files": {"used": 1}, "num_pairs": {"same_pixels": 0}}
    rows = describe_preparation(make_info(1_000), clean)
    assert (rows["excluded files"], rows["pairs of duplicates"]) == ("none", "none")
    assert rows["classes"].startswith("1,000: class 0, ")
    assert rows["classes"].endswith("class 19, ...")


@pytest.mark.parametrize(
    ("kind", "score", "agreed"),
    [
        ("argmax", "accuracy", "the same class for 99.5% of the test images"),
        ("labels", "exact_match", "the same set of labels for 99.5% of the test images"),
        ("pixel", "iou_macro", "the same class for 99.5% of the pixels of the test images"),
    ],
)
def test_an_export_tells_sizes_and_parity(kind: str, score: str, agreed: str) -> None:
    parity = {"max_abs_difference_below": 1e-6, f"{kind}_agreement": 0.995}
    assert describe_export({"model.onnx": 1_234_000}, {"model.onnx": parity}) == {
        "model.onnx": f"1,234 kB; differs from the checkpoint by less than 1e-06, {agreed}"
    }
    parity |= {"f1_macro": 0.9, "f1_macro_low": 0.8, "f1_macro_high": 0.95, score: 0.5}
    [row] = describe_export({"model.onnx": 1_234_000}, {"model.onnx": parity}).values()
    title = {"iou_macro": "mean IoU"}.get(score, score.replace("_", " "))
    assert f"1,234 kB; macro F1 0.9000 (0.8000 to 0.9500), {title} 0.5000, differs" in row
    assert exported_metrics({"model.onnx": parity}) == {
        "parity/model.onnx": 1e-6,
        "f1_macro/model.onnx": 0.9,
        f"{score}/model.onnx": 0.5,
    }


def test_an_export_of_an_earlier_version_has_no_scores() -> None:
    older = {"model.onnx": {"max_abs_difference_below": 1e-5, "argmax_agreement": 1.0}}
    assert exported_metrics(older) == {"parity/model.onnx": 1e-5}


def test_models_are_told_apart_by_few_facts() -> None:
    spec = make_spec(training=TRAINING)
    assert model_params(spec) == {
        "architecture": spec.name,
        "classes": f"{len(spec.class_names)}",
        "input": f"{spec.input_size[0]} x {spec.input_size[1]} x {spec.channels}",
        "kept_epoch": "12",
        "seed": "7",
    }


def test_a_run_tells_a_note() -> None:
    heard: list[object] = []
    Run(None, heard.append).describe("Test", {"a": 1})
    assert heard == [Note(title="Test", text=table({"a": 1}))]


@pytest.mark.slow
def test_both_stages_write_into_the_description_of_the_training(
    inline_sender: None, empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_mlflow, tmp_path)
    with tracked("train", Runtime()) as run:
        run.log_output(MODEL, "abc")
        run.describe("Training", {"kept epoch": 3})
    client = open_store(tmp_path, Address.of(tmp_path)).client
    training = run_of(client, "train").info.run_id
    client.set_tag(training, NOTE_TAG, f"Mine.\n\n{run_of(client, 'train').data.tags[NOTE_TAG]}")
    for score in (0.8, 0.9):  # evaluated twice
        with tracked("evaluate", Runtime()) as run:
            for each in (run, run.log_input(MODEL, "abc", as_child=True)):
                each.describe("Test", {"macro F1": score})
    assert client.get_run(training).data.tags[NOTE_TAG] == (
        f"Mine.\n\n### Test\n\n{table({'macro F1': 0.9})}\n\n### Training\n\n{table({'kept epoch': 3})}"
    )
    assert run_of(client, "evaluate").data.tags[NOTE_TAG] == f"### Test\n\n{table({'macro F1': 0.9})}"


def run_of(client: MlflowClient, stage: str):
    [experiment] = client.search_experiments(filter_string="name = 'darkroom'")
    return client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'", max_results=1)[0]


def test_an_evaluation_of_masks_names_the_scores_of_pixels() -> None:
    metrics = {"iou_macro": 0.25, "accuracy": 0.5, "f1_macro": 0.4, "num_images": 3, "per_class": []}
    described = describe_evaluation(metrics)
    assert list(described)[:3] == ["macro F1", "mean IoU", "pixel accuracy"]
    assert (described["mean IoU"], described["pixel accuracy"]) == ("0.2500", "0.5000")

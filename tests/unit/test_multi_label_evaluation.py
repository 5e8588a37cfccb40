"""What evaluate and export say of a model whose images may have several labels."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support import make_spec
from test_reporting import (
    HOSTILE_NAMES,
    SHOWN_NAMES,
    Evaluated,
    Page,
    evaluated,
    is_picture,
    rows_of,
)

from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.evaluation.evaluate import evaluate
from darkroom.evaluation.figures import draw_label_counts
from darkroom.evaluation.targets.one_class import OneClassEvaluation
from darkroom.evaluation.targets.several_labels import SeveralLabelsEvaluation
from darkroom.export.model_card import write_model_card
from darkroom.metrics.classification import metrics_file
from darkroom.models.spec import ModelSpec
from darkroom.reporting.scores import summary

pytestmark = pytest.mark.filterwarnings("error:Glyph")

NAMES = (*HOSTILE_NAMES, "no label")
THRESHOLDS = (0.25, 0.5, 0.6125, 0.5, 0.4)
NUM_IMAGES = 40


@pytest.fixture(scope="module", autouse=True)
def one_row_of_images() -> Iterator[None]:
    """Drawing all thirty of the hardest takes a second each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darkroom.evaluation.hardest.NUM_HARDEST", 6)
        yield


def spec_of(names: tuple[str, ...] = NAMES, thresholds: tuple[float, ...] = THRESHOLDS) -> ModelSpec:
    return make_spec(class_names=names, target="several_labels", thresholds=thresholds)


def evaluate_noise(folder: Path, seed: int = 0, skill: float = 1.0, num_labels: int = 5) -> Evaluated:
    """An outcome on 40 grey images; the last of the labels is the rarest."""
    random = np.random.default_rng(seed)
    labels = random.random((NUM_IMAGES, num_labels)) < np.array([0.5, 0.4, 0.3, 0.3, 0.1])[:num_labels]
    logits = random.normal(0, 1, labels.shape) + skill * (2 * labels - 1)
    images = random.integers(0, 256, (NUM_IMAGES, 8, 8, 1), dtype=np.uint8)
    with ShardWriter(
        folder, (8, 8, 1), NUM_IMAGES, target="several_labels", num_classes=num_labels
    ) as writer:
        for index, image in enumerate(images):
            writer.add(image, np.flatnonzero(labels[index]).tolist(), f"{index:04d}.png")
    spec = spec_of(NAMES[:num_labels], THRESHOLDS[:num_labels])
    targets = torch.from_numpy(labels).float()
    return evaluated(spec, Shards(folder), targets, torch.from_numpy(logits).float())


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate_noise(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def plots(evaluation: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots")
    evaluation.write_plots(folder)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_kind_of_evaluation_is_that_of_the_spec(evaluation: Evaluated) -> None:
    assert isinstance(evaluation.evaluation, SeveralLabelsEvaluation)
    spec, targets = make_spec(class_names=NAMES), torch.arange(NUM_IMAGES) % 5
    single = evaluate(spec, targets, torch.zeros(NUM_IMAGES, 5), evaluation.shards.paths)
    assert isinstance(single, OneClassEvaluation)


# predictions


def test_predictions_are_the_labels_that_reach_their_threshold(
    evaluation: Evaluated, tmp_path: Path
) -> None:
    evaluation.write_predictions(tmp_path / "new" / "predictions.parquet")
    rows = pq.read_table(tmp_path / "new" / "predictions.parquet").to_pylist()
    assert list(rows[0]) == ["path", "labels", "preds", "correct", "probabilities"]
    assert [row["path"] for row in rows] == [f"{index:04d}.png" for index in range(NUM_IMAGES)]
    for row, labels in zip(rows, evaluation.shards.labels, strict=True):
        assert row["labels"] == [name for name, has in zip(NAMES, labels, strict=True) if has]
        reached = zip(NAMES, row["probabilities"], THRESHOLDS, strict=True)
        assert row["preds"] == [name for name, p, threshold in reached if p >= threshold]
        assert row["correct"] is (row["labels"] == row["preds"])
    assert {row["correct"] for row in rows} == {True, False}
    assert {len(row["preds"]) for row in rows} >= {0, 1, 2}
    share = sum(row["correct"] for row in rows) / NUM_IMAGES
    assert evaluation.metrics["exact_match"] == pytest.approx(share)
    assert sum(row["probabilities"][0] for row in rows) / NUM_IMAGES > 1 / 5  # no softmax


def test_predictions_are_equal_bytes_again_and_others_for_another_outcome(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        evaluate_noise(tmp_path / f"shards {name}", seed).write_predictions(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


# plots


def test_the_files_that_dvc_plots_are_there_beside_counts_by_label(plots: Path) -> None:
    stems = {"confusion", "labels", "precision_recall", "reliability", "roc"}
    assert {path.name for path in plots.iterdir()} == {
        "hardest.png",
        "classes.csv",
        "confusion_matrix.csv",
        *(f"{stem}.{ending}" for stem in stems for ending in ("csv", "png")),
    }
    assert all(is_picture(path) for path in plots.glob("*.png"))


def test_the_table_of_confusions_names_what_is_no_label_unlike_any_class(
    plots: Path, evaluation: Evaluated
) -> None:
    rows = table(plots / "confusion.csv")
    assert {name for row in rows for name in row.values()} == {*NAMES, "(no label)"}
    for index, name in enumerate(NAMES):
        hits = int((evaluation.targets[:, index].bool() & evaluation.evaluation.preds[:, index]).sum())
        assert sum(row == {"actual": name, "predicted": name} for row in rows) == hits
    neither = (~evaluation.targets.bool() & ~evaluation.evaluation.preds).all(dim=1)
    nothing = {"actual": "(no label)", "predicted": "(no label)"}
    assert sum(row == nothing for row in rows) == int(neither.sum()) > 0


def test_the_table_of_labels_has_their_counts(plots: Path, evaluation: Evaluated) -> None:
    rows = table(plots / "labels.csv")
    assert [row["label"] for row in rows] == list(NAMES)
    assert [float(row["threshold"]) for row in rows] == list(THRESHOLDS)
    for row in rows:
        metrics = evaluation.metrics["per_class"][row["label"]]
        hits, wrong, missed, rest = (
            int(row[f"{right}_{said}"])
            for right, said in (
                ("true", "positives"),
                ("false", "positives"),
                ("false", "negatives"),
                ("true", "negatives"),
            )
        )
        assert hits + wrong + missed + rest == NUM_IMAGES
        assert hits + missed == metrics["support"]
        assert metrics["precision"] == pytest.approx(hits / (hits + wrong), abs=1e-6)
        assert metrics["recall"] == pytest.approx(hits / (hits + missed), abs=1e-6)


@pytest.mark.slow
def test_plots_are_equal_bytes_again_and_others_for_another_outcome(plots: Path, tmp_path: Path) -> None:
    evaluate_noise(tmp_path / "shards").write_plots(tmp_path / "again")
    faultless = evaluate_noise(tmp_path / "other shards", skill=50)
    faultless.write_plots(tmp_path / "another")
    for file in plots.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name
        assert file.read_bytes() != (tmp_path / "another" / file.name).read_bytes(), file.name
    faultless.write_report(tmp_path / "another", tmp_path / "report.html")
    assert "<b>1.0000</b>" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("num_labels", [2, 50])
def test_counts_of_few_and_many_labels_are_drawn_the_same_again(num_labels: int, tmp_path: Path) -> None:
    names = [*NAMES, *(f"label {index}" for index in range(50))][:num_labels]
    counts = np.random.default_rng(0).integers(0, 30, (3, num_labels)).tolist()
    for name in ("a.png", "b.png"):
        draw_label_counts(*counts, names, tmp_path / name)
    counts[1][0] += 9
    draw_label_counts(*counts, names, tmp_path / "c.png")
    assert is_picture(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


@pytest.mark.slow
def test_one_label_alone_can_be_drawn_and_reported(tmp_path: Path) -> None:
    alone = evaluate_noise(tmp_path / "shards", num_labels=1)
    alone.write_plots(tmp_path / "plots")
    alone.write_report(tmp_path / "plots", tmp_path / "report.html")
    assert len(Page((tmp_path / "report.html").read_text()).rows) == 2


# the report and the line


def test_the_report_has_each_label_with_its_threshold(
    evaluation: Evaluated, plots: Path, tmp_path: Path
) -> None:
    evaluation.write_report(plots, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    header, *rows = page.rows
    assert header[:3] == ["label", "threshold", "precision"]
    shown = [*SHOWN_NAMES, "no label"]
    assert {row[0] for row in rows} == set(shown)
    for row in rows:
        assert row[1] == f"{THRESHOLDS[shown.index(row[0])]:.4f}"
        metrics = evaluation.metrics["per_class"][NAMES[shown.index(row[0])]]
        names = ("precision", "recall", "f1", "roc_auc", "average_precision")
        assert row[2:] == [*(f"{metrics[name]:.3f}" for name in names), f"{metrics['support']}"]
    for name in ("f1_macro", "exact_match", "hamming_loss"):
        assert f"<b>{evaluation.metrics[name]:.4f}</b>" in text
    assert "5 labels, any number of them per image" in text
    pictures = ["reliability.png", "labels.png", "precision_recall.png", "roc.png"]
    assert len(page.sources) == 6 + len(pictures)
    assert [row[0] for row in page.tables[1]] == ["true", *shown, "(no label)"]
    counts = evaluation.evaluation.label_counts
    cases = (counts.true_positives, counts.false_negatives, counts.false_positives)
    expected = [[str(number) for number in row] for row in torch.stack(cases, dim=1).tolist()]
    [found] = [table[1:] for table in page.tables if table[0][1:] == ["correct", "missed", "wrong"]]
    assert found == [[name, *row] for name, row in zip(shown, expected, strict=True)]
    assert text.count("<script") == 2


def test_the_last_line_of_the_stage_tells_of_exact_matches(evaluation: Evaluated) -> None:
    told = summary(evaluation.metrics)
    match = re.fullmatch(
        r"40 test images, macro F1 (\S+), macro precision (\S+), macro recall (\S+), exact match (\S+), "
        r"Hamming loss (\S+)",
        told,
    )
    assert match, told
    names = ("f1_macro", "precision_macro", "recall_macro", "exact_match", "hamming_loss")
    assert list(match.groups()) == [f"{evaluation.metrics[name]:.4f}" for name in names]


def test_the_hardest_images_come_first(evaluation: Evaluated, plots: Path) -> None:
    """The first picture has the pixels of the image whose true labels are the least probable."""
    p = evaluation.probabilities.numpy()
    true = evaluation.targets.numpy() == 1
    hardest = int(np.where(true, p, 1 - p).prod(axis=1).argmin())
    [image] = evaluation.shards.gather(np.array([hardest]))
    with Image.open(plots / "hardest.png") as picture:
        drawn = np.asarray(picture.convert("L"))
    left = drawn[:, : drawn.shape[1] // 6]
    levels = set(np.unique(image).tolist())
    assert len(levels & set(np.unique(left).tolist())) > 0.9 * len(levels)


# what the model says of itself


def test_only_a_model_of_several_labels_describes_thresholds() -> None:
    described = spec_of().preprocessing()
    assert described["multi_label"] is True
    assert described["thresholds"] == THRESHOLDS
    assert {"multi_label", "thresholds"}.isdisjoint(make_spec().preprocessing())


def test_the_card_has_a_threshold_a_label(evaluation: Evaluated, tmp_path: Path) -> None:
    counts = {split: dict.fromkeys(NAMES, 7) for split in ("train", "val", "test")}
    info = DatasetInfo(
        format_version=1,
        class_names=list(NAMES),
        target="several_labels",
        counts=counts,
        labels_per_image={split: [1, 5, 15] for split in counts},
        input_size=(8, 8),
        channels=1,
        resize="stretch",
        mean=[0.5],
        std=[0.25],
        digest="d1ge57",
    )
    metrics = metrics_file(evaluation.metrics)
    agreement = {"bytes": 1234, "labels_agreement": 0.975, "max_abs_difference_below": 1e-5}
    checked = {"model.onnx": {**metrics, **agreement}}
    write_model_card(evaluation.spec, info, metrics, [], checked, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# cnn for 5 labels\n")
    rows = rows_of(text)
    assert rows["label"] == ["train", "val", "test", "test F1", "threshold"]
    for name, threshold in zip(NAMES, THRESHOLDS, strict=True):
        row = rows[" ".join(name.split())]
        f1 = evaluation.metrics["per_class"][name]["f1"]
        assert row == ["7", "7", "7", f"{f1:.3f}", f"{threshold:.4f}"]
    scores = [f"{metrics[name]:.4f}" for name in ("f1_macro", "exact_match")]
    assert rows["model.onnx"] == ["1", *scores, "97.50%", "below 1e-05"]
    assert rows["exact match"] == [f"{evaluation.metrics['exact_match']:.4f}"]
    assert "accuracy" not in rows
    assert "sigmoid" in text
    assert "Every image gets one of these classes" not in text
    assert "\n\n\n" not in text[: text.index("## Training")]

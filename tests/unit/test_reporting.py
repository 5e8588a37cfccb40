"""Tables, figures, the report, the model card and the predictions that a run leaves behind."""

import base64
import csv
import html as markup
import io
import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import markupsafe
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from quick import quick_first
from sklearn import metrics as sk
from support import NO_WARNINGS, make_spec, output_of, start_python, write_shards
from torch import Tensor

from darkroom.bounded_json import load_json
from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shards import Shards
from darkroom.escape import for_line
from darkroom.evaluation.confusions import frequent_confusions, most_confused, shown_matrix
from darkroom.evaluation.evaluate import all_remarks, evaluate
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.explorer import explore
from darkroom.evaluation.figures import draw_confusion_matrix, draw_curves, draw_titled_images
from darkroom.evaluation.hardest import HardImage, hardest, hardest_images
from darkroom.evaluation.plots import write_plots
from darkroom.evaluation.report import write_report
from darkroom.evaluation.tables import write_predictions
from darkroom.export.model_card import write_model_card
from darkroom.inputs import INPUT_WORDS
from darkroom.metrics.classification import classification_metrics, metrics_file
from darkroom.metrics.curves import precision_recall_curves, roc_curves
from darkroom.metrics.remarks import on_validation, remarks_on
from darkroom.models.spec import ModelSpec
from darkroom.preparation.figures import (
    draw_class_histogram,
    draw_image_grid,
    draw_note,
    draw_pairs,
    draw_sizes,
)
from darkroom.reporting.figures import draw_history
from darkroom.reporting.scores import definition
from darkroom.reporting.tables import write_csv, write_json
from darkroom.targets import Target
from darkroom.tracking.ledger.restored import history_metrics
from darkroom.training.course import EpochResult
from darkroom.training.history import History

# matplotlib warns of letters that its font lacks
pytestmark = pytest.mark.filterwarnings("error:Glyph")

HOSTILE_NAMES = ("<b>&", 'the "x"', "</td><script>", "it's, a\tclass")
SHOWN_NAMES = tuple(for_line(name) for name in HOSTILE_NAMES)
"""As the report shows them."""

# tables


def test_json_is_sorted_readable_and_ends_with_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    values = {"b": [1, None, True], "a": {"ü": 0.1, "c": "日本"}}
    write_json(values, path)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == load_json(path) == values
    assert text.index('"a"') < text.index('"c"') < text.index('"ü"') < text.index('"b"')
    assert text.endswith("}\n")
    assert "日本" in text
    assert "\r" not in text


def test_json_of_equal_values_is_equal_bytes(tmp_path: Path) -> None:
    write_json({"a": 1, "b": {"c": 2, "d": 3}}, tmp_path / "a")
    write_json({"b": {"d": 3, "c": 2}, "a": 1}, tmp_path / "b")
    write_json({"b": {"d": 3, "c": 2}, "a": 1.0}, tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_no_number_and_leaves_the_file_as_it_was(
    value: float, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    write_json({"good": 1}, path)
    with pytest.raises(ValueError, match="JSON"):
        write_json({"nested": [{"deep": value}]}, path)
    assert load_json(path) == {"good": 1}


def test_csv_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    rows = [("a,b", 'the "x"'), ("two\nlines", "日本"), ("", " ")]
    write_csv(("one", "two"), iter(rows), path)
    content = path.read_bytes()
    assert content.startswith(b"one,two\n")
    assert content.endswith(b"\n")
    assert b"\r" not in content
    with path.open(encoding="utf-8", newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("one", "two"), *rows]


# figures

GRID = np.linspace(0, 1, 101)


def grey_images(count: int, change: int) -> list[np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    images[0, 0, 0] = 255 * change
    return list(images)


def history_of(change: int) -> dict[str, list[float]]:
    return {
        "epoch": [1, 2, 3],
        "train_loss": [1.0, 0.5, 0.25 + change / 10],
        "val_loss": [1.1, 0.7, 0.6],
        "val_accuracy": [0.3, 0.6, 0.7],
        "val_f1_macro": [0.2, 0.6, 0.5],
        "val_f1_standard_error": [0.1, 0.05 + change / 10, 0.1],
        "is_best": [True, True, False],
        "is_kept": [True, True, False],
    }


def curves_of(num_classes: int, change: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    curves = {f"class {index}": GRID ** (index + 1 + change) for index in range(num_classes)}
    return GRID, curves, np.mean(list(curves.values()), axis=0)


def confusion_of(num_classes: int, change: int) -> np.ndarray:
    counts = np.random.default_rng(1).integers(0, 30, (num_classes, num_classes))
    counts[0] = 0  # a class without images
    counts[1, 0] += 20 * change
    return counts


def shown_of(counts: np.ndarray) -> tuple[np.ndarray, list[str], list[str]]:
    matrix = shown_matrix(counts, class_names(len(counts)))
    return matrix.counts, matrix.row_names, matrix.column_names


def sizes_of(change: int) -> tuple[np.ndarray, np.ndarray]:
    """Widths and heights in pixels."""
    random = np.random.default_rng(2)
    return random.integers(20, 600, 300, dtype=np.int32), np.full(300, 40 + 60 * change, np.int32)


def class_names(num_classes: int) -> list[str]:
    return [f"class {index}" for index in range(num_classes)]


PICTURES: dict[str, tuple[Callable[..., None], Callable[[int], tuple]]] = {
    "histogram": (
        draw_class_histogram,
        lambda change: ({split: {"a": 10 + change, "b": 5, "c": 0} for split in ("train", "test")},),
    ),
    "grid": (
        draw_image_grid,
        lambda change: ([grey_images(5, change), grey_images(2, 0), []], ["a", "b", "nothing"]),
    ),
    "colour grid": (
        draw_image_grid,
        lambda change: ([[np.full((9, 12, 3), 100 + 50 * change, np.uint8)]], ["a"]),
    ),
    "sizes": (draw_sizes, lambda change: (*sizes_of(change), (32, 48))),
    "note": (draw_note, lambda change: (f"There are {change}",)),
    "pairs": (
        draw_pairs,
        lambda change: ([tuple(grey_images(2, change))], [("a.png", "b.png", "same pixels")]),
    ),
    "titled": (draw_titled_images, lambda change: (grey_images(8, change), class_names(8))),
    "history": (draw_history, lambda change: (history_of(change),)),
    "few classes": (
        draw_confusion_matrix,
        lambda change: (confusion_of(2, change), class_names(2), class_names(2)),
    ),
    "many classes": (draw_confusion_matrix, lambda change: shown_of(confusion_of(45, change))),
    "few curves": (draw_curves, lambda change: (*curves_of(3, change), ("recall", "precision"))),
    "many curves": (draw_curves, lambda change: (*curves_of(12, change), ("recall", "precision"))),
}
"""What draws a picture, and what it is given before the path: for a change of 0 or 1."""

HOSTILE_RC = """
figure.dpi: 30
figure.autolayout: True
savefig.dpi: 37
savefig.facecolor: red
savefig.bbox: tight
savefig.transparent: True
font.size: 40
font.family: monospace
text.usetex: True
axes.facecolor: green
axes.grid: True
image.cmap: hot
lines.linewidth: 9
"""
DRAW_ALL = """
import pickle
from pathlib import Path
import matplotlib

print(matplotlib.rcParams["font.size"], matplotlib.rcParams["text.usetex"])
for name, draw, given in pickle.loads(Path("pictures.pickle").read_bytes()):
    draw(*given, Path(f"{name}.png"))
"""


@pytest.fixture(scope="module")
def drawn_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pictures, drawn by a process in a folder with a hostile matplotlibrc."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "matplotlibrc").write_text(HOSTILE_RC)
    pictures = [(name, draw, give(0)) for name, (draw, give) in PICTURES.items()]
    (folder / "pictures.pickle").write_bytes(pickle.dumps(pictures))
    process = start_python(DRAW_ALL, cwd=folder, PYTHONHASHSEED="7", MPLBACKEND="svg")
    assert output_of(process) == "40.0 True\n"  # it has been read
    return folder


def is_picture(path: Path) -> bool:
    with Image.open(path) as image:
        colors = image.convert("RGB").getcolors(maxcolors=2**24)
        return (
            image.format == "PNG" and 100 < min(image.size) <= max(image.size) < 3000 and len(colors) > 2
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_same_bytes_again_and_under_a_hostile_matplotlibrc(
    name: str, drawn_elsewhere: Path, tmp_path: Path
) -> None:
    draw, give = PICTURES[name]
    for again in ("a.png", "new/folder/b.png"):
        draw(*give(0), tmp_path / again)
    draw(*give(1), tmp_path / "changed.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "new/folder/b.png").read_bytes()
    assert content == (drawn_elsewhere / f"{name}.png").read_bytes()
    assert content != (tmp_path / "changed.png").read_bytes()
    assert is_picture(tmp_path / "a.png")
    assert b"Software" not in content


ODD_NAMES = (
    "$",
    "$a_{$",
    "5$ or 10$",
    "\\frac",
    "日本",
    "_background_",
    "%",
    "x" * 200,
    "a\tb",
    "\n",
    "",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda path: draw_class_histogram({"train": dict.fromkeys(ODD_NAMES, 3)}, path),
        lambda path: draw_image_grid([grey_images(2, 0)] * len(ODD_NAMES), ODD_NAMES, path),
        lambda path: draw_titled_images(grey_images(len(ODD_NAMES), 0), ODD_NAMES, path),
        lambda path: draw_confusion_matrix(confusion_of(len(ODD_NAMES), 0), ODD_NAMES, ODD_NAMES, path),
        lambda path: draw_curves(
            GRID, dict.fromkeys(ODD_NAMES, GRID), GRID, ("recall", "precision"), path
        ),
    ],
    ids=["histogram", "grid", "titled", "confusion", "curves"],
)
def test_class_names_of_all_kinds_can_be_drawn(draw: Callable[[Path], None], tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    assert is_picture(tmp_path / "a.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("class a", "class b"),
        ("_class a", "_class b"),
        ("$a$", "$b$"),
        ("日", "本"),
        ("x" * 99 + "a", "x" * 99 + "b"),
    ],
)
def test_curves_are_told_apart_by_class_name(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        draw_curves(GRID, {name: GRID}, GRID, ("recall", "precision"), tmp_path / f"{name}.png")
    first, second = ((tmp_path / f"{name}.png").read_bytes() for name in names)
    assert first != second


COLOURED = {(255, 0, 0): (10, 10), (0, 255, 0): (10, 14), (0, 0, 255): (30, 10), (255, 0, 255): (1, 1)}
"""Height and width of an image of each colour."""


@pytest.mark.parametrize("kind", ["titled", "pairs"])
def test_images_side_by_side_keep_their_shape_and_are_not_covered(kind: str, tmp_path: Path) -> None:
    images = [np.full((*shape, 3), colour, np.uint8) for colour, shape in COLOURED.items()]
    path = tmp_path / "a.png"
    if kind == "titled":
        draw_titled_images(images, ["long title" * 2] * 4, path)
    else:
        captions = [("long/path" * 4, "b.png", "same pixels")] * 2
        draw_pairs(list(zip(images[::2], images[1::2], strict=True)), captions, path)
    with Image.open(path) as image:
        drawn = np.asarray(image.convert("RGB"))
    lefts = []
    for colour, (height, width) in COLOURED.items():
        rows, columns = np.nonzero((drawn == colour).all(axis=2))
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert max(tall, wide) > 100
        assert tall / wide == pytest.approx(height / width, rel=0.03)
        assert len(rows) == tall * wide  # neither text nor another image covers it
        lefts.append((columns.min() + columns.max()) / 2)
    assert lefts == sorted(lefts)


def test_no_images_to_show_is_an_empty_picture(tmp_path: Path) -> None:
    draw_titled_images([], [], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert min(image.size) > 100


# history


def epoch_result(epoch: int, f1: float, is_best: bool, is_kept: bool) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        lr=0.1 / epoch,
        train_loss=1 / epoch,
        grad_norm=None,
        val_loss=2 / epoch,
        val_accuracy=f1 / 2,
        val_f1_macro=f1,
        val_f1_standard_error=0.1,
        is_best=is_best,
        is_kept=is_kept,
    )


def history(*results: EpochResult) -> History:
    collected = History()
    for result in results:
        collected.add(result)
    return collected


EPOCHS = (
    epoch_result(1, 0.2, is_best=True, is_kept=True),
    epoch_result(2, 0.8, is_best=True, is_kept=True),
    epoch_result(3, 0.75, is_best=False, is_kept=True),
    epoch_result(4, 0.4, is_best=False, is_kept=False),
)


def test_history_is_a_row_an_epoch_without_durations(tmp_path: Path) -> None:
    for name, epochs in (("a", EPOCHS), ("b", EPOCHS), ("c", EPOCHS[:2])):
        history(*epochs).write_csv(tmp_path / name)
    with (tmp_path / "a").open() as file:
        rows = list(csv.DictReader(file))
    truth = {"True": 1, "False": 0}
    assert [{key: float(truth.get(cell, cell)) for key, cell in row.items()} for row in rows] == [
        {
            "epoch": result.epoch,
            "lr": result.lr,
            "train_loss": result.train_loss,
            "val_loss": result.val_loss,
            "val_accuracy": result.val_accuracy,
            "val_f1_macro": result.val_f1_macro,
            "val_f1_standard_error": result.val_f1_standard_error,
            "is_best": result.is_best,
            "is_kept": result.is_kept,
        }
        for result in EPOCHS
    ]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_history_tells_of_the_last_epoch_and_of_the_one_kept(tmp_path: Path) -> None:
    collected = history(*EPOCHS)
    assert (collected.course.kept, collected.course.best) == (EPOCHS[2], EPOCHS[1])
    metrics = collected.metrics()
    assert metrics["train/loss"] == EPOCHS[3].train_loss
    assert {name: metrics[name] for name in metrics if name.startswith("val/")} == {
        "val/loss": EPOCHS[3].val_loss,
        "val/accuracy": EPOCHS[3].val_accuracy,
        "val/f1_macro": 0.4,
        "val/f1_standard_error": 0.1,
        "val/kept_epoch": 3,
        "val/kept_f1_macro": 0.75,
        "val/kept_accuracy": EPOCHS[2].val_accuracy,
        "val/kept_loss": EPOCHS[2].val_loss,
        "val/best_f1_macro": 0.8,
    }
    assert history(*EPOCHS[:2]).metrics()["val/kept_epoch"] == 2  # as it was known then
    assert "epoch 4" in collected.last_line()
    early = collected.outcome()["kept"]["remarks"]
    assert collected.outcome(["the gradients vanish"])["kept"]["remarks"] == [
        *early,
        "the gradients vanish",
    ]
    collected.draw(tmp_path / "history.png")
    assert is_picture(tmp_path / "history.png")


def test_a_restored_run_has_the_metrics_of_a_live_one(tmp_path: Path) -> None:
    live = []
    collected = History(num_earlier=len(EPOCHS))  # without durations, which no file has
    for result in EPOCHS:
        norms = {"grad_norm": 0.1 * result.epoch, "grad_norm_first_layer": 0.01}
        collected.add(replace(result, **norms))
        live.append((result.epoch, collected.metrics()))
    collected.write_csv(tmp_path / "history.csv")
    written = (tmp_path / "history.csv").read_text()
    assert list(history_metrics(written)) == live
    assert [metrics["val/kept_epoch"] for _, metrics in live] == [1, 2, 3, 3]


def test_a_history_of_before_kept_its_best_epoch() -> None:
    older = "epoch,val_f1_macro,is_best\n1,0.5,True\n2,0.5,True\n3,0.25,False\n"
    assert [metrics["val/kept_epoch"] for _, metrics in history_metrics(older)] == [1, 2, 2]


# evaluation


@dataclass(frozen=True)
class Evaluated:
    """A model's evaluation with what the files about it need."""

    spec: ModelSpec
    shards: Shards
    evaluation: Evaluation

    @cached_property
    def hardest(self) -> list[HardImage]:
        return hardest_images(self.evaluation, self.shards)

    def write_predictions(self, path: Path) -> None:
        write_predictions(self.evaluation, self.shards.paths, path)

    def write_plots(self, folder: Path) -> None:
        write_plots(self.evaluation, self.hardest, self.spec.training.get("history"), folder)

    def write_report(self, plots: Path, path: Path) -> None:
        explorer = explore(self.evaluation, self.shards)
        remarks = all_remarks(metrics_file(self.evaluation.metrics), self.spec.training)
        write_report(self.evaluation, self.hardest, explorer, self.spec, remarks, plots, path)

    @property
    def metrics(self) -> dict[str, Any]:
        return self.evaluation.metrics

    @property
    def probabilities(self) -> Tensor:
        return self.evaluation.probabilities

    @property
    def targets(self) -> Tensor:
        return self.evaluation.targets

    def with_metrics(self, metrics: dict[str, Any]) -> "Evaluated":
        return replace(self, evaluation=replace(self.evaluation, metrics=metrics))


def evaluated(spec: ModelSpec, shards: Shards, targets: Tensor, logits: Tensor) -> Evaluated:
    return Evaluated(spec, shards, evaluate(spec, targets, logits, shards.paths))


def evaluate_noise(folder: Path, seed: int = 0, skill: float = 1.0) -> Evaluated:
    """An evaluation on 40 grey images of four classes with awkward names."""
    random = np.random.default_rng(seed)
    targets = np.arange(40) % 4
    logits = random.normal(0, 1, (40, 4))
    logits[np.arange(40), targets] += skill
    images = random.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    shards = Shards(write_shards(folder, images, targets))
    spec = make_spec(class_names=HOSTILE_NAMES, training=history(*EPOCHS).outcome())
    return evaluated(spec, shards, torch.from_numpy(targets), torch.from_numpy(logits))


def write_blank_pictures(folder: Path) -> None:
    """For tests of the report's text: drawing takes most of the time of a report."""
    folder.mkdir(exist_ok=True)
    for name in ("precision_recall", "roc", "reliability", "risk_coverage", "labels", "training"):
        Image.new("L", (1, 1)).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate_noise(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def plots(evaluation: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots")
    evaluation.write_plots(folder)
    return folder


def test_predictions_have_a_row_an_image_that_agrees_with_the_probabilities(
    evaluation: Evaluated, tmp_path: Path
) -> None:
    evaluation.write_predictions(tmp_path / "new" / "predictions.parquet")
    rows = pq.read_table(tmp_path / "new" / "predictions.parquet").to_pylist()
    assert [row["path"] for row in rows] == [f"{index % 4}/{index:04d}.png" for index in range(40)]
    expected = evaluation.probabilities.numpy()
    for index, row in enumerate(rows):
        assert row["probabilities"] == pytest.approx(expected[index], abs=1e-7)
        assert row["label"] == HOSTILE_NAMES[index % 4]
        assert row["pred"] == HOSTILE_NAMES[int(np.argmax(row["probabilities"]))]
        assert row["probability"] == max(row["probabilities"])
        assert row["correct"] is (row["label"] == row["pred"])
    assert len({row["correct"] for row in rows}) == 2
    accuracy = sum(row["correct"] for row in rows) / len(rows)
    assert evaluation.metrics["accuracy"] == pytest.approx(accuracy)


def test_predictions_are_equal_bytes_again_and_others_for_another_outcome(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        evaluate_noise(tmp_path / f"shards {name}", seed).write_predictions(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_plots_are_tables_with_a_picture_each(plots: Path) -> None:
    for table in {*plots.glob("*.csv")} - {plots / "classes.csv", plots / "confusion_matrix.csv"}:
        assert table.with_suffix(".png").is_file()
    pictures = list(plots.glob("*.png"))
    assert len(pictures) >= 4
    assert all(is_picture(picture) for picture in pictures)


def test_the_table_of_confusions_has_a_row_an_image(evaluation: Evaluated, plots: Path) -> None:
    with (plots / "confusion.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    preds = evaluation.probabilities.argmax(dim=1).tolist()
    pairs = zip(evaluation.targets.tolist(), preds, strict=True)
    assert rows == [(HOSTILE_NAMES[target], HOSTILE_NAMES[pred]) for target, pred in pairs]


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_of_classes_has_their_scores(evaluation: Evaluated, plots: Path) -> None:
    rows = {row.pop("class"): row for row in table_of(plots / "classes.csv")}
    assert list(rows) == list(HOSTILE_NAMES)
    for name, row in rows.items():
        expected = evaluation.metrics["per_class"][name]
        assert {column: float(cell) for column, cell in row.items()} == pytest.approx(expected)


def test_the_whole_matrix_is_a_table(evaluation: Evaluated, plots: Path) -> None:
    preds = evaluation.probabilities.argmax(dim=1).tolist()
    expected = sk.confusion_matrix(evaluation.targets.tolist(), preds, labels=range(4))
    rows = table_of(plots / "confusion_matrix.csv")
    assert [row.pop("actual \\ predicted") for row in rows] == list(HOSTILE_NAMES)
    assert all(list(row) == list(HOSTILE_NAMES) for row in rows)
    assert [[int(cell) for cell in row.values()] for row in rows] == expected.tolist()


@pytest.mark.parametrize(
    ("file", "across", "upward", "function"),
    [
        ("precision_recall.csv", "recall", "precision", precision_recall_curves),
        ("roc.csv", "false_positive_rate", "true_positive_rate", roc_curves),
    ],
)
def test_the_tables_of_curves_hold_the_curves(
    file: str, across: str, upward: str, function: Callable, evaluation: Evaluated, plots: Path
) -> None:
    with (plots / file).open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    indicators = evaluation.targets[:, None] == torch.arange(len(HOSTILE_NAMES))
    curves = function(indicators, evaluation.probabilities, list(HOSTILE_NAMES))
    columns = {across: curves.grid, upward: curves.macro} | {
        f"{upward} {name}": values for name, values in curves.values.items()
    }
    assert list(rows[0]) == list(columns)
    for name, values in columns.items():
        assert [float(row[name]) for row in rows] == values.tolist()


@pytest.mark.slow
def test_plots_are_equal_bytes_again_and_others_for_another_outcome(plots: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("another", 1)):
        evaluate_noise(tmp_path / f"shards {name}", seed).write_plots(tmp_path / name)
    for file in plots.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name
        if file.name != "training.png":  # of the same training
            assert file.read_bytes() != (tmp_path / "another" / file.name).read_bytes(), file.name


@pytest.mark.slow
def test_a_faultless_outcome_can_be_drawn_and_reported(tmp_path: Path) -> None:
    faultless = evaluate_noise(tmp_path / "shards", skill=50)
    assert faultless.metrics["accuracy"] == 1
    faultless.write_plots(tmp_path / "plots")
    faultless.write_report(tmp_path / "plots", tmp_path / "report.html")
    assert "1.0000" in (tmp_path / "report.html").read_text()


# which confusions and images are shown


def test_a_matrix_of_many_classes_shows_those_that_are_confused_most() -> None:
    counts = 10 * np.eye(60, dtype=np.int64)
    counts[50, 3], counts[3, 50], counts[7, 8] = 9, 5, 4
    counts[50, 59] = 1
    assert most_confused(counts, 5) == [3, 7, 8, 50, 59]
    assert most_confused(counts, 3) == [0, 3, 50]  # both of a pair, or neither
    matrix = shown_matrix(counts, class_names(60))
    assert not matrix.is_whole
    assert len(matrix.row_names) == 25
    assert matrix.column_names == [*matrix.row_names, "other classes"]
    assert matrix.counts.sum(axis=1).tolist() == [
        int(counts[int(n.split()[1])].sum()) for n in matrix.row_names
    ]
    row = matrix.row_names.index("class 50")
    assert matrix.counts[row, matrix.column_names.index("class 3")] == 9
    assert matrix.shares[row, row] == 10 / 20


def test_a_matrix_of_up_to_forty_classes_is_whole() -> None:
    for num_classes in (1, 2, 40):
        counts = confusion_of(num_classes, 0) if num_classes > 1 else np.array([[3]])
        matrix = shown_matrix(counts, class_names(num_classes))
        assert matrix.is_whole
        assert matrix.counts.tolist() == counts.tolist()
        assert matrix.row_names == matrix.column_names == class_names(num_classes)


def test_the_most_frequent_confusions_come_first_and_are_thirty_at_most() -> None:
    counts = np.array([[8, 1, 1], [0, 9, 0], [4, 2, 4]])
    found = frequent_confusions(counts, ["a", "b", "c"])
    told = [(each.true, each.predicted, each.count, each.share) for each in found]
    assert told == [("c", "a", 4, 0.4), ("c", "b", 2, 0.2), ("a", "b", 1, 0.1), ("a", "c", 1, 0.1)]
    assert len(frequent_confusions(np.ones((20, 20), np.int64), class_names(20))) == 30
    assert frequent_confusions(np.eye(2, dtype=np.int64), ["a", "b"]) == []


@pytest.mark.parametrize(("num_classes", "most"), [(1, 30), (2, 15), (10, 3), (43, 3), (200, 3)])
def test_the_hardest_images_are_spread_over_the_classes(num_classes: int, most: int) -> None:
    """All images of class 0 are harder than any other."""
    groups = np.arange(600) % num_classes
    probabilities = torch.from_numpy(np.where(groups == 0, 0.1, 0.5) + np.arange(600) / 1e4)
    chosen = hardest(probabilities, groups)
    assert len(chosen) == len(set(chosen)) == 30
    assert np.bincount(groups[chosen]).max() == (groups[chosen] == 0).sum() == most
    assert probabilities[chosen].tolist() == sorted(probabilities[chosen].tolist())
    assert chosen[0] == 0


def test_few_images_are_all_shown() -> None:
    assert hardest(torch.tensor([0.5, 0.25]), np.array([0, 0])) == [1, 0]


def test_the_report_names_the_files_of_the_hardest_images(html: str, evaluation: Evaluated) -> None:
    paths = [image.path for image in evaluation.hardest]
    assert len(paths) == 30
    assert all(f'<span dir="auto">{path}</span>' in html for path in paths)
    expected = evaluation.probabilities.gather(1, evaluation.targets[:, None])[:, 0].argmin()
    assert paths[0] == evaluation.shards.paths[int(expected)]


@pytest.mark.slow
@NO_WARNINGS
def test_no_warning_is_given_where_there_are_many_curves(tmp_path: Path) -> None:
    draw_curves(*curves_of(1_000, 0), ("recall", "precision"), tmp_path / "a.png")
    assert is_picture(tmp_path / "a.png")


@pytest.mark.slow
@NO_WARNINGS
def test_a_thousand_classes_are_all_in_the_table_and_no_picture_is_larger(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    targets = np.arange(1_000).repeat(2)
    logits = random.normal(0, 1, (2_000, 1_000))
    logits[np.arange(2_000), targets] += 3
    images = random.integers(0, 256, (2_000, 8, 8, 1), dtype=np.uint8)
    shards = Shards(write_shards(tmp_path / "shards", images, targets))
    names = tuple(f"class {index} {'x' * (index % 60)}" for index in range(1_000))
    large = evaluated(
        make_spec(class_names=names), shards, torch.from_numpy(targets), torch.from_numpy(logits)
    )
    large.write_plots(tmp_path / "plots")
    large.write_report(tmp_path / "plots", tmp_path / "report.html")
    assert all(is_picture(picture) for picture in (tmp_path / "plots").glob("*.png"))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    classes, matrix, confusions = page.tables[:3]
    assert {row[0] for row in classes[1:]} == set(names)
    assert [len(row) for row in matrix] == [27] * 26
    assert len(confusions) == 31
    assert len({image.truth for image in large.hardest}) >= 10


# the report


class Page(HTMLParser):
    """What a browser would see: attributes that load something, tags, cells of the table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        loading = ("src", "href", "srcset", "data", "action", "poster", "background")
        self.sources += [value or "" for name, value in attrs if name in loading]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag != "span":  # which is inside a cell
            self._in_cell = tag in ("td", "th")
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.tables[-1][-1][-1] += data

    @property
    def rows(self) -> list[list[str]]:
        """Of the table of classes."""
        return self.tables[0]


@pytest.fixture(scope="module")
def html(evaluation: Evaluated, plots: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    evaluation.write_report(plots, path)
    return path.read_text(encoding="utf-8")


EXTERNAL = re.compile(r"https?:|ftp:|//|url\(|@import", re.IGNORECASE)


def without_pictures(html: str) -> str:
    html = re.sub(r'"pictures":\[[^]]*\]', "", html)
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)


def test_the_report_needs_nothing_from_outside(html: str) -> None:
    page = Page(html)
    assert len(page.sources) >= 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert EXTERNAL.findall(without_pictures(html)) == []
    assert html.count("<script") == html.count("</script>") == 2  # JSON, and the page's own script
    assert "default-src 'none'" in html
    assert page.tags.isdisjoint({"link", "iframe", "object", "embed", "base"})
    # the search finds what it is for
    assert EXTERNAL.findall(without_pictures('<img src="https://example.org/a.png">')) != []


def test_the_pictures_in_the_report_are_curves_of_the_plots_and_the_hardest_images(
    html: str, plots: Path, evaluation: Evaluated
) -> None:
    inside = [base64.b64decode(source.partition(",")[2]) for source in Page(html).sources]
    curves = ("precision_recall.png", "roc.png", "training.png")
    assert inside[-3:] == [(plots / name).read_bytes() for name in curves]
    assert inside[0] == (plots / "reliability.png").read_bytes()
    decoded = []
    for content in inside[1:-3]:
        with Image.open(io.BytesIO(content)) as picture:
            decoded.append(np.asarray(picture)[..., None].tolist())
    assert decoded == [image.pixels.tolist() for image in evaluation.hardest]


def test_the_report_shows_the_course_of_the_training(
    evaluation: Evaluated, html: str, plots: Path, tmp_path: Path
) -> None:
    history(*EPOCHS).draw(tmp_path / "history.png")  # train's own picture
    assert (plots / "training.png").read_bytes() == (tmp_path / "history.png").read_bytes()
    assert (
        html_escape(
            "Kept epoch 3 of 4: validation macro F1 0.7500, within one standard error (0.100) of the "
            "best, epoch 2's 0.8000"
        )
        in html
    )
    assert "last third" not in html
    early = history(*EPOCHS, epoch_result(5, 0.1, is_best=False, is_kept=False))
    training = json.loads(json.dumps(early.outcome()))  # as a model file has it
    assert training["history"]["val_loss"] == [2.0, 1.0, 0.666667, 0.5, 0.4]
    replace(evaluation, spec=make_spec(class_names=HOSTILE_NAMES, training=training)).write_report(
        plots, tmp_path / "early.html"
    )
    assert "The kept epoch 3 of 5 is not among the last third: " in (tmp_path / "early.html").read_text()


@pytest.mark.slow
def test_a_model_file_of_before_has_no_course_to_show(evaluation: Evaluated, tmp_path: Path) -> None:
    older = replace(evaluation, spec=make_spec(class_names=HOSTILE_NAMES))
    older.write_plots(tmp_path)
    older.write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "training.png").exists()
    assert "Kept epoch" not in (tmp_path / "report.html").read_text()


def test_the_report_shows_class_names_as_they_are_and_never_as_markup(html: str) -> None:
    page = Page(html)
    _, *rows = page.rows
    assert {row[0] for row in rows} == set(SHOWN_NAMES)
    _, matrix, confusions = page.tables[:3]
    assert [row[0] for row in matrix] == ["true", *SHOWN_NAMES]
    assert matrix[0] == ["true", *SHOWN_NAMES]
    assert {name for row in confusions[1:] for name in row[:2]} <= set(SHOWN_NAMES)
    assert "&lt;b&gt;&amp;" in html
    for name in ("<b>&", "</td><script>"):
        assert name not in html


def test_terminal_escapes_and_changes_of_direction_are_visible_in_the_report(tmp_path: Path) -> None:
    names = ("\x1b[31mred", "a\nb", "\u202eabc", "日本語")
    images = np.zeros((8, 8, 8, 1), np.uint8)
    targets = torch.arange(8) % 4
    shards = Shards(write_shards(tmp_path / "shards", images, targets.numpy()))
    logits = torch.eye(4)[(targets + (torch.arange(8) > 5)) % 4]
    evaluation = evaluated(make_spec(class_names=names), shards, targets, logits)
    write_blank_pictures(tmp_path / "plots")
    evaluation.write_report(tmp_path / "plots", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not {"\x1b", "\u202e"} & set(text)
    for table in Page(text).tables[:2]:
        assert {row[0] for row in table[1:]} == {r"\x1b[31mred", r"a\nb", r"\u202eabc", "日本語"}


def test_the_report_has_the_metrics_of_each_class(html: str, evaluation: Evaluated) -> None:
    header, *rows = Page(html).rows
    columns = [title.lower().replace(" ", "_") for title in header]
    assert columns[0] == "class"
    f1 = [float(row[3]) for row in rows]
    assert f1 == sorted(f1)
    for row in rows:
        expected = evaluation.metrics["per_class"][HOSTILE_NAMES[SHOWN_NAMES.index(row[0])]]
        cells = dict(zip(columns[1:], row[1:], strict=True))
        assert int(cells.pop("images")) == expected["support"]
        assert cells == {name: f"{expected[name]:.3f}" for name in cells}
        assert set(cells) == {"precision", "recall", "f1", "roc_auc", "average_precision"}
    for name in ("f1_macro", "precision_macro", "recall_macro", "accuracy"):
        assert f"{evaluation.metrics[name]:.4f}" in html


def test_the_report_is_equal_bytes_again_and_other_for_other_metrics(
    html: str, evaluation: Evaluated, plots: Path, tmp_path: Path
) -> None:
    evaluation.write_report(plots, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == html
    changed = {**evaluation.metrics, "accuracy": 0.1234}
    evaluation.with_metrics(changed).write_report(plots, tmp_path / "b.html")
    assert "0.1234" in (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "0.1234" not in html


def test_a_metric_that_is_not_defined_is_blank(
    evaluation: Evaluated, plots: Path, tmp_path: Path
) -> None:
    row = {**evaluation.metrics["per_class"]["<b>&"], "roc_auc": None}
    changed = evaluation.with_metrics({**evaluation.metrics, "per_class": {"<b>&": row}})
    replace(changed, spec=replace(changed.spec, name="<i>t</i>")).write_report(
        plots, tmp_path / "a.html"
    )
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.rows[1][4] == ""
    assert "i" not in page.tags


def unmeasured(folder: Path, target: Target = "one_class") -> Evaluated:
    """Forty images of the first two of four classes, one of which is taken for the third."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    targets = torch.arange(40) % 2
    logits = 9.0 * torch.eye(4)[targets] - 4.5
    logits[0] = torch.tensor([-9.0, -9.0, 9.0, -9.0])
    shards = Shards(write_shards(folder, images, targets.numpy()))
    has_several = target == "several_labels"
    thresholds = (0.5,) * 4 if has_several else None
    spec = make_spec(class_names=HOSTILE_NAMES, target=target, thresholds=thresholds)
    given = torch.eye(4)[targets] if has_several else targets
    return evaluated(spec, shards, given, logits)


@pytest.mark.parametrize("target", quick_first(["one_class"], ["one_class", "several_labels"]))
@NO_WARNINGS
def test_classes_without_test_images_are_named_and_their_cells_are_blank(
    target: Target, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    partly = unmeasured(tmp_path / "shards", target)
    partly.write_plots(tmp_path / "plots")
    partly.write_report(tmp_path / "plots", tmp_path / "report.html")
    assert capfd.readouterr() == ("", "")  # no library says anything
    assert partly.metrics["f1_macro"] == pytest.approx((2 * 19 / 39 + 1) / 2, abs=1e-6)

    [remark] = [line for line in remarks_on(metrics_file(partly.metrics)) if "not measured" in line]
    assert ": </td><script>, " in remark
    assert '"it\'s, a\\tclass"' in remark
    assert "<b>&" not in remark
    assert "wrong predictions of them: 1" in remark
    assert "average" in remark

    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert html_escape(remark) in text
    assert html_escape(definition(partly.metrics)) in text
    rows = {row[0]: row[1 + (target == "several_labels") :] for row in page.rows[1:5]}
    for name, images in zip(SHOWN_NAMES, (20, 20, 0, 0), strict=True):
        assert rows[name][-1] == f"{images}"
        assert [bool(cell) for cell in rows[name][:3]] == [images > 0] * 3
    written = json.loads(json.dumps(metrics_file(partly.metrics), allow_nan=False))
    assert [row["f1"] is None for row in written["per_class"]] == [False, False, True, True]


def test_where_every_class_has_images_nothing_is_said_of_blanks(evaluation: Evaluated) -> None:
    assert not [line for line in remarks_on(metrics_file(evaluation.metrics)) if "not measured" in line]


def test_training_names_the_classes_without_validation_images() -> None:
    assert on_validation({"a": 1, "b": 2}, INPUT_WORDS["image"]) == []
    for kind, words in INPUT_WORDS.items():
        assert on_validation({"a": 0, "b": 2, "c\x1b": 0}, words) == [
            f"classes without validation {kind}s: a, 'c\\x1b'; the validation macro F1 excludes them"
        ]


def test_a_class_that_is_never_predicted_is_named() -> None:
    targets = torch.arange(30) % 3
    logits = torch.eye(3)[targets].double()
    logits[:, 2] = -1
    measured = metrics_file(classification_metrics(targets, logits.softmax(dim=1), ["a", "b", "c"]))
    assert remarks_on(measured) == ["Classes that are never predicted, so that their precision is 0: c."]


# the model card


def html_escape(text: str) -> str:
    return str(markupsafe.escape(text))


def card(folder: Path, names: tuple[str, ...] = HOSTILE_NAMES, **training: Any) -> str:
    counts = {
        split: {name: count + index for index, name in enumerate(names)}
        for split, count in (("train", 100), ("val", 20), ("test", 30))
    }
    info = DatasetInfo(
        format_version=1,
        class_names=list(names),
        target="one_class",
        counts=counts,
        labels_per_image={split: [0, sum(of_split.values())] for split, of_split in counts.items()},
        input_size=(8, 9),
        channels=1,
        resize="pad",
        mean=[0.5],
        std=[0.25],
        digest="d1ge57" * 8,
    )
    spec = make_spec(
        class_names=names,
        input_size=(8, 9),
        resize="pad",
        training={"seed": 17, "model.name": "cnn", "train.clip_norm": None, **training},
        environment={"device": "cpu", "torch": "9.8.7"},
    )
    targets = torch.arange(4 * len(names)) % len(names)
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (len(targets), len(names))))
    metrics = metrics_file(classification_metrics(targets, logits.softmax(dim=1), list(names)))
    path = folder / "export" / "README.md"
    write_model_card(spec, info, metrics, [("model.onnx", "for ONNX Runtime")], checked(metrics), path)
    text = path.read_text(encoding="utf-8")
    for name in ("f1_macro", "precision_macro", "recall_macro", "accuracy"):
        assert f"{metrics[name]:.4f}" in text, name
    for row in metrics["per_class"]:
        assert f"{row['f1']:.3f}" in text
    return text


def checked(metrics: dict) -> dict[str, dict]:
    """Returns what parity.json says of one file with these scores."""
    agreement = {"bytes": 1_234_567, "argmax_agreement": 1.0, "max_abs_difference_below": 1e-5}
    return {"model.onnx": {**metrics, **agreement}}


def rows_of(text: str) -> dict[str, list[str]]:
    """The tables' rows by their first cell, as Markdown splits and shows them."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    cells = [[markup.unescape(re.sub(r"\\(.)", r"\1", cell.strip())) for cell in row] for row in split]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_model_card_tells_of_data_metrics_training_and_environment(tmp_path: Path) -> None:
    text = card(tmp_path)
    rows = rows_of(text)
    for index, name in enumerate(HOSTILE_NAMES[:3]):
        assert rows[name][:3] == [str(count + index) for count in (100, 20, 30)]
    assert rows["class"] == ["train", "val", "test", "test F1"]
    assert rows["seed"] == ["17"]
    assert rows["train.clip_norm"] == ["null"]
    assert rows["torch"] == ["9.8.7"]
    assert rows["device"] == ["cpu"]
    assert "| `model.onnx` | for ONNX Runtime |" in text
    assert rows["model.onnx"][0] == "1,235"
    assert rows["model.onnx"][3:] == ["100.00%", "below 1e-05"]
    assert "model.safetensors" in rows
    assert "d1ge57" * 8 in text
    assert "darkroom predict export/" in text
    assert "1 x 8 x 9" in text
    assert "black" in text  # how `pad` fills up
    assert "Intended use" in text


def test_the_model_card_tells_which_epoch_was_kept_and_lists_no_curves(tmp_path: Path) -> None:
    late = card(tmp_path, **history(*EPOCHS).outcome())
    assert "Weights: kept epoch 3 of 4: validation macro F1 0.7500, within one standard" in late
    assert "Note: " not in late
    assert "seed" in rows_of(late)
    assert {"kept", "best", "history", "num_epochs"}.isdisjoint(rows_of(late))
    epochs = (*EPOCHS, epoch_result(5, 0.1, is_best=False, is_kept=False))
    assert "Note: the kept epoch 3 of 5 is not" in card(tmp_path, **history(*epochs).outcome())
    assert "kept epoch" not in card(tmp_path)


def test_the_model_card_is_equal_bytes_again_and_other_for_other_params(tmp_path: Path) -> None:
    first = card(tmp_path)
    assert card(tmp_path / "elsewhere") == first
    assert card(tmp_path, seed=18) != first
    assert str(tmp_path) not in first


def test_the_model_card_leaves_blank_what_is_not_measured_and_shows_the_baselines(
    tmp_path: Path,
) -> None:
    partly = unmeasured(tmp_path / "shards")
    beside = {
        "logistic_regression": {"f1_macro": 0.9, "accuracy": 0.9, "features": "pixels"},
        "most_frequent": {"f1_macro": 0.25, "accuracy": 0.5},
    }
    metrics = {**metrics_file(partly.metrics), "baseline": beside, "precision_macro": None}
    counts = {split: dict.fromkeys(HOSTILE_NAMES, 7) for split in ("train", "val", "test")}
    info = DatasetInfo(
        format_version=1,
        class_names=list(HOSTILE_NAMES),
        target="one_class",
        counts=counts,
        labels_per_image={split: [0, 28] for split in counts},
        input_size=(8, 8),
        channels=1,
        resize="stretch",
        mean=[0.5],
        std=[0.25],
        digest="d1ge57",
    )
    write_model_card(partly.spec, info, metrics, [], checked(metrics), tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    rows = rows_of(text)
    assert rows["baseline: macro F1 of logistic regression"] == ["0.9000"]
    assert rows["baseline: macro F1 of most frequent class"] == ["0.2500"]
    assert rows["macro precision"] == ["–"]  # noqa: RUF001
    assert [rows[" ".join(name.split())][3] != "" for name in HOSTILE_NAMES] == [
        True,
        True,
        False,
        False,
    ]
    assert definition(metrics) in text
    assert "Classes without test images" in text


def test_the_model_card_has_a_row_of_five_cells_for_every_class(tmp_path: Path) -> None:
    names = ("plain", "this|that", "tab\there")
    rows = rows_of(card(tmp_path, names))
    assert {name: len(rows.get(" ".join(name.split()), [])) for name in names} == dict.fromkeys(names, 4)

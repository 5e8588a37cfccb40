"""The baselines beside a model's scores, against scikit-learn called on its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import NO_WARNINGS, make_spec, output_of, start_python, write_shards
from torch import Tensor

from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.evaluation.baseline import (
    Baseline,
    fit_baseline,
    most_frequent,
    stratified_sample,
)
from darkroom.evaluation.features import BackboneFeatures, GreyPixels, make_extractor
from darkroom.evaluation.regression import STRENGTHS
from darkroom.evaluation.targets import one_class, several_labels
from darkroom.features.store import Store
from darkroom.metrics.multi_label import best_thresholds
from darkroom.metrics.remarks import remarks_on
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier

# no warning of a library reaches the terminal
pytestmark = NO_WARNINGS

CPU = torch.device("cpu")
NAMES = ("a", "b", "c")
NUM_TEST = 150


def blurred(seed: int, num_images: int, num_classes: int = 3) -> tuple[NDArray[np.uint8], NDArray]:
    """Noise around a pattern per class: uint8 ``(n, 8, 8, 1)`` and int64 ``(n,)``."""
    patterns = np.random.default_rng(9).uniform(90, 160, (num_classes, 8, 8, 1))
    random = np.random.default_rng(seed)
    labels = random.choice(num_classes, num_images, p=[0.5, 0.3, 0.2][:num_classes])
    images = patterns[labels] + random.normal(0, 60, (num_images, 8, 8, 1))
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def classifier(**changes: Any) -> Classifier:
    torch.manual_seed(0)
    return make_classifier(make_spec(class_names=NAMES, **changes)).eval()


def chw(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


Splits = dict[str, tuple[NDArray[np.uint8], NDArray]]


def splits() -> Splits:
    sizes = {"train": 200, "val": 80, "test": NUM_TEST}
    return {name: blurred(seed, size) for seed, (name, size) in enumerate(sizes.items())}


def fit(folder: Path, of_splits: Splits, features: Any, num_classes: int = 3) -> Baseline:
    train, val = (Shards(write_shards(folder / split, *of_splits[split])) for split in ("train", "val"))
    return fit_baseline(one_class, features, train, val, num_classes, CPU)


def measured(baseline: Baseline, model: Classifier, of_splits: Splits, batch: int = 64) -> dict:
    """Runs the model over the test images in batches, as the stage does."""
    images, labels = of_splits["test"]
    with baseline.watching(), torch.inference_mode():
        for part in chw(images).split(batch):
            model(part)
    return baseline.scores(torch.from_numpy(labels))


def by_scikit_learn(steps: Any, vectors: dict[str, NDArray], labels: dict[str, NDArray]) -> dict:
    """The strength with the best validation macro F1, of equals the least log loss, by cold fits."""
    fitted = []
    for strength in STRENGTHS:
        model = make_pipeline(*steps(), LogisticRegression(C=strength, max_iter=1_000))
        model.fit(vectors["train"], labels["train"])
        f1 = f1_score(labels["val"], model.predict(vectors["val"]), average="macro")
        loss = log_loss(labels["val"], model.predict_proba(vectors["val"]))
        fitted.append((f1, -loss, strength, model))
    *_, strength, model = max(fitted, key=lambda each: each[:2])
    preds = model.predict(vectors["test"])
    return {
        "accuracy": pytest.approx(accuracy_score(labels["test"], preds), abs=1e-6),
        "f1_macro": pytest.approx(f1_score(labels["test"], preds, average="macro"), abs=1e-6),
        "inverse_regularisation": strength,
        "train_images": len(labels["train"]),
    }


def test_on_pixels_it_is_scikit_learns_regression(tmp_path: Path) -> None:
    model, of_splits = classifier(), splits()
    baseline = fit(tmp_path, of_splits, GreyPixels(model))
    scores = measured(baseline, model, of_splits)
    vectors = {name: images.reshape(len(images), -1) / 255 for name, (images, _) in of_splits.items()}
    labels = {name: labels for name, (_, labels) in of_splits.items()}
    expected = by_scikit_learn(lambda: (PCA(64), StandardScaler()), vectors, labels)
    assert scores["logistic_regression"] == {**expected, "features": "pixels"}
    assert 0.4 < scores["logistic_regression"]["accuracy"] < 1

    counts = np.bincount(labels["train"])
    constant = np.full(NUM_TEST, counts.argmax())
    assert scores["most_frequent"] == {
        "accuracy": pytest.approx(accuracy_score(labels["test"], constant), abs=1e-6),
        "f1_macro": pytest.approx(f1_score(labels["test"], constant, average="macro"), abs=1e-6),
    }

    # other labels give other scores
    of_splits["train"] = (of_splits["train"][0], (labels["train"] + 1) % 3)
    swapped = measured(fit(tmp_path / "swapped", of_splits, GreyPixels(model)), model, of_splits)
    assert swapped["logistic_regression"]["accuracy"] < 0.4
    assert swapped["most_frequent"] != scores["most_frequent"]


def test_on_a_frozen_backbone_it_is_scikit_learns_regression(tmp_path: Path) -> None:
    model, of_splits = classifier(width=8), splits()
    vectors, labels = {}, {}
    for name, (images, of_images) in of_splits.items():
        with torch.no_grad():
            x = (chw(images).float() / 255 - model.mean) / model.std
            vectors[name] = model.network.backbone(x).mean(dim=(2, 3)).double().numpy()
        labels[name] = of_images
    scores = measured(fit(tmp_path, of_splits, BackboneFeatures(model)), model, of_splits)
    expected = by_scikit_learn(lambda: (StandardScaler(),), vectors, labels)
    assert scores["logistic_regression"] == {**expected, "features": "backbone"}
    spec = make_spec(
        class_names=NAMES, width=8, training={"train.freeze": "backbone", "train.epochs": 1}
    )
    for _ in ("computed", "from the cache"):
        cached = make_extractor(model, spec, Store(tmp_path / "features", 2**20))
        again = measured(fit(tmp_path / "again", of_splits, cached), model, of_splits)
        assert again == scores
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_the_size_of_the_batches_changes_no_score(tmp_path: Path) -> None:
    model, of_splits = classifier(), splits()
    baseline = fit(tmp_path, of_splits, GreyPixels(model))
    assert measured(baseline, model, of_splits, 7) == measured(baseline, model, of_splits, NUM_TEST)


def test_no_hook_stays_on_the_model(tmp_path: Path) -> None:
    model, of_splits = classifier(), splits()
    for features in (GreyPixels(model), BackboneFeatures(model)):
        baseline = fit(tmp_path / features.name, of_splits, features)
        measured(baseline, model, of_splits)
    assert not [module for module in model.modules() if module._forward_pre_hooks]


def test_colour_becomes_grey_and_large_pictures_small() -> None:
    model = classifier(channels=3)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), dtype=np.uint8)
    grey = images @ np.array([0.299, 0.587, 0.114]) / 255
    expected = grey.reshape(2, 16, 4, 16, 2).mean(axis=(2, 4)).reshape(2, -1)
    np.testing.assert_allclose(GreyPixels(model).extract(chw(images)).numpy(), expected, atol=1e-6)


# which features


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "pixels"),
        ({"train.freeze": "none"}, "pixels"),
        ({"train.freeze": "backbone"}, "backbone"),
        ({"train.freeze": ["backbone.*"]}, "backbone"),
        ({"train.freeze": ["backbone"]}, "backbone"),
        ({"train.freeze": ["head.*"]}, "pixels"),
        (
            {"train.freeze": "backbone", "train.unfreeze": [{"epoch": 3, "layers": "backbone.*"}]},
            "pixels",
        ),
        ({"train.freeze": "backbone", "train.unfreeze": [{"epoch": 3, "layers": "head"}]}, "backbone"),
        # it would join in after the last epoch
        (
            {"train.freeze": "backbone", "train.unfreeze": [{"epoch": 9, "layers": "backbone"}]},
            "backbone",
        ),
    ],
)
def test_features_are_the_backbones_if_no_epoch_changed_it(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    spec = make_spec(class_names=NAMES, training={"train.epochs": 5, **changes})
    assert make_extractor(classifier(), spec, Store(tmp_path, 2**20)).name == expected


# several labels per image


def several(seed: int, num_images: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    patterns = np.random.default_rng(8).uniform(-40, 40, (3, 8, 8, 1))
    random = np.random.default_rng(seed)
    labels = (random.random((num_images, 3)) < [0.5, 0.4, 0.2]).astype(np.uint8)
    images = 128 + np.einsum("nl,lhwc->nhwc", labels, patterns)
    return (images + random.normal(0, 60, images.shape)).clip(0, 255).astype(np.uint8), labels


def write_several(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Shards:
    with ShardWriter(
        folder, images.shape[1:], len(images), target="several_labels", num_classes=labels.shape[1]
    ) as writer:
        for index, image in enumerate(images):
            writer.add(image, np.flatnonzero(labels[index]).tolist(), f"{index}.png")
    return Shards(folder)


def test_of_several_labels_it_is_one_regression_per_label_at_thresholds_of_validation(
    tmp_path: Path,
) -> None:
    model = classifier()
    sizes = {"train": 150, "val": 80, "test": 100}
    of_splits = {name: several(seed, size) for seed, (name, size) in enumerate(sizes.items())}
    train, val = (write_several(tmp_path / name, *of_splits[name]) for name in ("train", "val"))
    scores = measured(
        fit_baseline(several_labels, GreyPixels(model), train, val, 3, CPU), model, of_splits
    )

    vectors = {name: images.reshape(len(images), -1) / 255 for name, (images, _) in of_splits.items()}
    labels = {name: labels.astype(int) for name, (_, labels) in of_splits.items()}
    fitted = []
    for strength in STRENGTHS:
        one = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=1_000))
        pipeline = make_pipeline(PCA(64), StandardScaler(), one)
        pipeline.fit(vectors["train"], labels["train"])
        probabilities = pipeline.predict_proba(vectors["val"])
        given = torch.from_numpy(labels["val"]), torch.from_numpy(probabilities)
        thresholds = np.array(best_thresholds(*given))
        f1 = f1_score(labels["val"], probabilities >= thresholds, average="macro")
        loss = np.mean([log_loss(labels["val"][:, i], probabilities[:, i]) for i in range(3)])
        fitted.append((f1, -loss, strength, pipeline.predict_proba(vectors["test"]) >= thresholds))
    *_, strength, preds = max(fitted, key=lambda each: each[:2])
    assert scores["logistic_regression"] == {
        "exact_match": pytest.approx(accuracy_score(labels["test"], preds), abs=1e-6),
        "f1_macro": pytest.approx(f1_score(labels["test"], preds, average="macro"), abs=1e-6),
        "features": "pixels",
        "inverse_regularisation": strength,
        "train_images": 150,
    }
    sets, counts = np.unique(labels["train"], axis=0, return_counts=True)
    constant = np.tile(sets[counts.argmax()], (100, 1))
    assert scores["most_frequent"] == {
        "exact_match": pytest.approx(accuracy_score(labels["test"], constant), abs=1e-6),
        "f1_macro": pytest.approx(
            f1_score(labels["test"], constant, average="macro", zero_division=0), abs=1e-6
        ),
    }


def test_labels_that_all_training_images_have_or_none_need_no_regression(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    model, (images, labels) = classifier(), several(0, 60)
    labels[:, 0], labels[:, 1] = 1, 0
    shards = write_several(tmp_path / "train", images, labels)
    scores = measured(
        fit_baseline(several_labels, GreyPixels(model), shards, shards, 3, CPU),
        model,
        {"test": (images, labels)},
    )
    assert scores["logistic_regression"]["f1_macro"] > 0.8
    assert "Warning" not in "".join(capfd.readouterr())


# splits that are poor


def test_classes_without_training_or_validation_images_are_no_obstacle(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    model, of_splits = classifier(), splits()
    images, labels = of_splits["train"]
    of_splits["train"] = (images[labels > 0], labels[labels > 0])
    images, labels = of_splits["val"]
    of_splits["val"] = (images[labels < 2], labels[labels < 2])
    scores = measured(fit(tmp_path, of_splits, GreyPixels(model)), model, of_splits)
    assert 0 < scores["logistic_regression"]["f1_macro"] < 0.7  # class 0 is never predicted
    assert "Warning" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("features", [GreyPixels, BackboneFeatures])
def test_one_class_alone_and_images_of_one_colour_are_no_obstacle(
    features: Any, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    model = classifier()
    blank = np.full((6, 8, 8, 1), 128, np.uint8)
    for name, labels in (("alone", np.ones(6, np.int64)), ("blank", np.arange(6) % 3)):
        given = dict.fromkeys(("train", "val", "test"), (blank, labels))
        scores = measured(fit(tmp_path / name, given, features(model)), model, given)
        assert scores["logistic_regression"]["accuracy"] == pytest.approx(np.mean(labels == 1), abs=0.01)
    assert "Warning" not in "".join(capfd.readouterr())


# samples


def test_a_small_split_is_taken_whole() -> None:
    assert stratified_sample(one_class, np.array([2, 0, 1]), 3).tolist() == [0, 1, 2]


def test_of_a_large_split_each_class_keeps_its_share_and_none_is_lost() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [60_000, 39_990, 10]))
    chosen = stratified_sample(one_class, labels, 1_000)
    assert np.unique(chosen).tolist() == chosen.tolist()
    counts = np.bincount(labels[chosen], minlength=3)
    assert counts[:2].tolist() == pytest.approx([600, 400], abs=2)
    assert counts[2] >= 1
    assert chosen.tolist() == stratified_sample(one_class, labels, 1_000).tolist()
    rolled = stratified_sample(one_class, np.roll(labels, 1), 1_000)
    assert rolled.tolist() != chosen.tolist()


def test_of_sets_of_labels_each_keeps_its_share_and_no_label_is_lost() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((20_000, 3)) < [0.5, 0.3, 0]).astype(np.uint8)
    labels[777, 2] = 1
    chosen = stratified_sample(several_labels, labels, 500)
    assert 500 <= len(chosen) <= 503
    assert labels[chosen][:, 2].sum() == 1
    before, after = (
        np.unique(part, axis=0, return_counts=True)[1] / len(part) for part in (labels, labels[chosen])
    )
    assert after[:1].tolist() == pytest.approx(before[:1].tolist(), abs=0.01)


def test_the_most_frequent_is_by_count_and_of_equals_the_first() -> None:
    assert most_frequent(np.array([2, 2, 1, 0, 0])).item() == 0
    assert most_frequent(np.array([2, 2, 1, 0])).item() == 2
    rows = np.array([[1, 0], [0, 1], [0, 1], [0, 0]], np.uint8)
    assert most_frequent(rows).tolist() == [0, 1]


# the same every time

IN_A_PROCESS = """
import json, sys
from pathlib import Path
from darkroom.compute.determinism import set_determinism

set_determinism(0, 1)
from test_baseline import classifier, fit, measured, splits
from darkroom.evaluation.features import BackboneFeatures

model = classifier(width=32)
print(json.dumps(measured(fit(Path(sys.argv[1]), splits(), BackboneFeatures(model)), model, splits())))
"""


@pytest.fixture
def outputs(tmp_path: Path) -> list[dict]:
    processes = [
        start_python(
            IN_A_PROCESS,
            tmp_path / threads,
            cwd=tmp_path,
            OPENBLAS_NUM_THREADS=threads,
            OMP_NUM_THREADS=threads,
            PYTHONHASHSEED=threads,
        )
        for threads in ("1", "3")
    ]
    return [json.loads(output_of(process)) for process in processes]


@pytest.mark.slow
def test_processes_with_other_numbers_of_threads_agree(outputs: list[dict]) -> None:
    assert outputs[0] == outputs[1]
    assert outputs[0]["logistic_regression"]["features"] == "backbone"


# what is said of it


def scored(f1: float, regression: float, constant: float, features: str = "pixels") -> dict[str, Any]:
    return {
        "f1_macro": f1,
        "accuracy": f1,
        "per_class": [],
        "baseline": {
            "logistic_regression": {"f1_macro": regression, "features": features},
            "most_frequent": {"f1_macro": constant},
        },
    }


def test_a_model_that_beats_both_needs_no_remark() -> None:
    assert remarks_on(scored(0.91, 0.9, 0.1)) == []
    assert remarks_on(scored(1.0, 1.0, 0.1)) == []  # nothing is better
    assert remarks_on({"f1_macro": 0.5, "per_class": []}) == []  # of an older version


def test_a_model_that_does_not_beat_a_baseline_is_told_what_to_try() -> None:
    [remark] = remarks_on(scored(0.884, 0.982, 0.1, "backbone"))
    assert "logistic regression on the features of its frozen backbone" in remark
    assert "macro F1 0.8840 against 0.9820" in remark
    assert "train.epochs" in remark
    [remark] = remarks_on(scored(0.9, 0.9, 0.1))
    assert "small grey pixels" in remark
    both = remarks_on(scored(0.05, 0.5, 0.1))
    assert len(both) == 2
    assert "most frequent class" in both[1]
    assert "0.0500 against 0.1000" in both[1]

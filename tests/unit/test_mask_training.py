"""Training and evaluation of masks, against scikit-learn, torch, and formulas by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, log_loss
from support import augment_options, compare, make_spec, train_options
from torch import Tensor

from darkroom.errors import UserError
from darkroom.evaluation.targets.mask import constant_scores, count, image_ious, with_intervals
from darkroom.export.parity import Parity, disagreement
from darkroom.export.scores import scores_of_files
from darkroom.export.targets.interface import exported_target
from darkroom.metrics.pixel_scores import pixel_metrics
from darkroom.metrics.pixels import PixelCounter
from darkroom.models.classifier import probabilities_of
from darkroom.models.factory import make_classifier
from darkroom.reporting.palette import overlay, palette
from darkroom.training.batch_size import out_of_memory
from darkroom.training.targets import mask, one_class, several_labels
from darkroom.training.uncertainty import NUM_RESAMPLES, standard_error_of_pixels
from darkroom.void import VOID

SPEC = make_spec(name="unet", target="mask", class_names=("ground", "disc", "square"))


def outputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits ``(7, 3, 6, 5)`` that know the truth a little, and masks with void pixels."""
    random = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (7, 6, 5), generator=random)
    logits = torch.randn(7, 3, 6, 5, generator=random)
    logits += 1.5 * F.one_hot(targets, 3).permute(0, 3, 1, 2)
    targets[torch.rand(targets.shape, generator=random) < 0.2] = VOID
    targets[2][targets[2] == 1] = 0  # this image lacks a class
    return logits, targets.byte()


def in_batches(size: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(zip(*(part.split(size) for part in outputs(seed)), strict=True))


def pixels(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, prediction, and probabilities of the pixels that are not void, one row per pixel."""
    is_valid = (targets != VOID).numpy()
    rows = logits.permute(0, 2, 3, 1)[is_valid].double().softmax(dim=1).numpy()
    return targets.numpy()[is_valid], rows.argmax(axis=1), rows


# validation


def test_scores_are_those_of_scikit_learn_over_all_pixels_however_they_are_batched() -> None:
    truth, preds, _ = pixels(*outputs())
    found = mask.scores(in_batches(3), seed=0)
    assert found.accuracy == pytest.approx(accuracy_score(truth, preds))
    assert found.f1_macro == pytest.approx(f1_score(truth, preds, average="macro"))
    of_images = [log_loss(*pixels(*image)[::2], labels=[0, 1, 2]) for image in in_batches(1)]
    assert found.loss == pytest.approx(np.mean(of_images), rel=1e-6)
    assert mask.scores(in_batches(7), seed=0)[1:] == found[1:]
    assert mask.scores(in_batches(3, seed=1), seed=0) != found


def test_the_standard_error_is_that_of_images_drawn_with_all_their_pixels() -> None:
    counter = PixelCounter(3)
    logits, targets = outputs()
    counter.add(targets, logits.argmax(dim=1))
    rng, scores = np.random.default_rng(5), []
    for drawn in rng.integers(7, size=(NUM_RESAMPLES, 7)):
        truth, preds, _ = pixels(logits[drawn], targets[drawn])
        scores.append(f1_score(truth, preds, average="macro"))
    found = standard_error_of_pixels(counter.result(), seed=5)
    assert found == pytest.approx(np.std(scores, ddof=1), abs=1e-6)
    assert standard_error_of_pixels(counter.result(), seed=6) != found


def test_one_temperature_is_fitted_and_the_table_counts_the_pixels_of_each_image() -> None:
    logits, targets = outputs()
    spec, columns = mask.calibrated(SPEC, [(4 * part, masks) for part, masks in in_batches(3)])
    twice, _ = mask.calibrated(SPEC, [(8 * part, masks) for part, masks in in_batches(3)])
    assert twice.temperature[0] == pytest.approx(2 * spec.temperature[0], rel=0.01)
    assert spec.temperature[0] > 3
    truth, preds, _ = pixels(*(part[:1] for part in (logits, targets)))
    assert columns["accuracy"][0] == pytest.approx(accuracy_score(truth, preds))
    assert columns["support"][0].tolist() == np.bincount(truth, minlength=3).tolist()
    assert columns["predicted"][0].tolist() == np.bincount(preds, minlength=3).tolist()
    probabilities = probabilities_of(logits, spec)
    assert torch.allclose(probabilities, (logits / spec.temperature[0]).softmax(dim=1))


# what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "bce"}, "train.loss: bce needs two classes, and these masks have 3"),
        ({"sampling": "balanced"}, "train.sampling: balanced needs one class per image"),
        ({"freeze": "backbone"}, "train.freeze: backbone keeps one vector of features per image"),
    ],
)
def test_options_that_need_one_label_per_image_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        mask.check(train_options(**options), 3)


@pytest.mark.parametrize("name", ["mixup", "policy", "transforms"])
def test_changes_that_would_leave_masks_behind_are_refused(name: str) -> None:
    value = {"mixup": 0.2, "policy": "randaugment", "transforms": [{"GaussianBlur": {}}]}[name]
    augment = augment_options(**{name: value})
    with pytest.raises(UserError, match=f"augment.{name}: .*have masks; it must be"):
        mask.check_augment(augment)
    one_class.check_augment(augment)
    mask.check_augment(augment_options(horizontal_flip=True, rotate=10))


@pytest.mark.parametrize("kind", [one_class, several_labels])
def test_dice_needs_masks(kind) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"train.loss: focal\+dice needs masks"):
        kind.check(train_options(loss="focal+dice", focal_gamma=2.0), 2)


def test_a_model_of_masks_has_a_map_as_large_as_the_image_or_is_refused() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert make_classifier(SPEC)(images).shape == (2, 3, 8, 8)
    assert make_classifier(replace(SPEC, name="cnn"))(images).shape == (2, 3, 8, 8)
    with pytest.raises(UserError, match=r"model.name: mlp does not halve images step by step"):
        make_classifier(replace(SPEC, name="mlp"))
    with pytest.raises(UserError, match=r"model.head: mlp pools the features of all pixels"):
        make_classifier(replace(SPEC, head="mlp"))


# evaluation and export


def test_counts_of_an_evaluation_are_those_of_scikit_learn() -> None:
    spec = replace(SPEC, temperature=(2.0,))
    counted = count(spec, iter(in_batches(3)), [f"{i}.png" for i in range(7)])
    truth, preds, rows = pixels(*outputs())
    assert counted.nll["nll_before"] == pytest.approx(log_loss(truth, rows), abs=1e-6)
    assert counted.nll["nll"] == pytest.approx(
        log_loss(truth, np.sqrt(rows) / np.sqrt(rows).sum(axis=1, keepdims=True)), abs=1e-6
    )
    for index, image in enumerate(in_batches(1)):
        truth, preds, _ = pixels(*image)
        expected = jaccard_score(truth, preds, labels=np.unique(truth), average="macro")
        assert image_ious(counted.pixels)[index] == pytest.approx(expected)
    truth, _, _ = pixels(*outputs())
    constant = constant_scores(counted.pixels, 1, list(SPEC.class_names))
    zeros = np.ones_like(truth)
    assert constant["accuracy"] == pytest.approx(accuracy_score(truth, zeros), abs=1e-6)
    assert constant["iou_macro"] == pytest.approx(jaccard_score(truth, zeros, average="macro"), abs=1e-6)


def test_a_mask_that_is_not_a_number_is_named() -> None:
    logits, targets = outputs()
    logits[4, 1, 2, 3] = torch.nan
    with pytest.raises(
        UserError, match=r"not finite for 1 of 7 images, the first of them 4.png \(nan\)"
    ):
        count(SPEC, iter([(logits, targets)]), [f"{i}.png" for i in range(7)])


def test_an_exported_file_of_masks_is_scored_as_evaluate_does_whatever_the_batches() -> None:
    logits, targets = outputs()
    spec = replace(SPEC, input_size=(6, 5))
    probabilities = logits.softmax(dim=1).numpy()
    other = probabilities.copy()
    other[0, :, 0, 0] = np.roll(other[0, :, 0, 0], 1)
    paths, groups = [f"{i}.png" for i in range(7)], np.array([0, 0, 1, 1, 2, 2, 3])
    parity, same, batched = (Parity(spec) for _ in range(3))
    parity.add(probabilities, other, targets.numpy())
    same.add(probabilities, probabilities, targets.numpy())
    for rows in (slice(0, 3), slice(3, 7)):
        batched.add(probabilities[rows], probabilities[rows], targets.numpy()[rows])
    assert parity.to_dict()["pixel_agreement"] == pytest.approx(1 - 1 / (7 * 6 * 5))
    assert batched.to_dict() == same.to_dict()
    assert same.to_dict()["pixel_agreement"] == 1
    message = disagreement("m.onnx", parity, spec, 1e-4, paths)
    assert "(the same class for 99.5% of the pixels of 7 images)" in message
    assert message.splitlines()[1].startswith(
        "  0.png: the checkpoint and m.onnx predict different classes for 1 of 30 pixels; difference 0."
    )
    assert len(message.splitlines()) == 2
    counts = count(spec, iter(in_batches(3)), paths).pixels
    expected = with_intervals(pixel_metrics(counts, list(spec.class_names)), counts, groups)
    scores = scores_of_files({"a": same, "b": parity, "c": batched}, groups)
    assert scores["a"] == scores["c"] == {name: expected[name] for name in scores["a"]}
    assert len(scores["a"]) == 9
    assert scores["b"] != scores["a"]


def test_a_mask_that_is_void_everywhere_has_no_score_but_must_agree() -> None:
    spec = replace(SPEC, input_size=(6, 5))
    probabilities = outputs()[0].softmax(dim=1).numpy()
    void = np.full((7, 6, 5), VOID, np.uint8)
    parity = compare(spec, probabilities, np.roll(probabilities, 1, axis=1), void)
    assert parity.answers.scores(None) == dict.fromkeys(["iou_macro", "f1_macro", "accuracy"])
    assert parity.answers.agreement == 0
    assert exported_target("mask").batch_size(replace(spec, input_size=(360, 480))) == 32
    assert exported_target("mask").batch_size(spec) == 64


def test_the_colours_are_those_of_pascal_voc_and_void_shows_the_image() -> None:
    colours = palette()
    table = {1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    table |= {15: (192, 128, 128), 20: (0, 64, 128)}
    assert {index: tuple(colours[index].tolist()) for index in table} == table
    assert len(np.unique(colours, axis=0)) == 256
    image = np.full((1, 2, 3), 100, np.uint8)
    shown = overlay(image, np.array([[1, VOID]], np.uint8))
    assert shown[0, 1].tolist() == [100, 100, 100]
    assert shown[0, 0].tolist() == [115, 45, 45]


def test_a_batch_size_is_tried_with_masks() -> None:
    images = torch.zeros((4, 1, 8, 8), dtype=torch.uint8)
    error = out_of_memory(make_classifier(SPEC), images, 1, "float32")
    assert "train.batch_size: 2 would fit" in f"{error}"

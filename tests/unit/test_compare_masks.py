"""`darkroom compare` for masks: scores against scikit-learn, intervals against a plain bootstrap."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compared import GOOD, files_of
from numpy.typing import NDArray
from sklearn.metrics import f1_score, jaccard_score

from darkroom.comparison.matching import match
from darkroom.comparison.page import write_comparison
from darkroom.comparison.predictions import NotComparableError, Predictions
from darkroom.comparison.side import Side
from darkroom.comparison.text import markdown
from darkroom.comparison.verdict import Comparison, compare
from darkroom.evaluation.targets.mask import write_mask_predictions
from darkroom.metrics.pixels import PixelCounter
from darkroom.void import VOID

NAMES = ("sky", "road", "car", "sign")
Masks = NDArray[np.uint8]


def drawn(wrong: float, seed: int) -> Masks:
    """Masks of 40 images: the true ones, with pixels that are wrong, more of them in some images."""
    random = np.random.default_rng(seed)
    is_wrong = random.random(TRUTH.shape) < wrong * 2 * random.random((len(TRUTH), 1, 1))
    return np.where(is_wrong, random.integers(0, 3, TRUTH.shape), TRUTH % 4).astype(np.uint8)


TRUTH = np.random.default_rng(0).choice([0, 1, 2], (40, 6, 5), p=[0.6, 0.3, 0.1]).astype(np.uint8)
TRUTH[:, 0] = VOID
GOOD_MASKS, SIMILAR, BAD = drawn(0.1, 1), drawn(0.11, 2), drawn(0.4, 3)
PATHS = [f"{number}.png" for number in range(len(TRUTH))]


def side(name: str, preds: Masks, folder: Path, order: tuple[int, ...] = (0, 1, 2, 3)) -> Side:
    """A model's files as evaluate writes them, with the classes in another order."""
    counter = PixelCounter(len(NAMES))
    place = np.argsort(order)
    for start in (0, 25):
        part = slice(start, start + 25)
        truth = np.where(TRUTH == VOID, VOID, place[TRUTH % 4])[part]
        counter.add(torch.from_numpy(truth), torch.from_numpy(place[preds[part]]))
    file = folder / "predictions.parquet"
    write_mask_predictions(counter.result(), PATHS, file)
    rows = [{"class": NAMES[index]} for index in order]
    metrics = {"test": {"iou_macro": 0.5, "accuracy": 0.5, "per_class": rows}}
    return Side(name, Predictions.parse(file.read_bytes(), json.dumps(metrics).encode(), name))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("masks")
    return compare(side("a", BAD, folder), side("b", GOOD_MASKS, folder, (2, 0, 3, 1)))


def test_scores_are_those_of_all_pixels_by_scikit_learn(found: Comparison) -> None:
    known = TRUTH != VOID
    options: dict[str, Any] = {"labels": [0, 1, 2], "average": None}
    f1 = [f1_score(TRUTH[known], preds[known], **options) for preds in (BAD, GOOD_MASKS)]
    assert found.paired.scores == pytest.approx([scores.mean() for scores in f1], abs=1e-12)
    ious = [jaccard_score(TRUTH[known], preds[known], **options) for preds in (BAD, GOOD_MASKS)]
    assert found.accuracies == pytest.approx([iou.mean() for iou in ious], abs=1e-12)
    by_name = {one.name: one for one in found.classes}
    assert set(by_name) == {"sky", "road", "car"}  # no mask shows a sign
    for index, name in enumerate(NAMES[:3]):
        assert by_name[name].f1 == pytest.approx([scores[index] for scores in f1], abs=1e-12)
        assert by_name[name].support == ((index == TRUTH).any(axis=(1, 2))).sum()
        assert by_name[name].is_significant


def test_the_interval_is_that_of_drawing_images(found: Comparison) -> None:
    random, differences = np.random.default_rng(1), []
    for _ in range(1_000):
        rows = random.integers(0, len(TRUTH), len(TRUTH))
        means = []
        for preds in (BAD, GOOD_MASKS):
            truth, pred = TRUTH[rows], preds[rows]
            pairs = [((truth == c), (pred == c) & (truth != VOID)) for c in range(3)]
            means.append(np.mean([2 * (t & p).sum() / (t.sum() + p.sum()) for t, p in pairs]))
        differences.append(means[1] - means[0])
    expected = np.percentile(differences, [2.5, 97.5])
    assert [found.paired.low, found.paired.high] == pytest.approx(expected, abs=0.01)
    assert found.paired.standard_error == pytest.approx(np.std(differences), rel=0.1)
    assert found.verdict == "better"


def test_what_has_no_meaning_for_masks_is_left_out(found: Comparison, tmp_path: Path) -> None:
    values = found.to_json()
    assert "mcnemar" not in values
    assert "accuracy" not in values
    assert values["iou_macro"] == pytest.approx(found.accuracies)
    assert (values["calibration"], values["gained"], values["lost"]) == ({}, [], [])
    text = markdown(found)
    assert "| mean IoU |" in text
    assert "only this one right" not in text
    page = tmp_path / "page.html"
    write_comparison(found, page)
    assert "randomisation test, which exchanges the masks" in page.read_text()
    assert "McNemar" not in page.read_text()


def test_similar_and_equal_models_are_not_told_apart(tmp_path: Path) -> None:
    similar = compare(side("a", GOOD_MASKS, tmp_path), side("b", SIMILAR, tmp_path))
    assert similar.verdict == "indistinguishable"
    assert not any(one.is_significant for one in similar.classes)
    assert "They predict the same" not in similar.sentence
    equal = compare(side("a", GOOD_MASKS, tmp_path), side("b", GOOD_MASKS, tmp_path))
    assert "They predict the same for every image" in equal.sentence


def test_masks_are_compared_only_with_masks_of_the_same_images(tmp_path: Path) -> None:
    masks = side("a", GOOD_MASKS, tmp_path)
    labels = Side("b", Predictions.parse(*files_of(GOOD), "b"))
    with pytest.raises(NotComparableError, match="a predicts one class per pixel, b predicts one class"):
        match(masks, labels)
    fewer = Side("b", masks.predictions.at(range(30)))
    with pytest.raises(NotComparableError, match="30 images in common, 10 only in a"):
        match(masks, fewer)
    assert len(match(masks, fewer, common=True).first) == 30

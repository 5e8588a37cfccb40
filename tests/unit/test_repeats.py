"""Folds and seeds: estimates, the leak check, and predictions of real trainings on a few images."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from preparation import PARAMS, prepare
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score
from support import two_brightnesses

from darkroom.config.train import TrainConfig
from darkroom.errors import UserError
from darkroom.paths import MANIFEST
from darkroom.repeats.estimate import estimate
from darkroom.repeats.summary import summarise, write_out_of_fold
from darkroom.retraining.folds import assign_folds
from darkroom.retraining.groups import load_groups
from darkroom.retraining.parts import LabelledImages
from darkroom.retraining.trainings import Training, of_folds, of_seeds, probabilities_of_each
from darkroom.runtime import load_runtime

SCORES = [0.90, 0.93, 0.91, 0.95, 0.92]
NUM_CLIPS, CLIP = 30, 3


def test_the_interval_of_seeds_is_that_of_students_t() -> None:
    found = estimate(SCORES)
    expected = stats.ttest_1samp(SCORES, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found.spread == pytest.approx(np.std(SCORES, ddof=1), abs=1e-6)


def test_the_interval_of_folds_is_that_of_nadeau_and_bengio() -> None:
    """By hand: the variance of the five scores is 0.00037, and t with 4 degrees of freedom 2.776445."""
    found = estimate(SCORES, ratio=1 / 4)
    assert found.mean == 0.922
    half = 2.776445 * ((1 / 5 + 1 / 4) * 0.00037) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.922 - half, 0.922 + half), abs=1e-6)
    assert estimate(SCORES).high < found.high
    assert estimate([1.0, 0.9]).high == 1


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelledImages:
    """Clips of three frames each, some of them copies of frames of other clips; without test images."""
    pixels, labels = two_brightnesses(NUM_CLIPS * CLIP)
    for number in range(NUM_CLIPS * CLIP):
        clip = number // CLIP
        label = int(labels[clip])
        path = tmp_path / "images" / "ab"[label] / f"{clip:02d}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        is_copy = number % CLIP == 0 and clip % 4 >= 2  # the frame of the clip two before
        source = number - 2 * CLIP if is_copy else number
        shown = pixels[2 * (source % (len(pixels) // 2)) + label]
        Image.fromarray(shown[:, :, 0] if shown.ndim == 3 else shown).save(path)
    options = {"group_pattern": "([0-9]+)_", "near_duplicates": None}
    prepare(tmp_path / "images", tmp_path / "data", test_fraction=0.2, val_fraction=0.2, **options)
    (tmp_path / "data/dataset.json").rename(tmp_path / "data/prepared/dataset.json")
    (tmp_path / "data/manifest.parquet").rename(tmp_path / "data/prepared/manifest.parquet")
    shutil.rmtree(tmp_path / "data/prepared/test")
    monkeypatch.chdir(tmp_path)
    return LabelledImages("folds")


def planned(images: LabelledImages, groups: NDArray[np.int64], num_folds: int = 3) -> list[Training]:
    config = TrainConfig.of(PARAMS)
    config = config.model_copy(
        update={
            "model": config.model.model_copy(update={"name": "mlp", "width": 4}),
            "train": config.train.model_copy(update={"epochs": 1, "batch_size": 16}),
        }
    )
    folds = assign_folds(images.target.strata(images.shards.labels), groups, num_folds, 0)
    return of_folds(config, images, groups, folds)


def leaks(trainings: list[Training], groups: NDArray[np.int64]) -> int:
    """Returns the number of groups with images on more than one side of a training."""
    found = 0
    for one in trainings:
        assert one.part is not None
        sides = [set(groups[rows]) for rows in (one.part.train_rows, one.part.val_rows, one.rows)]
        found += sum(len(a & b) for a, b in ((sides[0], sides[1]), (sides[0], sides[2]), sides[1:]))
    return found


def test_groups_and_duplicates_never_cross_folds(images: LabelledImages) -> None:
    groups = load_groups(MANIFEST, images.shards.paths)
    assert 1 < len(np.unique(groups)) < len(groups) // CLIP  # copies join clips
    trainings = planned(images, groups)
    assert leaks(trainings, groups) == 0
    assert leaks(planned(images, np.arange(len(groups))), groups) > 0  # the negative twin
    tested = np.concatenate([one.rows for one in trainings])
    assert sorted(tested) == list(range(len(groups)))
    for one in trainings:
        assert one.part is not None
        rows = np.concatenate([one.part.train_rows, one.part.val_rows, one.rows])
        assert sorted(rows) == list(range(len(groups)))
    with pytest.raises(UserError, match=r"form a single group.*use more folds"):
        planned(images, np.minimum(np.arange(len(groups)), 1), 2)


def test_every_image_gets_a_prediction_without_the_test_split(images: LabelledImages) -> None:
    groups, runtime = load_groups(MANIFEST, images.shards.paths), load_runtime()
    trainings = planned(images, groups, 2)
    first = next(probabilities_of_each(trainings, images, runtime, "folds"))  # and is then stopped
    [kept] = Path(".darkroom/retraining").glob("*/*/probabilities.npy")
    changed = kept.stat().st_mtime_ns
    found = list(probabilities_of_each(trainings, images, runtime, "folds"))
    assert kept.stat().st_mtime_ns == changed
    assert (found[0] == first).all()
    assert not list(Path(".darkroom/retraining").glob("*/*/checkpoints"))
    summary = summarise(trainings, found, images, ratio=1)
    for one, of_fold, scores in zip(trainings, found, summary.scores, strict=True):
        truth, preds = images.shards.labels[one.rows], of_fold.argmax(axis=1)
        assert scores["f1_macro"] == pytest.approx(f1_score(truth, preds, average="macro"), abs=1e-6)
        assert scores["accuracy"] == pytest.approx(accuracy_score(truth, preds), abs=1e-6)
    write_out_of_fold(trainings, found, images, "|", Path("predictions.parquet"))
    table = pq.read_table("predictions.parquet").to_pydict()
    assert table["path"] == images.shards.paths
    assert table["label"] == [path[0] for path in table["path"]]
    assert table["pred"] == ["ab"[row[1] > row[0]] for row in table["probabilities"]]
    rows = np.flatnonzero(np.array(table["fold"]) == 2)
    assert (rows == trainings[1].rows).all()
    assert np.array(table["probabilities"])[rows] == pytest.approx(found[1], abs=1e-6)

    seeds = of_seeds(trainings[0].config, images, 2)
    one, other = probabilities_of_each(seeds, images, runtime, "seeds")
    assert one.shape == other.shape == (images.info.num_images("val"), 2)
    assert (one != other).any()

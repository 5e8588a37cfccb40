"""Which labels are probably wrong: confident learning, folds, the table and the gallery."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.dataset.subset import Subset
from darkroom.errors import UserError
from darkroom.inputs import INPUT_WORDS
from darkroom.retraining.folds import assign_folds
from darkroom.retraining.groups import load_groups
from darkroom.suspects.confident import confident_joint, doubts_about, doubts_about_labels
from darkroom.suspects.findings import Findings, check_target, find_suspects, read_corrections
from darkroom.suspects.gallery import write_gallery
from darkroom.suspects.targets import one_class

BY_HAND = np.array(
    [
        [0.9, 0.1, 0.0],  # threshold of class 0: (0.9 + 0.7 + 0.2) / 3 = 0.6
        [0.7, 0.2, 0.1],
        [0.2, 0.8, 0.0],  # labelled 0, confidently 1
        [0.3, 0.7, 0.0],  # threshold of class 1: (0.7 + 0.5) / 2 = 0.6
        [0.5, 0.5, 0.0],  # confidently of no class
        [0.0, 0.1, 0.9],
    ]
)
LABELS = np.array([0, 0, 0, 1, 1, 2])


def test_the_confident_joint_is_that_of_a_table_made_by_hand() -> None:
    joint, is_suspect = confident_joint(LABELS, BY_HAND)
    assert joint.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert is_suspect.tolist() == [False, False, True, False, False, False]
    doubts = doubts_about(LABELS, BY_HAND)
    assert doubts.rank.tolist() == [2, 4, 1, 3, 0, 5]
    assert doubts.suggested.tolist() == [1, 1, 1, 0, 0, 1]
    assert doubts.estimate == 1


def test_a_label_that_is_more_probable_than_by_chance_is_no_suspect() -> None:
    probabilities = BY_HAND.copy()
    probabilities[2] = [0.34, 0.66, 0.0]  # the thresholds of classes 0 and 1 are 0.65 and 0.6
    doubts = doubts_about(LABELS, probabilities)
    assert doubts.estimate == 1
    assert not doubts.is_suspect.any()


def test_of_several_labels_the_most_doubtful_ranks_the_image() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]], np.uint8)
    probabilities = np.array([[0.9, 0.1], [0.1, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.1]])
    doubts, suggested = doubts_about_labels(labels, probabilities)
    assert doubts.rank[0] == 1
    assert doubts.p_label[1] == pytest.approx(0.1)
    assert doubts.is_suspect.tolist() == [False, True, False, False, False]
    assert suggested[1].tolist() == [0, 0]
    assert suggested[3].tolist() == [1, 1]  # no suspect: the most doubtful label is the other way round


@pytest.fixture(scope="module")
def predicted() -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Out-of-fold probabilities of scikit-learn's digits with some labels, by scikit-learn alone."""
    pixels = load_digits().data[::2] / 16

    def predict(labels: NDArray[np.int64]) -> NDArray[np.float64]:
        model = LogisticRegression(C=0.1, max_iter=200)
        return cross_val_predict(model, pixels, labels, cv=5, method="predict_proba")

    return predict


def findings(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Findings:
    names = [f"{digit}" for digit in range(10)]
    paths = [f"{row}.png" for row in range(len(labels))]
    everything = np.ones(len(labels), bool)
    return find_suspects(
        one_class, labels, probabilities, everything, names, paths, ["train"] * len(labels)
    )


@pytest.mark.slow
def test_most_flipped_digits_are_ranked_first_and_few_others_are_suspects(
    predicted: Callable[[NDArray[np.int64]], NDArray[np.float64]],
) -> None:
    truth = load_digits().target[::2].astype(np.int64)
    rng = np.random.default_rng(0)
    flipped = rng.permutation(len(truth))[: len(truth) // 20]
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + rng.integers(1, 10, len(flipped))) % 10
    found = findings(labels, predicted(labels))
    first = {one.index for one in found.ranked[: 2 * len(flipped)]}
    assert len(first & set(flipped.tolist())) >= 0.8 * len(flipped)
    by_index = {one.index: one for one in found.ranked}
    assert np.mean([by_index[row].suggested == f"{truth[row]}" for row in flipped.tolist()]) > 0.8
    assert found.estimate == pytest.approx(len(flipped), rel=0.5)
    # the negative twins: nothing planted, and nothing but chance
    num_clean = len(findings(truth, predicted(truth)).suspects)
    assert num_clean < 0.02 * len(truth)
    shuffled = rng.permutation(truth)
    assert len(findings(shuffled, predicted(shuffled)).suspects) > 0.25 * len(truth)


def test_folds_keep_groups_and_duplicates_together_and_classes_in_proportion(tmp_path: Path) -> None:
    paths = [f"{row:03d}.png" for row in range(120)]
    table = {
        "path": [*paths, "unused.png"],
        "group": [f"g{row // 4}" if row < 60 else None for row in range(120)] + ["g0"],
        "duplicate_of": [None if row != 119 else "003.png" for row in range(120)] + [None],
    }
    pq.write_table(pa.table(table), tmp_path / "manifest.parquet")
    groups = load_groups(tmp_path / "manifest.parquet", paths)
    assert groups[119] == groups[0] == groups[3] != groups[4]
    labels = np.arange(120) // 4 % 3
    folds = assign_folds(labels, groups, 5, seed=1)
    assert all(len(set(folds[groups == group])) == 1 for group in np.unique(groups))
    counts = np.array([np.bincount(labels[folds == fold], minlength=3) for fold in range(5)])
    assert counts.min() >= 4  # 8 on average
    assert (folds == assign_folds(labels, groups, 5, seed=1)).all()
    assert (folds != assign_folds(labels, groups, 5, seed=2)).any()
    alone = assign_folds(labels, np.arange(120), 5, seed=1)
    assert any(len(set(alone[groups == group])) > 1 for group in np.unique(groups))
    with pytest.raises(UserError, match="consist of only 2 groups"):
        assign_folds(labels, np.arange(120) % 2, 5, seed=1)
    with pytest.raises(UserError, match="does not list all"):
        load_groups(tmp_path / "manifest.parquet", ["other.png"])


def test_an_image_that_is_alone_with_its_label_cannot_be_judged() -> None:
    labels, folds = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 0, 1])
    assert one_class.can_be_judged(labels, folds, 4).tolist() == [True, True, False, False, False]


def write_split(folder: Path, images: NDArray[np.uint8]) -> Shards:
    with ShardWriter(folder, images.shape[1:], len(images)) as writer:
        for number, image in enumerate(images):
            writer.add(image, number % 2, f"{folder.name}/{number}")
    return Shards(folder)


def test_a_subset_has_the_rows_of_its_parts(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), np.uint8)
    parts = [write_split(tmp_path / "a", pixels[:6]), write_split(tmp_path / "b", pixels[6:])]
    rows = np.array([7, 0, 5, 9])
    subset = Subset(parts, rows)
    assert (subset.gather(np.array([3, 0, 0, 2])) == pixels[[9, 7, 7, 5]]).all()
    assert subset.paths == ["b/1", "a/0", "a/5", "b/3"]
    assert subset.labels.tolist() == [1, 0, 1, 1]
    assert (len(subset), subset.shape) == (4, (4, 4, 1))
    assert subset.digest != Subset(parts, rows[::-1]).digest
    with pytest.raises(IndexError):
        subset.gather(np.array([4]))


def test_an_edited_table_is_not_lost(tmp_path: Path) -> None:
    table = tmp_path / "suspects.csv"
    check_target(table, force=False)
    written = io.StringIO()
    findings(LABELS, BY_HAND).write(written)
    table.write_text(written.getvalue())
    check_target(table, force=False)  # nobody has filled in anything
    lines = written.getvalue().splitlines()
    assert lines[1] == "1,2.png,train,0,1,0.2000,0.8000,yes,,"
    table.write_text("\n".join([lines[0], f"{lines[1][:-1]}1,", *lines[2:]]))
    assert [one.new_label for one in read_corrections(table)] == ["1"]
    with pytest.raises(UserError, match="new labels or exclusions filled in"):
        check_target(table, force=False)
    check_target(table, force=True)
    table.write_text("something,else\n1,2\n")
    with pytest.raises(UserError, match="has no column path"):
        check_target(table, force=False)


def test_the_gallery_escapes_names_and_needs_no_other_file(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8, 8, 1), np.uint8)
    images = write_split(tmp_path / "a", pixels)
    names = ["<script>", "b", "c"]
    found = find_suspects(
        one_class, LABELS, BY_HAND, np.ones(6, bool), names, [f"<b>{i}" for i in range(6)], ["train"] * 6
    )
    write_gallery(
        found, images, INPUT_WORDS["image"], 10, tmp_path / "suspects.csv", tmp_path / "page.html"
    )
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;2" in page
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page

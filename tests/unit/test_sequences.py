"""Frames of sequences are noticed when splits part them, and images that are merely numbered are not."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from preparation import prepare
from sklearn.datasets import load_digits

from darkroom.collection.grouping import GroupPattern
from darkroom.preparation.measures import perceptual_hash
from darkroom.preparation.sequences import Series, count_mates, find_series

SHARED = Path(__file__).parents[3] / "shared/data"
TRAIN, VAL, TEST = 0, 1, 2


def find(
    paths: Sequence[str],
    hashes: NDArray[np.uint8],
    labels: Sequence[str] | None = None,
    splits: NDArray[np.int8] | None = None,
    has_split_folders: bool = False,
) -> Series | None:
    """Finds series where every fifth image, drawn at random, is in test; labels are the top folders."""
    names = labels if labels is not None else [path.split("/")[0] for path in paths]
    codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
    if splits is None:
        splits = np.where(np.random.default_rng(0).random(len(paths)) < 0.2, TEST, TRAIN).astype(np.int8)
    return find_series(pa.array(paths), codes, splits, hashes, has_split_folders)


def frames(num_series: int, num_frames: int, seed: int = 0) -> NDArray[np.uint8]:
    """Hashes of pictures that drift slowly from frame to frame."""
    random = np.random.default_rng(seed)
    hashes = []
    for _ in range(num_series):
        picture = random.normal(size=(8, 8)) * 60
        for _ in range(num_frames):
            picture = 0.98 * picture + 10 * random.normal(size=(8, 8))
            grey = np.clip(128 + np.kron(picture, np.ones((4, 4))), 0, 255).astype(np.uint8)
            hashes.append(perceptual_hash(grey[None, ..., None])[0])
    return np.array(hashes)


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return frames(count, 1, seed)


TRACKS = [f"{c:02}/{t:05}_{f:05}.ppm" for c in range(3) for t in range(12) for f in range(8)]
"""As in GTSRB: a class, a track in it, its frames."""


def test_tracks_in_class_folders_are_found_and_the_pattern_keeps_each_whole() -> None:
    series = find(TRACKS, frames(36, 8))
    assert series is not None
    assert series.pattern == r"^(.*?)\d+[^\d/]*$"
    assert series.num_groups == 36
    assert series.share_alike > 0.6
    assert series.num_mates > 0.95 * series.num_test
    groups = GroupPattern(series.pattern).groups(pa.array(TRACKS)).to_pylist()
    assert groups == [path.rpartition("_")[0] + "_" for path in TRACKS]
    first, second = (TRACKS[index] for index in series.example)
    assert first.split("_")[0] == second.split("_")[0]


@pytest.mark.parametrize(
    "name",
    [
        "video{t}_frame_{f:04}.jpg",
        "clip {t}-{f}.png",
        "{t:03}.{f:03}.png",
        "s{t}f{f}_left.jpeg",
        "v{t}_{f}.jp2",
    ],
)
def test_other_ways_of_numbering_are_understood(name: str) -> None:
    paths = [f"{c}/{name.format(t=t, f=f)}" for c in "ab" for t in range(15) for f in range(9)]
    series = find(paths, frames(30, 9))
    assert series is not None
    groups = GroupPattern(series.pattern).groups(pa.array(paths)).to_pylist()
    assert len(set(groups)) == series.num_groups == 30
    assert all(len(set(groups[start : start + 9])) == 1 for start in range(0, len(paths), 9))


def test_where_a_class_is_one_long_series_blocks_of_it_stay_together() -> None:
    paths = [f"{c}/IMG_{f:04}.jpg" for c in "ab" for f in range(1500)]
    series = find(paths, frames(2, 1500))
    assert series is not None
    assert series.pattern == r"^(.*?)\d{2}[^\d/]*$"
    assert series.num_groups == 30


def test_a_video_whose_frames_lie_in_two_class_folders_is_one_sequence() -> None:
    labels = np.random.default_rng(2).integers(0, 2, 20 * 10)
    paths = [f"{'ab'[c]}/clip{i // 10}_{i % 10}.jpg" for i, c in enumerate(labels)]
    series = find(paths, frames(20, 10))
    assert series is not None
    assert series.pattern == r"([^/]*?)\d+[^\d/]*$"
    groups = GroupPattern(series.pattern).groups(pa.array(paths)).to_pylist()
    assert groups == [f"clip{i // 10}_" for i in range(200)]


def test_frames_that_given_split_folders_part_are_found_across_them() -> None:
    splits = np.where(np.random.default_rng(0).random(len(TRACKS)) < 0.2, TEST, TRAIN).astype(np.int8)
    paths = [f"{('train', 'val', 'test')[s]}/{path}" for s, path in zip(splits, TRACKS, strict=True)]
    labels = [path.split("/")[0] for path in TRACKS]
    series = find(paths, frames(36, 8), labels, splits, has_split_folders=True)
    assert series is not None
    assert series.pattern == r"^[^/]*/(.*?)\d+[^\d/]*$"
    assert series.num_groups == 36


def test_where_only_the_ends_of_whole_blocks_touch_nothing_is_suggested() -> None:
    paths = [f"{c}/IMG_{f:04}.jpg" for c in "ab" for f in range(1000)]
    blocks = np.random.default_rng(4).random(20) < 0.3
    splits = np.repeat(np.where(blocks, TEST, TRAIN), 100).astype(np.int8)
    assert find(paths, frames(2, 1000), splits=splits) is None


def test_numbered_images_that_do_not_look_alike_are_no_series() -> None:
    assert find(TRACKS, noise(len(TRACKS))) is None


def test_frames_that_lie_whole_in_one_split_are_not_complained_of() -> None:
    splits = np.repeat(np.where(np.arange(36) % 5 == 0, TEST, TRAIN), 8).astype(np.int8)
    assert find(TRACKS, frames(36, 8), splits=splits) is None


@pytest.mark.parametrize("paths", [["a/x.jpg"] * 3, ["a/1.jpg", "a/2.jpg", "b/1.jpg"]])
def test_too_few_files_say_nothing(paths: list[str]) -> None:
    assert find(paths, noise(len(paths))) is None


def test_mates_are_counted() -> None:
    groups = np.array([0, 0, 0, 1, 1, -1, -1])
    splits = np.array([TRAIN, TEST, TEST, TEST, VAL, TRAIN, TEST], np.int8)
    assert count_mates(groups, splits) == 2


# Real images


def hashed(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    size = (64, 64)
    return perceptual_hash(np.stack([np.asarray(i.convert("RGB").resize(size)) for i in images]))


def from_tar(name: str, mode: str, contains: str, most: int) -> dict[str, Image.Image]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    images: dict[str, Image.Image] = {}
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in tar:
            if member.isfile() and contains in member.name and member.name.endswith(".jpg"):
                try:
                    images[member.name] = Image.open(tar.extractfile(member)).convert("RGB")
                except OSError:
                    continue
            if len(images) == most:
                break
    return images


@pytest.mark.slow
@pytest.mark.parametrize("by", ["chance", "drive"])
def test_frames_of_camvid_are_found(by: str) -> None:
    images = from_tar("camvid.tar", "r:", "/images/", 1000)
    random = np.random.default_rng(1)
    labels = {
        name: "ab"[random.integers(2) if by == "chance" else "/0001TP" in name or "/Seq05" in name]
        for name in sorted(images)
    }
    paths = [f"{labels[name]}/{name.rpartition('/')[2]}" for name in sorted(images)]
    series = find(paths, hashed([images[name] for name in sorted(images)]))
    assert series is not None
    assert series.num_mates > 0.9 * series.num_test


@pytest.mark.slow
def test_photographs_of_ants_and_bees_are_no_series() -> None:
    images = from_tar("hymenoptera.tar", "r:", "", 1000)
    paths = ["/".join(name.split("/")[2:]) for name in images]
    assert find(paths, hashed(list(images.values()))) is None


@pytest.mark.slow
def test_numbered_images_of_cifar10_are_no_series() -> None:
    images = from_tar("cifar10-jpeg.tar.xz", "r:xz", "/test/", 5000)
    paths = ["/".join(name.split("/")[2:]) for name in images]
    assert find(paths, hashed(list(images.values()))) is None


def test_numbered_digits_are_no_series() -> None:
    digits = load_digits()
    pixels = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    paths = [f"{label}/{index:06d}.png" for index, label in enumerate(digits.target)]
    assert find(paths, perceptual_hash(pixels)) is None


# The whole of prepare


def drifting(root: Path, num_series: int = 12, num_frames: int = 8) -> Path:
    """Makes two classes of series whose pictures drift, too far apart to be near duplicates."""
    random = np.random.default_rng(3)
    for label in "ab":
        (root / label).mkdir(parents=True)
        for series in range(num_series):
            picture = random.normal(size=(8, 8)) * 60
            for frame in range(num_frames):
                picture = 0.98 * picture + 12 * random.normal(size=(8, 8))
                grey = np.clip(128 + np.kron(picture, np.ones((4, 4))), 0, 255).astype(np.uint8)
                Image.fromarray(grey).save(root / label / f"v{series}_{frame:02}.png")
    return root


def test_prepare_suggests_a_pattern_that_settles_the_matter(tmp_path: Path) -> None:
    root = drifting(tmp_path / "images")
    options = {"image_size": 32, "channels": 1, "near_duplicates": None}
    (said,) = prepare(root, tmp_path / "out", **options).series_remarks
    assert "Consecutively numbered files look alike" in said
    pattern = said.split("set data.group_pattern: '")[1].split("'")[0]
    grouped = prepare(root, tmp_path / "grouped", group_pattern=pattern, **options)
    assert grouped.series_remarks == [
        "Groups that are not split: 24, with 192 images. Test images with an image of their group in"
        f" train: 0 of {grouped.counts['num_images']['test']}."
    ]
    split_of: dict[str, set[str]] = {}
    for path, split in grouped.splits.items():
        split_of.setdefault(path.rpartition("_")[0], set()).add(split)
    assert len(split_of) == 24
    assert all(len(splits) == 1 for splits in split_of.values())
    assert {row["group"] for row in grouped.rows.values()} == {f"{name}_" for name in split_of}


def test_images_in_no_group_are_counted_and_groups_of_a_manifest_reported(tmp_path: Path) -> None:
    root = drifting(tmp_path / "images")
    options = {"image_size": 32, "channels": 1, "near_duplicates": None}
    prepared = prepare(root, tmp_path / "out", group_pattern=r"(./v[0-4])_", **options)
    assert prepared.series_remarks[0].startswith(
        "Groups that are not split: 10, with 80 images; images without a group, each on its own: 112."
        " Test images with an image of their group in train: 0 of "
    )

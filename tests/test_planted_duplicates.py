"""Copies of images, planted at random into made collections: none crosses from one split to another."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from preparation import Prepared, prepare
from unit.planted import photographs, plant

CLASSES = ("ant", "bee", "cat")
IMAGES_OF_A_CLASS = 24
PLANTINGS = 20
"""Of a collection."""

SAME_PIXELS = {
    "bytes": ("PNG", "png"),
    "BMP": ("BMP", "bmp"),
    "WebP": ("WEBP", "webp"),
    "name": ("PNG", ""),
}
NEARLY = ("jpeg", "smaller", "larger", "brightness", "noise")
SPLITS: tuple[dict[str, Any], ...] = (
    {"split": "stratified"},
    {"split": "stable"},
    *({"split": split, "fold": f"{fold}/3"} for fold in (1, 2, 3) for split in ("stratified", "stable")),
)


@cache
def originals() -> NDArray[np.uint8]:
    """Returns ``(200, 176, 176, 3)``. Of much smaller ones JPEG spoils more than is nearly the same."""
    return photographs(200, 176, seed=11)


def make_collection(folder: Path, random: np.random.Generator) -> dict[str, str]:
    """Makes three classes, and plants copies under names that fall anywhere among the others.

    Copies with the same pixels have the label of the original, as else the labels would conflict;
    nearly the same ones have any, but one and the same for each original, of which there may be several.

    Returns:
        The original of each copy, by path.
    """
    chosen = random.permutation(len(originals()))[: len(CLASSES) * IMAGES_OF_A_CLASS]
    pixels: dict[str, NDArray[np.uint8]] = {}
    for place, index in enumerate(chosen.tolist()):
        path = f"{CLASSES[place % len(CLASSES)]}/{random.integers(10**9):09d}.png"
        pixels[path] = originals()[index]
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[path]).save(folder / path, compress_level=0)
    copies: dict[str, str] = {}
    label_of_near = {original: str(random.choice(CLASSES)) for original in sorted(pixels)}
    for original in random.choice(sorted(pixels), PLANTINGS).tolist():
        image = Image.fromarray(pixels[original])
        kind = str(random.choice([*SAME_PIXELS, *NEARLY]))
        name = f"{random.integers(10**9):09d}"
        if kind in SAME_PIXELS:
            format, suffix = SAME_PIXELS[kind]
            path = f"{original.split('/')[0]}/{name}" + (f".{suffix}" if suffix else "")
            image.save(folder / path, format, **({"lossless": True} if format == "WEBP" else {}))
        else:
            path = f"{label_of_near[original]}/{name}.png"
            plant(image, kind, random).save(folder / path, compress_level=0)
        copies[path] = original
    return copies


def prepare_planted(folder: Path, seed: int, **options: Any) -> tuple[Prepared, dict[str, str]]:
    random = np.random.default_rng(seed)
    copies = make_collection(folder / "images", random)
    chosen = SPLITS[seed % len(SPLITS)] | options
    split_seed = int(random.integers(2**32))
    shares = {"val_fraction": 0.3, "test_fraction": 0.3}
    prepared = prepare(
        folder / "images", folder / "out", seed=split_seed, image_size=64, **shares, **chosen
    )
    return prepared, copies


def crossing(prepared: Prepared, copies: dict[str, str]) -> list[tuple[str, str]]:
    """Returns the copies that are in another split than their originals."""
    splits = prepared.splits
    return [
        (copy, original)
        for copy, original in copies.items()
        if copy in splits and original in splits and splits[copy] != splits[original]
    ]


def check(tmp_path: Path, num_collections: int) -> None:
    num_planted = 0
    for seed in range(num_collections):
        prepared, copies = prepare_planted(tmp_path / f"{seed}", seed)
        assert crossing(prepared, copies) == []
        left_out = set(prepared.rows) - set(prepared.splits)
        # only stable splits leave images out, and only those that would cross
        assert not left_out or SPLITS[seed % len(SPLITS)]["split"] == "stable"
        assert left_out <= set(copies) | set(copies.values())
        num_planted += len(copies)
    assert num_planted == num_collections * PLANTINGS


@pytest.mark.slow
def test_of_160_planted_copies_none_crosses_splits(tmp_path: Path) -> None:
    check(tmp_path, len(SPLITS))


@pytest.mark.slow
def test_of_1000_planted_copies_none_crosses_splits(tmp_path: Path) -> None:
    check(tmp_path, 1000 // PLANTINGS)


@pytest.mark.slow
def test_dropped_copies_cross_nothing_either(tmp_path: Path) -> None:
    prepared, copies = prepare_planted(tmp_path, 0, duplicates="drop")
    assert len(prepared.splits) == len(CLASSES) * IMAGES_OF_A_CLASS
    used = set(prepared.splits)
    assert all((copy in used) + (original in used) < 2 for copy, original in copies.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"duplicates": "keep"}, {"near_duplicates": None}], ids=["keep", "exact only"]
)
def test_where_it_is_asked_for_copies_cross(tmp_path: Path, options: dict[str, Any]) -> None:
    prepared, copies = prepare_planted(tmp_path, 0, **options)
    assert crossing(prepared, copies)

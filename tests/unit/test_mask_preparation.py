"""Masks from files to batches: pairs, splits, shards and counts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from test_masks import png

from darkroom.augment.pipeline import Augmentation
from darkroom.cli import main
from darkroom.collection.collection import Collection, find_collection
from darkroom.collection.trouble import Troubles
from darkroom.config.data import DataSource
from darkroom.config.prepare import Prepare
from darkroom.dataset.info import DatasetInfo, load_info
from darkroom.dataset.shards import Shards
from darkroom.dataset.subset import Subset
from darkroom.dataset.views import EvaluationView
from darkroom.decoding.decode import PixelLayout
from darkroom.errors import UserError
from darkroom.loading.batches import Batches
from darkroom.params import load_params
from darkroom.preparation.candidates import Candidates, check_candidates, select_candidates
from darkroom.preparation.curation import curate, find_duplicates
from darkroom.preparation.decision import decide
from darkroom.preparation.ingest import IngestedImages, ingest
from darkroom.preparation.outcomes import describe_files
from darkroom.preparation.prepared_dataset import write_splits
from darkroom.preparation.prepared_manifest import write_manifest
from darkroom.reporting.tables import write_json
from darkroom.void import VOID

ROOT = Path(__file__).parents[2]
PARAMS = load_params(ROOT / "params.yaml")
TABLE = "index,name\n0,sky\n1,road\n2,car\n255,void\n"
NAMES = ["sky", "road", "car"]
SIDE = 8
LAYOUT = PixelLayout(SIDE, SIDE, 3, "stretch")

Mask = NDArray[np.uint8]


def source(root: Path, **changes: Any) -> DataSource:
    values = {name: getattr(PARAMS.data, name) for name in DataSource.model_fields}
    return DataSource(**values | {"path": str(root), **changes})


def draw_mask(number: int) -> Mask:
    """A mask with void, of one to three classes; the third is rare."""
    random = np.random.default_rng(number)
    mask = random.integers(0, 3 if number % 5 == 0 else 2, (SIDE, SIDE), dtype=np.uint8)
    mask[: number % 3, 0] = VOID
    return mask


def image_of(mask: Mask, number: int = 0) -> NDArray[np.uint8]:
    """An image that shows its mask in red, so that both can be compared after any change."""
    noise = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 2), dtype=np.uint8)
    return np.dstack([np.where(mask == VOID, 255, mask * 50).astype(np.uint8), noise])


def write(root: Path, masks: dict[str, Mask], table: str | None = TABLE) -> Path:
    for number, (name, mask) in enumerate(masks.items()):
        for folder, pixels in (("images", image_of(mask, number)), ("masks", mask)):
            path = root / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(pixels))
    if table is not None:
        (root / "classes.csv").write_text(table)
    return root


@dataclass
class Prepared:
    collection: Collection
    images: IngestedImages
    candidates: Candidates
    info: DatasetInfo
    folder: Path

    def split(self, name: str) -> Shards:
        return Shards(self.folder / name, num_classes=len(self.info.class_names))


def listed(root: Path, scratch: Path, **changes: Any) -> tuple[Collection, IngestedImages]:
    values = {"classes_file": "classes.csv" if (root / "classes.csv").exists() else None, **changes}
    collection = find_collection(source(root, **values), scratch / "cache")
    return collection, ingest(
        collection, LAYOUT, "decoded", False, scratch / "cache", 1, lambda count: None
    )


def prepared(root: Path, scratch: Path, options: Prepare = PARAMS.prepare, **changes: Any) -> Prepared:
    """What the stage does, without its report."""
    troubles, storage = Troubles(), options.storage if options.storage != "auto" else "decoded"
    values = {"classes_file": "classes.csv", **changes}
    collection = find_collection(source(root, **values), scratch / "cache", troubles)
    images = ingest(collection, LAYOUT, storage, False, scratch / "cache", 1, lambda count: None)
    candidates = select_candidates(collection, images)
    check_candidates(candidates, options, scratch / "problems.csv", troubles)
    duplicates = find_duplicates(candidates, None, lambda count: None)
    curation = curate(candidates, duplicates, "group", options.on_conflict, scratch / "d.csv", troubles)
    decision = decide(candidates, curation, duplicates, options, 0, troubles)
    troubles.refuse()
    info = write_splits(candidates, decision, scratch / "out", lambda count: None)
    write_manifest(candidates, decision, scratch / "manifest.parquet", scratch / "problems.csv")
    return Prepared(collection, images, candidates, info, scratch / "out")


def outcomes(root: Path, scratch: Path, **changes: Any) -> dict[str, tuple[str, str]]:
    """Outcome and reason of each file."""
    found = describe_files(*listed(root, scratch, **changes))
    rows = [row for table in found for row in table.to_pylist()]
    return {row["path"]: (row["outcome"], row["reason"]) for row in rows}


MANY = {f"{number:02d}": draw_mask(number) for number in range(40)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("masks"), MANY)


@pytest.mark.parametrize("storage", ["decoded", "encoded"])
def test_masks_arrive_beside_their_images(root: Path, tmp_path: Path, storage: str) -> None:
    made = prepared(root, tmp_path, PARAMS.prepare.model_copy(update={"storage": storage}))
    seen = set()
    for split in ("train", "val", "test"):
        shards = made.split(split)
        every = np.arange(len(shards))
        images, masks = shards.gather(every), shards.gather_masks(every)
        assert (shards.target, masks.shape) == ("mask", (len(shards), SIDE, SIDE, 1))
        for path, image, mask, shown in zip(shards.paths, images, masks, shards.labels, strict=True):
            expected = MANY[Path(path).stem]
            assert (mask[..., 0] == expected).all()
            assert (image[..., 0] == image_of(expected)[..., 0]).all()
            assert shown.tolist() == [bool((expected == code).any()) for code in range(3)]
            seen.add(Path(path).stem)
        pixels = [int((masks == code).sum()) for code in range(3)]
        assert list(made.info.pixels[split].values()) == pixels
        assert list(made.info.counts[split].values()) == shards.labels.sum(axis=0).tolist()
    assert seen == set(MANY)
    assert made.info.class_names == NAMES
    write_json(made.info.to_document(), tmp_path / "dataset.json")
    assert load_info(tmp_path / "dataset.json") == made.info
    assert json.loads((tmp_path / "dataset.json").read_text())["target"] == "mask"


def test_the_manifest_names_masks_and_what_they_show(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path)
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "manifest.parquet").to_pylist()}
    assert set(rows) == {f"images/{name}.png" for name in MANY} | {"classes.csv"}
    assert rows["classes.csv"]["reason"] == "the classes of the masks"
    for name, mask in MANY.items():
        row = rows[f"images/{name}.png"]
        assert row["mask"] == f"masks/{name}.png"
        assert row["label"] == "|".join(NAMES[code] for code in np.unique(mask[mask != VOID]))
        assert row["num_void"] == (mask == VOID).sum()


def test_splits_are_stratified_by_the_classes_that_masks_show(root: Path, tmp_path: Path) -> None:
    counts = prepared(root, tmp_path).info.counts
    cars = sum((mask == 2).any() for mask in MANY.values())
    assert cars == 8
    by_split = {split: counts[split]["car"] for split in counts}
    assert by_split["train"] >= 4
    assert by_split["val"] >= 1
    assert by_split["test"] >= 1


def test_groups_and_given_splits_hold_for_masks(tmp_path: Path) -> None:
    masks = {f"{name}_{frame}": draw_mask(5 * number + frame) for number, name in enumerate("abcdefghij")
             for frame in range(4)}  # fmt: skip
    made = prepared(write(tmp_path / "g", masks), tmp_path, group_pattern="images/(.*)_")
    split_of = {}
    for split in ("train", "val", "test"):
        for path in made.split(split).paths:
            split_of.setdefault(Path(path).stem[0], set()).add(split)
    assert all(len(splits) == 1 for splits in split_of.values())
    given = {f"{split}/{number}": draw_mask(5 * number) for split in ("train", "dev", "test")
             for number in range(4)}  # fmt: skip
    made = prepared(write(tmp_path / "s", given), tmp_path / "2")
    assert {name: made.info.num_images(name) for name in ("train", "val", "test")} == {
        "train": 4, "val": 4, "test": 4
    }  # fmt: skip
    assert {path.split("/")[1] for path in made.split("val").paths} == {"dev"}


def test_a_changed_mask_alone_is_read_again(tmp_path: Path) -> None:
    root = write(tmp_path / "images", {name: MANY[name] for name in ("00", "01", "02")})
    _, first = listed(root, tmp_path)
    (root / "masks" / "01.png").write_bytes(png(MANY["03"]))
    _, second = listed(root, tmp_path)
    positions = [images.positions.tolist() for images in (first, second)]
    assert [a == b for a, b in zip(*positions, strict=True)] == [True, False, True]
    assert second.masks is not None
    assert (second.masks.pixels(1) == MANY["03"]).all()


def test_same_pixels_with_different_masks_are_a_conflict(tmp_path: Path) -> None:
    root = write(tmp_path / "images", dict(list(MANY.items())[:12]))
    (root / "images" / "twin.png").write_bytes((root / "images" / "00.png").read_bytes())
    changed = MANY["00"].copy()
    changed[4, 4] = (changed[4, 4] + 1) % 3  # the same classes are shown
    (root / "masks" / "twin.png").write_bytes(png(changed))
    with pytest.raises(UserError, match="1 pair of images with the same pixels and different"):
        prepared(root, tmp_path)
    (root / "masks" / "twin.png").write_bytes(png(MANY["00"]))
    prepared(root, tmp_path)


def test_batches_move_masks_with_their_images(root: Path, tmp_path: Path) -> None:
    shards = prepared(root, tmp_path).split("train")
    changes = {"horizontal_flip": True, "vertical_flip": True, "crop_padding": 2}
    changes |= dict.fromkeys(("rotate", "translate", "scale"), 0)
    augmentation = Augmentation(PARAMS.augment.model_copy(update=changes), seed=1)
    batches = Batches(shards, torch.device("cpu"), batch_size=5)
    num_moved = 0
    for images, masks, *_ in batches.epoch(0, 1, augmentation):
        assert masks.shape == (len(images), SIDE, SIDE)
        is_known = masks != VOID
        assert (images[:, 0][is_known] == masks[is_known] * 50).all()
        num_moved += int((~is_known).sum())
    assert num_moved > 40  # the shift has uncovered edges
    every = [masks for _, masks in batches]
    assert (torch.cat(every).numpy() == shards.gather_masks(np.arange(len(shards)))[..., 0]).all()


def test_the_order_of_masks_does_not_depend_on_the_batch(root: Path, tmp_path: Path) -> None:
    shards = prepared(root, tmp_path).split("train")
    whole, resumed = (Batches(shards, torch.device("cpu"), size) for size in (len(shards), 3))
    [batch] = whole.epoch(0, 0, None)
    parts = [part.targets for part in resumed.epoch(0, 0, None, first_step=2)]
    start = len(shards) - sum(map(len, parts))
    assert (torch.cat(parts) == batch.targets[start:]).all()
    [other] = whole.epoch(1, 0, None)
    assert not (other.targets == batch.targets).all()


@pytest.mark.parametrize("crop", ["centre", "whole"])
def test_views_show_the_same_part_of_a_mask(root: Path, tmp_path: Path, crop: Any) -> None:
    prepared(root, tmp_path)
    shards = Shards(tmp_path / "out" / "val", view=EvaluationView((4, 4), crop))
    plain = Shards(tmp_path / "out" / "val")
    every = np.arange(len(shards))
    masks, stored = shards.gather_masks(every)[..., 0], plain.gather_masks(every)[..., 0]
    if crop == "centre":
        assert (masks == stored[:, 2:6, 2:6]).all()
    else:
        # halved; of two pixels that are equally close, the second
        assert (masks == stored[:, 1::2, 1::2]).all()
    subset = Subset([shards, shards], np.array([len(shards), 0, 1]))
    assert subset.masks is not None
    assert (subset.masks.gather(np.arange(3), None)[..., 0] == masks[[0, 0, 1]]).all()


# mistakes; test_bad_masks.py has the messages


def test_a_manifest_names_masks_splits_and_groups(tmp_path: Path) -> None:
    root = write(tmp_path / "images", dict(list(MANY.items())[:30]))
    splits = ["train", "train", "train", "val", "test"]
    lines = [f"images\\{n:02d}.png,masks/{n:02d}.png,{splits[n // 5 % 5]},7" for n in range(30)]
    (root / "list.csv").write_text("\n".join(["path,seg,fold,camera", *lines]))
    made = prepared(root, tmp_path, manifest="list.csv", mask_column="seg", split_column="fold")
    assert made.info.num_images("train") == 20
    shards = made.split("test")
    expected = [MANY[Path(path).stem] for path in shards.paths]
    assert (shards.gather_masks(np.arange(len(shards)))[..., 0] == expected).all()


COMBINATIONS: list[tuple[dict[str, Any], str]] = [
    ({"mask_column": "mask"}, "data.mask_column"),
    ({"manifest": "l.csv", "mask_column": "mask", "label_separator": "|"}, "data.label_separator"),
    ({"manifest": "l.csv", "mask_column": "mask", "merge_labels": {"a": "b"}}, "data.merge_labels"),
    ({"manifest": "l.csv", "classes_file": "classes.csv"}, "data.classes_file"),
    ({"masks": "none", "classes_file": "classes.csv"}, "data.classes_file"),
]


@pytest.mark.parametrize(("changes", "parameter"), COMBINATIONS)
def test_parameters_that_contradict_each_other(changes: dict[str, Any], parameter: str) -> None:
    mistakes = [name for name, _ in source(Path("data"), **changes).mistaken_combinations()]
    assert mistakes == [parameter]
    fine = {**changes, "manifest": "l.csv", "mask_column": "m", "label_separator": None}
    fine |= {"merge_labels": {}, "masks": "auto"}
    assert not list(source(Path("data"), **fine).mistaken_combinations())


def test_folders_called_images_and_masks_can_be_classes(tmp_path: Path) -> None:
    root = write(tmp_path / "data", dict(list(MANY.items())[:3]), table=None)
    collection = find_collection(source(root, masks="none"), tmp_path)
    assert collection.target == "one_class"
    assert set(collection.table["label"].to_pylist()) == {"images", "masks"}
    assert find_collection(source(root), tmp_path).target == "mask"


def test_sidecars_and_hidden_files_beside_images_are_no_mistakes(tmp_path: Path) -> None:
    root = write(tmp_path / "data", dict(list(MANY.items())[:3]))
    for name in ("images/.DS_Store", "images/00.xml", "readme.md", "masks/extra.png"):
        (root / name).write_bytes(png(MANY["00"]))
    found = outcomes(root, tmp_path)
    assert found["images/.DS_Store"][0] == "hidden"
    assert found["images/00.xml"][0] != "used"
    assert found["readme.md"][0] == "unlisted"
    assert found["masks/extra.png"] == ("unlisted", "a mask without an image images/extra.*")


# commands that need labels of images

UNSUPPORTED = (
    "darkroom {} does not support masks: it needs labels of images, and {} has one class per pixel"
)


def test_commands_that_need_labels_of_images_refuse_masks_before_any_work(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(root, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "out").rename(tmp_path / "data/prepared")
    (tmp_path / "manifest.parquet").rename(tmp_path / "data/prepared/manifest.parquet")
    write_json(made.info.to_document(), tmp_path / "data/prepared/dataset.json")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "edited.csv").write_text("path,label,new_label\nimages/00.png,sky,road\n")
    before = set(tmp_path.rglob("*"))
    for command in (["suspects"], ["learning-curve"], ["relabel", "edited.csv"]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2
        assert result.output == UNSUPPORTED.format(command[0], "the data set") + "\n"
    assert set(tmp_path.rglob("*")) == before

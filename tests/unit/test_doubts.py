"""Values that make little sense for the data: which are refused, and which are named in a sentence."""

from types import SimpleNamespace
from typing import Any

import pytest
from sections import TRAIN
from support import augment_options, train_options

from darkroom.dataset.info import DatasetInfo
from darkroom.errors import UserError
from darkroom.training.doubts import check_data, doubts


def prepared(height: int = 8, width: int = 8, num_images: int = 100) -> DatasetInfo:
    """Two classes of grey images, all to train on."""
    return DatasetInfo.model_construct(
        class_names=["a", "b"],
        labels_per_image={"train": [0, num_images]},
        input_size=(height, width),
        channels=1,
        target="one_class",
    )


def sentences(
    info: DatasetInfo, augment: dict[str, Any], weights: str = "random", **train: Any
) -> list[str]:
    config = SimpleNamespace(
        augment=augment_options(**augment),
        model=SimpleNamespace(weights=weights),
        train=train_options(**train),
    )
    batch_size = train.get("batch_size", TRAIN["batch_size"])
    return list(doubts(config, info, batch_size))  # type: ignore[arg-type]


def check_padding(padding: int, info: DatasetInfo) -> None:
    config = SimpleNamespace(augment=augment_options(crop_padding=padding), train=train_options())
    check_data(config, info)  # type: ignore[arg-type]


@pytest.mark.parametrize("padding", [0, 1, 7])
def test_a_padding_below_the_side_passes(padding: int) -> None:
    check_padding(padding, prepared(8, 12))


@pytest.mark.parametrize("padding", [8, 9, 256])
def test_a_padding_of_the_shorter_side_or_more_is_refused(padding: int) -> None:
    with pytest.raises(UserError) as refused:
        check_padding(padding, prepared(12, 8))
    assert str(refused.value) == (
        f"augment.crop_padding: {padding} can move images of 8 pixels completely out of view; it must be"
        " below 8 (usual: an eighth, 1)"
    )


def test_images_of_one_pixel_need_no_padding() -> None:
    check_padding(0, prepared(1, 1))
    with pytest.raises(UserError, match="must be below 1"):
        check_padding(1, prepared(1, 1))


UNFREEZE = [{"epoch": 2, "layers": "backbone"}]
RANDOM = "train.freeze: frozen layers keep their random weights, since model.weights is random"

DOUBTFUL: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {},
        {"batch_size": 101},
        "train.batch_size: 101 is more than the 100 training images, so that an epoch is a single step",
    ),
    (
        {"crop_padding": 5},
        {},
        "augment.crop_padding: 5 leaves less than half of many images in sight",
    ),
    (
        {"translate": 0.6},
        {},
        "augment.translate: 0.6 leaves less than half of many images in sight",
    ),
    (
        {},
        {"epochs": 10, "patience": 9},
        "train.patience: 9 never stops the training, since train.epochs is 10",
    ),
    (
        {"erase": 1.0},
        {},
        "augment.erase: 1 erases a part of every image, so that none is ever learnt whole",
    ),
    (
        {},
        {"freeze": "backbone", "unfreeze": UNFREEZE},
        RANDOM,
    ),
    (
        {},
        {"freeze": ["backbone.stem", "backbone.layer1"]},
        RANDOM,
    ),
]


@pytest.mark.parametrize(("augment", "train", "sentence"), DOUBTFUL, ids=[d[2][:30] for d in DOUBTFUL])
def test_what_makes_little_sense_is_named(
    augment: dict[str, Any], train: dict[str, Any], sentence: str
) -> None:
    assert sentences(prepared(), augment, **train) == [sentence]


@pytest.mark.parametrize(
    ("augment", "train"),
    [
        ({}, {}),
        ({}, {"batch_size": 100}),
        ({}, {"epochs": 10, "patience": 8}),
        ({"crop_padding": 4, "translate": 0.5, "erase": 0.9}, {}),
        ({}, {"weights": "default", "freeze": "backbone", "unfreeze": UNFREEZE}),
        ({}, {"weights": "models/weights/x.pth", "freeze": ["backbone.stem"]}),
        ({}, {"weights": "models/weights/x.pth", "freeze": "backbone"}),
    ],
)
def test_what_makes_sense_is_not(augment: dict[str, Any], train: dict[str, Any]) -> None:
    assert sentences(prepared(), augment, **train) == []

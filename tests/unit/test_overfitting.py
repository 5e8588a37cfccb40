"""When a training has begun to learn by heart: tables of losses made by hand."""

import pytest
from support import epoch_result

from darkroom.training.course import overfits_since


def since(train: list[float], val: list[float]) -> int | None:
    pairs = zip(train, val, strict=True)
    return overfits_since(
        [
            epoch_result(epoch=epoch, train_loss=train_loss, val_loss=val_loss)
            for epoch, (train_loss, val_loss) in enumerate(pairs, start=1)
        ]
    )


FALLS = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2]

Case = tuple[list[float], list[float], int | None]
CASES: dict[str, Case] = {
    "it rises by more than a tenth": (FALLS, [1.0, 0.8, 0.7, 0.75, 0.8, 0.85, 0.9], 3),
    "from the first epoch on": (FALLS[:4], [0.5, 0.6, 0.7, 0.8], 1),
    "two epochs since the best": (FALLS[:5], [1.0, 0.8, 0.7, 0.9, 1.0], None),
    "three epochs since the best": (FALLS[:6], [1.0, 0.8, 0.7, 0.9, 1.0, 1.1], 3),
    "it rises by less than a tenth": (FALLS[:6], [1.0, 0.8, 0.7, 0.72, 0.75, 0.78], None),
    "a mean of just a tenth": (FALLS[:4], [10.0, 10.0, 11.0, 12.0], None),
    "a mean of a little more": (FALLS[:4], [10.0, 10.0, 11.0, 12.1], 1),
    "one bad epoch of three": (FALLS[:4], [1.0, 1.0, 1.0, 1.25], None),
    "one very bad epoch of three": (FALLS[:4], [1.0, 1.0, 1.0, 1.5], 1),
    "a peak that is long past": (FALLS, [0.5, 2.0, 2.0, 0.52, 0.52, 0.52, 0.52], None),
    "it falls to the end": (FALLS, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], None),
    "a later best one": (FALLS, [0.5, 0.9, 0.9, 0.9, 0.4, 0.9, 0.9], None),
    "training rises too": ([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8], None),
    "training stands still": ([0.5, 0.5, 0.5, 0.5], [0.5, 0.6, 0.7, 0.8], None),
    "training fell, but to where it was": ([0.5, 0.3, 0.3, 0.5], [0.5, 0.6, 0.7, 0.8], None),
    "one epoch": ([1.0], [1.0], None),
    "none": ([], [], None),
}


@pytest.mark.parametrize("name", CASES)
def test_overfitting_is_seen_where_only_the_training_images_are_learnt_better(name: str) -> None:
    train, val, expected = CASES[name]
    assert since(train, val) == expected


def test_of_equal_losses_the_first_is_the_best() -> None:
    assert since(FALLS, [0.7, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7]) == 2


def test_large_losses_are_judged_by_their_ratio() -> None:
    for train, val, expected in CASES.values():
        assert since(*([2.0**20 * loss for loss in losses] for losses in (train, val))) == expected


def test_a_rise_of_a_fiftieth_of_a_nat_is_no_harm() -> None:
    assert since(FALLS[:4], [0.01, 0.029, 0.029, 0.029]) is None
    assert since(FALLS[:4], [0.01, 0.031, 0.031, 0.031]) == 1

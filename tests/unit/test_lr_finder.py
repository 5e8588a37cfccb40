"""The range test: on a problem whose best learning rate is known, and on a small network."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import make_spec, plain_loss, train_options, two_brightnesses, weights_hash
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.loading.batches import TrainBatch
from darkroom.models.factory import make_classifier
from darkroom.training import lr_finder
from darkroom.training.lr_finder import MAX_LR, MIN_LR, RangeTest, range_test, settle_lr
from darkroom.training.state import TrainingState

OPTIONS = {"lr": MIN_LR, "schedule": "constant", "warmup_fraction": None}


def batches(epoch: int, step: int, size: int = 16) -> list[TrainBatch]:
    images, labels = two_brightnesses(64, seed=epoch)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    targets = torch.from_numpy(labels)
    return [TrainBatch(*part) for part in zip(pixels.split(size), targets.split(size), strict=True)]


def range_tested(make: Any = None, num_steps: int = 60, **changes: Any) -> tuple[RangeTest, nn.Module]:
    torch.manual_seed(0)
    model = make() if make else make_classifier(make_spec())
    options = train_options(**{**OPTIONS, **changes})
    state = TrainingState(model, options, num_steps=4)
    return range_test(state, model, batches, plain_loss(options), options, num_steps), model


def test_rates_rise_by_one_factor_from_the_least_to_the_most() -> None:
    found, _ = range_tested()
    assert found.lrs[0] == MIN_LR
    ratios = [b / a for a, b in zip(found.lrs[:-1], found.lrs[1:], strict=True)]
    assert ratios == pytest.approx([(MAX_LR / MIN_LR) ** (1 / 59)] * len(ratios))
    assert len(found.losses) == len(found.lrs)


def test_the_suggestion_learns_and_lies_between_too_little_and_too_much() -> None:
    found, _ = range_tested(num_steps=100)
    assert 1e-3 < found.suggestion <= 1
    assert min(found.losses) < 0.5 * found.losses[0]


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_least_loss_to_two_digits() -> None:
    found = RangeTest([0.001, 0.01234, 0.1], [0.7, 0.3, 0.9])
    assert found.suggestion == 0.0012
    assert RangeTest([0.001, 0.01234, 0.1], [0.7, 0.8, 0.2]).suggestion == 0.01


def test_the_test_ends_where_the_loss_has_blown_up() -> None:
    class Explodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 2)
            self.calls = 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            return self.head(images.flatten(1) / 255) * (1 if self.calls <= 10 else 10.0**self.calls)

    found, model = range_tested(Explodes, num_steps=60)
    assert isinstance(model, Explodes)
    assert 10 <= len(found.lrs) < 20
    assert model.calls < 20


def test_a_loss_that_is_no_number_from_the_beginning_is_said() -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.flatten(1).float()) * math.nan

    with pytest.raises(UserError, match="not finite from the first step"):
        range_tested(Bad)


def test_the_same_test_gives_the_same_numbers_and_another_seed_others() -> None:
    (one, first), (two, second) = range_tested(), range_tested()
    assert one == two
    assert weights_hash(first) == weights_hash(second)
    torch.manual_seed(1)
    model = make_classifier(make_spec())
    options = train_options(**OPTIONS)
    other = range_test(
        TrainingState(model, options, 4), model, batches, plain_loss(options), options, 60
    )
    assert other != one


def test_groups_keep_their_ratios() -> None:
    seen: list[list[float]] = []

    def note(*_: object) -> None:
        seen.append([group["lr"] for group in state.optimizer.param_groups])

    torch.manual_seed(0)
    model = make_classifier(make_spec())
    options = train_options(**OPTIONS, lr_factors={"backbone.*": 0.1})
    state = TrainingState(model, options, 4)
    model.register_forward_hook(note)
    range_test(state, model, batches, plain_loss(options), options, 20)
    assert len(seen) > 10
    for step, rates in enumerate(seen):
        base = MIN_LR * (MAX_LR / MIN_LR) ** (step / 19)
        assert {round(rate / base, 6) for rate in rates} == {0.1, 1.0}


def job(lr: Any) -> Any:
    return SimpleNamespace(config=SimpleNamespace(train=SimpleNamespace(lr=lr)))


def test_auto_is_found_once_and_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def find(job: Any) -> RangeTest:
        calls.append(job)
        return RangeTest([0.1, 1.0], [2.0, 1.0])

    monkeypatch.setattr(lr_finder, "find_lr", find)
    assert settle_lr(job("auto"), tmp_path) == 0.1
    assert settle_lr(job("auto"), tmp_path) == 0.1
    assert len(calls) == 1
    assert settle_lr(job(0.25), tmp_path) == 0.25
    assert len(calls) == 1
    kept = (tmp_path / "lr.json").read_bytes()
    for number, damaged in enumerate((kept.replace(b"0.1", b"0.9"), kept[:-3], b"\xff", b""), start=2):
        (tmp_path / "lr.json").write_bytes(damaged)
        assert settle_lr(job("auto"), tmp_path) == 0.1
        assert len(calls) == number
        assert (tmp_path / "lr.json").read_bytes() == kept

"""The training loop, its parts, and that equal inputs give equal weights."""

import copy
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from effort import at_least, only_with_all
from sklearn.metrics import accuracy_score, f1_score, log_loss
from support import (
    augment_options,
    make_spec,
    one_cycle,
    output_of,
    plain_loss,
    start_python,
    train_options,
    two_brightnesses,
    weights_hash,
    write_shards,
)
from torch import Tensor, nn

from darkroom.augment.pipeline import Augmentation
from darkroom.compute.determinism import INSTRUCTION_SET
from darkroom.compute.device import select_device
from darkroom.compute.environment import (
    PACKAGES,
    describe_environment,
    fingerprint,
    write_environment,
)
from darkroom.compute.inference import compute_logits
from darkroom.config.train import Train
from darkroom.dataset.shards import Shards
from darkroom.errors import UserError
from darkroom.loading.batches import Batch, Batches, TrainBatch
from darkroom.models.factory import make_classifier
from darkroom.training.course import EpochResult
from darkroom.training.engine import fit
from darkroom.training.state import TrainingState

CPU = torch.device("cpu")


def make_batches(num_batches: int, images_each: int = 8, seed: int = 0) -> list[Batch]:
    """Batches of grey 8 x 8 images of two brightnesses."""
    images, labels = two_brightnesses(num_batches * images_each, seed)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return list(zip(pixels.split(images_each), torch.from_numpy(labels).split(images_each), strict=True))


def fitted(
    model: nn.Module, batches: list[Batch], options: Train, val: Any = None, seed: int = 0
) -> list[EpochResult]:
    epochs = fit_model(model, lambda _: to_learn(batches), len(batches), val or batches, options, seed)
    return list(epochs)


def fit_model(
    model: nn.Module,
    train_batches: Callable[[int], Iterable[TrainBatch]],
    num_steps: int,
    val_batches: Iterable[Batch],
    options: Train,
    seed: int,
) -> Iterator[EpochResult]:
    """``fit`` from the beginning."""
    state = TrainingState(model, options, num_steps)
    loss = plain_loss(options)
    yield from fit(
        state,
        lambda epoch, _: train_batches(epoch),
        lambda _: val_batches,
        loss,
        options,
        seed,
    )


def to_learn(batches: list[Batch]) -> list[TrainBatch]:
    return [TrainBatch(*batch, None) for batch in batches]


# learning


def learn(folder: Path, flip_every_other_label: bool) -> list[EpochResult]:
    images, labels = two_brightnesses(64)
    if flip_every_other_label:
        labels = np.where(np.arange(64) // 2 % 2 == 0, labels, 1 - labels)
    train = Batches(Shards(write_shards(folder / "train", images, labels)), CPU, 16)
    val = Batches(Shards(write_shards(folder / "val", *two_brightnesses(32, seed=1))), CPU, 16)
    augmentation = Augmentation(augment_options(crop_padding=1, horizontal_flip=True), 0)
    torch.manual_seed(0)
    model = make_classifier(make_spec(dropout=0.1))
    options = train_options(epochs=4, batch_size=16)
    return list(
        fit_model(
            model, lambda epoch: train.epoch(0, epoch, augmentation), train.num_steps, val, options, 0
        )
    )


def test_fit_learns_to_tell_dark_from_light(tmp_path: Path) -> None:
    results = learn(tmp_path, flip_every_other_label=False)
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert results[-1].val_f1_macro == results[-1].val_accuracy == 1.0
    assert results[-1].train_loss < 0.5 * results[0].train_loss
    assert results[-1].is_kept


def test_fit_learns_nothing_from_labels_that_mean_nothing(tmp_path: Path) -> None:
    results = learn(tmp_path, flip_every_other_label=True)
    assert results[-1].val_f1_macro < 0.9
    assert results[-1].train_loss > 0.5


# one step after the other, against the formulas


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    num_classes = logits.shape[1]
    wanted = torch.full_like(logits, smoothing / num_classes)
    wanted[torch.arange(len(targets)), targets] += 1 - smoothing
    return -(wanted * (logits - logits.logsumexp(dim=1, keepdim=True))).sum(dim=1).mean()


def sgd_step(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    grad = grad + decay * p
    if options.momentum:
        state["velocity"] = options.momentum * state.get("velocity", 0) + grad
        grad = grad + options.momentum * state["velocity"]
    p -= lr * grad


def adamw_step(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    state["step"] = step = state.get("step", 0) + 1
    state["first"] = 0.9 * state.get("first", 0) + 0.1 * grad
    state["second"] = 0.999 * state.get("second", 0) + 0.001 * grad**2
    first, second = state["first"] / (1 - 0.9**step), state["second"] / (1 - 0.999**step)
    p -= lr * decay * p + lr * first / (second.sqrt() + 1e-8)


def train_by_hand(
    model: nn.Module, batches: list[Batch], options: Train, decays: Callable[[Tensor], bool]
) -> None:
    """One epoch by the formulas, for a model without dropout."""
    model.train()
    parameters = list(model.parameters())
    states: list[dict] = [{} for _ in parameters]
    update = sgd_step if options.optimizer == "sgd" else adamw_step
    for step, (images, targets) in enumerate(batches):
        lr = options.lr
        if options.warmup_fraction is not None:
            lr = one_cycle(step, len(batches), options.lr, options.warmup_fraction)
        loss = smoothed_cross_entropy(model(images), targets, options.label_smoothing)
        grads = torch.autograd.grad(loss, parameters)
        if options.clip_norm is not None:
            norm = math.sqrt(sum(float((grad**2).sum()) for grad in grads))
            grads = [grad * min(1.0, options.clip_norm / norm) for grad in grads]
        if options.clip_value is not None:
            grads = [grad.clamp(-options.clip_value, options.clip_value) for grad in grads]
        with torch.no_grad():
            for p, grad, state in zip(parameters, grads, states, strict=True):
                update(p, grad, state, lr, options.weight_decay if decays(p) else 0.0, options)


PLAIN: dict[str, Any] = {
    "epochs": 1,
    "weight_decay": 0.0,
    "momentum": 0.0,
    "schedule": "constant",
    "warmup_fraction": None,
}
LOOPS: dict[str, dict[str, Any]] = {
    "nesterov": {"momentum": 0.9},
    "weight decay": {"weight_decay": 0.1},
    "label smoothing": {"label_smoothing": 0.2},
    "clipped": {"clip_norm": 0.05},
    "clipped values": {"clip_value": 0.02},
    "one cycle": {"schedule": "one_cycle", "warmup_fraction": 0.5},
    "adamw": {"optimizer": "adamw", "momentum": None, "lr": 0.01},
    "adamw with decay": {"optimizer": "adamw", "momentum": None, "weight_decay": 0.5},
    "all": {
        "momentum": 0.8,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "clip_norm": 0.5,
        "schedule": "one_cycle",
        "warmup_fraction": 0.6,
    },
}


def is_weight(parameter: Tensor) -> bool:
    return parameter.ndim > 1


def farthest(model: nn.Module, other: nn.Module) -> float:
    """The largest difference of a parameter."""
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.fixture
def exact_model() -> nn.Module:
    """In float64, so that another order of sums does not hide a wrong formula."""
    torch.manual_seed(0)
    return make_classifier(make_spec()).double()


@pytest.mark.parametrize("name", LOOPS)
def test_three_steps_equal_the_formulas(name: str, exact_model: nn.Module) -> None:
    batches = make_batches(3)
    options = train_options(**{**PLAIN, **LOOPS[name]})
    plain = train_options(**PLAIN)
    trained, by_hand, by_hand_plainly = (copy.deepcopy(exact_model) for _ in range(3))
    fitted(trained, batches, options)
    train_by_hand(by_hand, batches, options, is_weight)
    train_by_hand(by_hand_plainly, batches, plain, is_weight)
    assert farthest(trained, exact_model) > 1e-3
    assert farthest(trained, by_hand) < 1e-7
    assert farthest(trained, by_hand_plainly) > 1e-4


def test_norms_and_biases_are_not_decayed(exact_model: nn.Module) -> None:
    batches = make_batches(3)
    options = train_options(**{**PLAIN, "weight_decay": 0.1})
    trained, all_decayed = copy.deepcopy(exact_model), copy.deepcopy(exact_model)
    fitted(trained, batches, options)
    train_by_hand(all_decayed, batches, options, lambda _: True)
    assert farthest(trained, all_decayed) > 1e-3


def test_an_epoch_reports_the_rate_of_its_last_step() -> None:
    options = train_options(epochs=3)
    model = make_classifier(make_spec())
    reported = [result.lr for result in fitted(model, make_batches(4), options)]
    assert reported == pytest.approx([one_cycle(step, 12, 0.05, 0.3) for step in (3, 7, 11)])


# what an epoch reports


class LinearModel(nn.Module):
    """Has no state but its weights, so that its loss on a batch can be calculated afterwards."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images)


def uneven_batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 4, generator=generator)
    targets = torch.randint(0, 3, (20,), generator=generator)
    return list(zip(images.split((11, 8, 1)), targets.split((11, 8, 1)), strict=True))


def test_losses_and_scores_are_means_over_images_whatever_the_batches() -> None:
    torch.manual_seed(0)
    model = LinearModel()
    batches = uneven_batches()
    images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    options = train_options(epochs=1, lr=1e-9, label_smoothing=0.3)
    [result] = fitted(model, batches, options)
    logits = model(images).detach()
    assert result.train_loss == pytest.approx(
        float(F.cross_entropy(logits, targets, label_smoothing=0.3)), rel=1e-5
    )
    probabilities = logits.double().softmax(dim=1)
    preds = probabilities.argmax(dim=1)
    assert result.val_loss == pytest.approx(log_loss(targets, probabilities), rel=1e-5)
    assert result.val_accuracy == pytest.approx(accuracy_score(targets, preds))
    assert result.val_f1_macro == pytest.approx(f1_score(targets, preds, average="macro"))
    over_batches = np.mean([float(F.cross_entropy(model(x), t).detach()) for x, t in batches])
    assert result.val_loss != pytest.approx(over_batches, rel=1e-3)


class ScriptedValidation:
    """Validation whose labels are, epoch by epoch, right for a given number of ten images."""

    def __init__(self, num_right: list[int]) -> None:
        self._num_right = iter(num_right)

    def __iter__(self) -> Iterator[Batch]:
        right = next(self._num_right)
        targets = torch.arange(10) % 2
        images = F.one_hot(targets, 4).float() * 100
        yield images, torch.where(torch.arange(10) < right, targets, 1 - targets)


def test_an_image_of_weight_two_teaches_as_much_as_two_images() -> None:
    [(images, targets), *_] = uneven_batches()
    once, twice = torch.arange(11), torch.tensor([0, 0, *range(1, 11)])
    weights = torch.tensor([2.0] + [1.0] * 10)

    def learnt(batch: TrainBatch) -> Tensor:
        torch.manual_seed(0)
        model = LinearModel()
        options = train_options(epochs=1, momentum=0.0, label_smoothing=0.1)
        list(fit_model(model, lambda _: [batch], 1, [(images, targets)], options, 0))
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    weighted = learnt(TrainBatch(images, targets, weights / weights.mean()))
    doubled = learnt(TrainBatch(images[twice], targets[twice], None))
    torch.testing.assert_close(weighted, doubled)
    plain = learnt(TrainBatch(images[once], targets[once], None))
    assert not torch.allclose(weighted, plain)


def untaught(val: Iterable[Batch], num_classes: int = 2, **options: Any) -> list[EpochResult]:
    """Trains a model that passes its first inputs on as logits, and learns next to nothing."""
    model = LinearModel(num_classes)
    nn.init.eye_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    train = [(torch.zeros(2, 4), torch.tensor([0, 1]))]
    return fitted(model, train, train_options(lr=1e-9, **options), val=val)


@pytest.mark.parametrize(
    ("num_right", "best", "kept"),
    [
        ([6, 8, 4, 8, 9], [1, 1, 0, 0, 1], [1, 1, 0, 1, 1]),
        ([10, 10, 10], [1, 0, 0], [1, 1, 1]),
        ([8, 6, 4], [1, 0, 0], [1, 0, 0]),
        ([8, 7, 4], [1, 0, 0], [1, 1, 0]),  # one of ten images is within an error of 0.13
        ([0, 0, 2], [1, 0, 1], [1, 1, 1]),
    ],
)
def test_the_latest_epoch_within_one_error_of_the_highest_f1_is_kept(
    num_right: list[int], best: list[int], kept: list[int]
) -> None:
    results = untaught(ScriptedValidation(num_right), epochs=len(num_right))
    assert [result.val_accuracy for result in results] == [right / 10 for right in num_right]
    assert [result.is_best for result in results] == best
    assert [result.is_kept for result in results] == kept
    assert all(0 <= result.val_f1_standard_error < 0.2 for result in results)


@pytest.mark.parametrize(
    ("num_right", "patience", "num_epochs"),
    [
        ([7, 7, 7, 7], 1, 2),  # an equal score is not a better one
        ([7, 7, 7, 7], 2, 3),
        ([7, 7, 8, 8], 2, 4),
        ([7, 7, 8, 8], None, 4),
        ([6, 7, 8, 9], 1, 4),
        ([8, 7, 9, 9], 1, 2),  # one that is kept is not better either
        ([10, 10, 10, 10], 3, 4),
    ],
)
def test_only_a_higher_f1_resets_patience(
    num_right: list[int], patience: int | None, num_epochs: int
) -> None:
    results = untaught(ScriptedValidation(num_right), epochs=4, patience=patience)
    assert len(results) == num_epochs


def test_plateau_lowers_the_rate_by_the_validation_loss() -> None:
    val = [(torch.eye(4)[:2], torch.tensor([0, 1]))]
    schedule = {"schedule": "plateau", "warmup_fraction": None, "decay_epochs": 1, "decay_factor": 0.5}
    results = untaught(val, epochs=6, **schedule)
    assert [result.lr / 1e-9 for result in results] == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25])


WEATHER = {
    1: [[30, 0, 0, 0], [0, 20, 1, 0], [2, 0, 23, 0], [1, 0, 1, 33]],
    3: [[20, 10, 0, 0], [0, 20, 1, 0], [2, 0, 23, 0], [1, 0, 1, 33]],
    6: [[28, 1, 0, 1], [0, 21, 0, 0], [1, 0, 22, 2], [0, 2, 0, 33]],
}
"""Confusions on 111 photographs by epoch, where a real training kept its first epoch."""


def weather() -> Iterator[Iterable[Batch]]:
    for epoch, (right, wrong) in {1: (1.24, 1.24), 3: (2, 1), 6: (2.8, 0.1)}.items():
        counts = torch.tensor(WEATHER[epoch])
        true, predicted = counts.nonzero().repeat_interleave(counts[counts > 0], dim=0).unbind(dim=1)
        confidence = torch.where(true == predicted, right, wrong)[:, None]
        yield [(confidence * F.one_hot(predicted, 4).float(), true)]


def test_a_hardly_trained_epoch_is_not_kept_for_two_images_of_111() -> None:
    class Validation:
        epochs = weather()

        def __iter__(self) -> Iterator[Batch]:
            return iter(next(self.epochs))

    first, second, last = untaught(Validation(), num_classes=4, epochs=3)
    assert (round(first.val_f1_macro, 4), round(first.val_loss, 2)) == (0.9546, 0.68)
    assert (round(last.val_f1_macro, 4), round(last.val_loss, 2)) == (0.9371, 0.25)
    assert first.val_f1_standard_error == pytest.approx(0.021, abs=0.002)
    assert [epoch.is_best for epoch in (first, second, last)] == [True, False, False]
    assert [epoch.is_kept for epoch in (first, second, last)] == [True, False, True]


def test_the_standard_error_is_of_the_trainings_seed() -> None:
    batches = uneven_batches()
    errors = [
        fitted(LinearModel(), batches, train_options(epochs=1, lr=1e-9), seed=seed)[0] for seed in (0, 1)
    ]
    assert errors[0].val_f1_standard_error != errors[1].val_f1_standard_error


@pytest.mark.parametrize("where", ["train", "val"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_advice(where: str, value: float) -> None:
    good = [(torch.ones(4, 4), torch.tensor([0, 1, 2, 0]))]
    bad = [(torch.full((4, 4), value), good[0][1])]
    train, val = (bad, good) if where == "train" else (good, bad)
    options = train_options(epochs=3, lr=0.125)
    epochs = fit_model(
        LinearModel(),
        lambda epoch: to_learn(train if epoch == 1 or where == "val" else good),
        1,
        val,
        options,
        0,
    )
    if where == "train":
        next(epochs)
    with pytest.raises(UserError) as refused:
        next(epochs)
    message = str(refused.value)
    assert f"epoch {2 if where == 'train' else 1}" in message
    assert "train.lr (0.125)" in message
    assert "train.clip_norm" in message


def test_batches_that_are_fewer_or_more_than_announced_are_an_error() -> None:
    batches = uneven_batches()
    for announced in (2, 4):
        with pytest.raises(ValueError, match="zip"):
            next(
                fit_model(
                    LinearModel(), lambda _: to_learn(batches), announced, batches, train_options(), 0
                )
            )


def test_logits_keep_the_order_and_nothing_is_learned() -> None:
    torch.manual_seed(0)
    model = make_classifier(make_spec(dropout=0.5))
    before = weights_hash(model)
    batches = make_batches(3)
    logits, targets = compute_logits(model, iter(batches))
    assert weights_hash(model) == before
    assert not logits.requires_grad
    with torch.no_grad():
        expected = model.eval()(torch.cat([images for images, _ in batches]))
    assert torch.allclose(logits, expected, atol=1e-6)
    assert targets.tolist() == [0, 1] * 12


# dropout


class MaskRecorder(nn.Module):
    """Notes what dropout draws in training."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.masks: list[list[float]] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.masks.append(F.dropout(torch.ones(64), 0.5).tolist())
        return self.weight.expand(len(images), 2)


def masks(seed: int = 0, num_steps: int = 3, disturbed: bool = False) -> list[list[float]]:
    """The masks of two epochs."""
    model = MaskRecorder()
    batch = (torch.zeros(2, 1), torch.tensor([0, 1]))

    def batches(epoch: int) -> Iterator[TrainBatch]:
        for step in range(num_steps):
            if disturbed:
                torch.manual_seed(1000 * epoch + step)
                torch.rand(step + 1)
            yield TrainBatch(*batch, None)

    list(fit_model(model, batches, num_steps, [batch], train_options(), seed))
    return model.masks


def test_dropout_depends_on_seed_epoch_and_step_alone() -> None:
    drawn = masks()
    assert masks(disturbed=True) == drawn
    longer = masks(num_steps=5)
    assert longer[:3] + longer[5:8] == drawn


def test_dropout_differs_between_steps_epochs_and_seeds() -> None:
    drawn = masks() + masks(seed=1) + masks(seed=2**32 - 1)
    assert len({tuple(mask) for mask in drawn}) == len(drawn) == 18


def test_the_seed_of_fit_reaches_nothing_but_dropout() -> None:
    hashes = {}
    for dropout in (0.0, 0.5):
        for seed in (0, 1):
            torch.manual_seed(0)
            model = make_classifier(make_spec(dropout=dropout))
            fitted(model, make_batches(3), train_options(), seed=seed)
            hashes[dropout, seed] = weights_hash(model)
    assert hashes[0.0, 0] == hashes[0.0, 1]
    assert hashes[0.5, 0] != hashes[0.5, 1]


# the same bytes

TRAIN = """
import json, os, sys
from pathlib import Path
from darkroom.compute.determinism import INSTRUCTION_SET, instruction_set, set_determinism

early = "torch" in sys.modules
set_determinism(0, 1)
import torch
from support import augment_options, make_spec, plain_loss, train_options, weights_hash
from darkroom.augment.pipeline import Augmentation
from darkroom.loading.batches import Batches
from darkroom.dataset.shards import Shards
from darkroom.models.factory import make_classifier
from darkroom.training.engine import fit
from darkroom.training.state import TrainingState


def train(data="plain", seed=0, dropout=0.1, augment={}, workers=0, num_threads=1, **options):
    set_determinism(seed, num_threads)
    options = train_options(**options)
    augmentation = Augmentation(augment_options(**{"crop_padding": 1, **augment}), seed)
    batches = Batches(
        Shards(Path(data)), torch.device("cpu"), options.batch_size, workers, augmentation.needs_host
    )
    state = TrainingState(make_classifier(make_spec(dropout=dropout)), options, batches.num_steps)
    epochs = fit(
        state,
        lambda epoch, step: batches.epoch(seed, epoch, augmentation, step),
        lambda epoch: batches,
        plain_loss(options),
        options,
        seed,
    )
    for _ in epochs:
        pass
    return weights_hash(state.evaluated_model)


def flags():
    return [
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        torch.get_num_threads(),
        torch.initial_seed(),
    ]


if __name__ != "__main__":
    sys.exit()  # a worker process, which imports this script

hashes = {name: train(**changes) for name, changes in json.loads(sys.argv[1]).items()}
variables = [*INSTRUCTION_SET, "GOMP_SPINCOUNT", "CUBLAS_WORKSPACE_CONFIG"]
answer = {
    "hashes": hashes,
    "torch was there before": early,
    "computes with": instruction_set(),
    "variables": {name: os.environ.get(name) for name in variables},
    "flags": flags(),
}
set_determinism(7, 1, deterministic=False)
print(json.dumps({**answer, "fast flags": flags()}))
"""

VARIANTS: dict[str, dict[str, Any]] = {
    "another seed": {"seed": 1},
    "another lr": {"lr": 0.0500001},
    "a flipped label": {"data": "flipped_label"},
    "a changed pixel": {"data": "changed_pixel"},
    "another batch size": {"batch_size": 11},
    "another dropout": {"dropout": 0.2},
    "another crop padding": {"augment": {"crop_padding": 2}},
    "mirrored": {"augment": {"horizontal_flip": True}},
    "brightened": {"augment": {"brightness": 0.1}},
    "mixed": {"augment": {"mixup": 0.2}},
    "an epoch more": {"epochs": 3},
    "another momentum": {"momentum": 0.8},
    "another weight decay": {"weight_decay": 0.0006},
    "another warmup": {"warmup_fraction": 0.4},
    "smoothed labels": {"label_smoothing": 0.1},
    "clipped": {"clip_norm": 0.1},
    "another schedule": {"schedule": "constant", "warmup_fraction": None},
    "another optimizer": {"optimizer": "adamw", "momentum": None},
    "averaged": {"ema_decay": 0.9},
    "in parts": {"micro_batches": 2},
    "less precise": {"precision": "bfloat16"},
}
SAME: dict[str, dict[str, Any]] = {
    "again": {},
    "stored encoded": {"data": "encoded"},
    "decoded by 2 workers": {"data": "encoded", "workers": 2},
}
"""Changes of what must not matter."""
SAME_SLOWLY: dict[str, dict[str, Any]] = {"decoded by 3 workers": {"data": "encoded", "workers": 3}}
POLICY: dict[str, dict[str, Any]] = {
    f"policy of {workers} workers": {"augment": {"policy": "trivialaugment"}, "workers": workers}
    for workers in (0, 2)
}


def write_data(folder: Path) -> None:
    images, labels = two_brightnesses(32)
    write_shards(folder / "plain", images, labels)
    write_shards(folder / "flipped_label", images, np.where(np.arange(32) == 5, 1 - labels, labels))
    changed = images.copy()
    changed[5, 3, 4] += 1
    write_shards(folder / "changed_pixel", changed, labels)
    write_shards(folder / "encoded", images, labels, "encoded")


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes that began in two folders say of their trainings."""
    folders = [tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("elsewhere") / "deeper"]
    jobs = [
        {"plain": {}, **VARIANTS, **SAME},
        {"another first": {"seed": 3}, "plain": {}},
    ]
    # the second has settings that must not get through
    environs = [
        {"PYTHONHASHSEED": "1"},
        {
            "PYTHONHASHSEED": "2",
            "ATEN_CPU_CAPABILITY": "default",
            "GOMP_SPINCOUNT": "77",
            "TZ": "Asia/Tokyo",
        },
    ]
    processes = []
    for folder, job, environ in zip(folders, jobs, environs, strict=True):
        write_data(folder)
        processes.append(start_python(TRAIN, json.dumps(job), cwd=folder, **environ))
    return [json.loads(output_of(process)) for process in processes]


@pytest.mark.slow
def test_two_processes_in_two_folders_give_the_same_weights(trainings: list[dict]) -> None:
    here, elsewhere = (training["hashes"] for training in trainings)
    assert here["plain"] == elsewhere["plain"]
    assert elsewhere["another first"] != here["plain"]


@pytest.mark.slow
@pytest.mark.parametrize("change", SAME)
def test_what_must_not_matter_does_not(change: str, trainings: list[dict]) -> None:
    assert trainings[0]["hashes"][change] == trainings[0]["hashes"]["plain"]


@pytest.mark.slow
@only_with_all
def test_more_processes_give_the_same_weights(tmp_path: Path, trainings: list[dict]) -> None:
    write_data(tmp_path)
    jobs: list[dict] = [{"plain": {}}] * at_least(1, 8)
    jobs += [{"plain": {}, **SAME_SLOWLY}, {"plain": {}, **POLICY}]
    for job in jobs:
        answer = json.loads(output_of(start_python(TRAIN, json.dumps(job), cwd=tmp_path)))
        hashes = answer["hashes"]
        policies = {hashes.pop(name) for name in POLICY if name in hashes}
        assert set(hashes.values()) == {trainings[0]["hashes"]["plain"]}
        assert len(policies) < 2
        assert trainings[0]["hashes"]["plain"] not in policies


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_change_gives_other_weights(variant: str, trainings: list[dict]) -> None:
    hashes = trainings[0]["hashes"]
    assert hashes[variant] != hashes["plain"]


@pytest.mark.slow
def test_all_changes_give_weights_of_their_own(trainings: list[dict]) -> None:
    hashes = trainings[0]["hashes"]
    assert len({hashes[variant] for variant in VARIANTS}) == len(VARIANTS)


def cpu_has_avx2() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and cpuinfo.exists() and "avx2" in cpuinfo.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not cpu_has_avx2(), reason="needs an x86-64 CPU with AVX2")
def test_torch_computes_with_avx2_whatever_the_environment_says(trainings: list[dict]) -> None:
    for training in trainings:
        assert training["torch was there before"] is False
        assert training["computes with"] == "avx2"
        assert {name: training["variables"][name] for name in INSTRUCTION_SET} == INSTRUCTION_SET


@pytest.mark.slow
def test_determinism_is_set_and_can_be_left_off(trainings: list[dict]) -> None:
    for training in trainings:
        assert training["flags"] == [True, False, False, 1, training["flags"][-1]]
        assert training["fast flags"] == [False, False, True, 1, 7]
        assert training["variables"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.slow
def test_a_spin_count_of_the_users_is_kept(trainings: list[dict]) -> None:
    ours, users = (training["variables"]["GOMP_SPINCOUNT"] for training in trainings)
    assert ours == os.environ.get("GOMP_SPINCOUNT", "10000")
    assert users == "77"


# the device and the environment


def have(monkeypatch: pytest.MonkeyPatch, *devices: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)


@pytest.mark.parametrize(
    ("devices", "chosen"),
    [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("mps", "cuda"), "cuda")],
)
def test_auto_takes_the_best_device(
    devices: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, *devices)
    assert select_device("auto").type == chosen
    assert select_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("wanted", "devices", "listed"),
    [("cuda", (), "only cpu"), ("mps", (), "only cpu"), ("mps", ("cuda",), "only cuda, cpu")],
)
def test_a_device_that_is_not_there_is_refused(
    wanted: str, devices: tuple[str, ...], listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, *devices)
    with pytest.raises(UserError, match=f"DARKROOM_DEVICE={wanted}.*{listed}"):
        select_device(wanted)
    have(monkeypatch, wanted)
    assert select_device(wanted).type == wanted


def test_the_environment_names_device_and_packages() -> None:
    environment = describe_environment(CPU)
    assert environment["device"] == "cpu"
    assert torch.__version__.startswith(environment["torch"])  # the build comes after a plus
    assert set(PACKAGES) < set(environment)


def test_the_fingerprint_depends_on_what_is_in_the_environment_not_on_its_order() -> None:
    environment = describe_environment(CPU)
    backwards = dict(reversed(environment.items()))
    assert fingerprint(backwards) == fingerprint(environment)
    for name in environment:
        assert fingerprint({**environment, name: "another"}) != fingerprint(environment)


def test_an_equal_environment_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    environment = describe_environment(CPU)
    write_environment(environment, path)
    assert json.loads(path.read_text()) == {"fingerprint": fingerprint(environment), **environment}
    os.utime(path, ns=(0, 0))
    write_environment(environment, path)
    assert path.stat().st_mtime_ns == 0
    write_environment({**environment, "torch": "another"}, path)
    assert path.stat().st_mtime_ns > 0
    assert json.loads(path.read_text())["torch"] == "another"

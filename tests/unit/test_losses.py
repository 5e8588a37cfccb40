"""Losses against torch's and torchvision's own, tables made by hand, and finite differences."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from support import train_options
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from darkroom.errors import UserError
from darkroom.loading.batches import TrainBatch
from darkroom.training.losses import Loss, losses_of, make_loss
from darkroom.training.targets import one_class, several_labels

CPU = torch.device("cpu")
COUNTS = (60, 30, 10)
NAMES = ("cat", "dog", "horse")
WEIGHTS: dict[str, Any] = {"none": None, "balanced": "balanced", "given": {"dog": 3.0, "horse": 0.5}}
SMOOTHINGS = (0.0, 0.1)

TABLE = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]).log()
"""Logits whose softmax is readable."""
TABLE_TARGETS = torch.tensor([0, 2, 2])


def loss_of(
    name: str, names: tuple[str, ...] = NAMES, counts: tuple[int, ...] = COUNTS, **changes: Any
) -> Loss:
    """A loss for images of one label."""
    gamma = 2.0 if name == "focal" else None
    options = train_options(**{"loss": name, "focal_gamma": gamma, **changes})
    return make_loss(one_class, options, names, counts, sum(counts), CPU)


def several(name: str, num_images: int = 100, **changes: Any) -> Loss:
    """A loss for images of several labels."""
    gamma = 2.0 if name == "focal" else None
    options = train_options(**{"loss": name, "focal_gamma": gamma, **changes})
    return make_loss(several_labels, options, NAMES, COUNTS, num_images, CPU)


def random_logits(num_images: int = 40, num_classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_images, num_classes, generator=generator)
    return logits, torch.randint(num_classes, (num_images,), generator=generator)


def random_labels(num_images: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    logits, _ = random_logits(num_images, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    return logits, torch.randint(2, logits.shape, generator=generator).float()


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    leaf = logits.detach().clone().requires_grad_()
    loss(leaf).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def balanced() -> Tensor:
    names = np.arange(3)
    return torch.tensor(compute_class_weight("balanced", classes=names, y=names.repeat(COUNTS))).float()


def given() -> Tensor:
    """{dog: 3, horse: 0.5}, divided by their mean over the training images."""
    return torch.tensor([1.0, 3.0, 0.5]) / ((60 * 1 + 30 * 3 + 10 * 0.5) / 100)


EXPECTED_WEIGHTS: dict[str, Callable[[], Tensor | None]] = {
    "none": lambda: None,
    "balanced": balanced,
    "given": given,
}


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_cross_entropy_and_nll_are_torchs(name: str, weights: str, smoothing: float) -> None:
    logits, targets = random_logits()
    loss = loss_of(name, class_weights=WEIGHTS[weights], label_smoothing=smoothing)
    reference = torch.nn.CrossEntropyLoss(
        weight=EXPECTED_WEIGHTS[weights](), label_smoothing=smoothing, reduction="none"
    )
    torch.testing.assert_close(loss(logits, targets), reference(logits, targets), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        gradient(lambda leaf: loss(leaf, targets), logits),
        gradient(lambda leaf: reference(leaf, targets), logits),
        rtol=1e-5,
        atol=1e-6,
    )


def test_cross_entropy_by_hand() -> None:
    for name in ("cross_entropy", "nll"):
        plain = loss_of(name)(TABLE, TABLE_TARGETS)
        assert plain.tolist() == pytest.approx([-math.log(0.7), -math.log(0.1), -math.log(0.5)])
        # weights 100 / (3 * count): 5/9, 10/9, 10/3
        weighted = loss_of(name, class_weights="balanced")(TABLE, TABLE_TARGETS)
        expected = [-math.log(0.7) * 5 / 9, -math.log(0.1) * 10 / 3, -math.log(0.5) * 10 / 3]
        assert weighted.tolist() == pytest.approx(expected)
        smoothed = loss_of(name, label_smoothing=0.3)(TABLE, TABLE_TARGETS)
        assert smoothed[0].item() == pytest.approx(
            -0.8 * math.log(0.7) - 0.1 * math.log(0.2) - 0.1 * math.log(0.1)
        )


def test_plain_nll_is_cross_entropy_to_the_last_bits_and_weights_change_both() -> None:
    logits, targets = random_logits(1000)
    entropy, nll = (loss_of(name)(logits, targets) for name in ("cross_entropy", "nll"))
    torch.testing.assert_close(entropy, nll, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(nll, loss_of("nll", class_weights="balanced")(logits, targets))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_focal_loss_of_gamma_0_is_cross_entropy(weights: str, smoothing: float) -> None:
    logits, targets = random_logits()
    changes = {"class_weights": WEIGHTS[weights], "label_smoothing": smoothing}
    entropy = loss_of("cross_entropy", **changes)
    focal = loss_of("focal", focal_gamma=0.0, **changes)
    torch.testing.assert_close(focal(logits, targets), entropy(logits, targets))
    torch.testing.assert_close(
        gradient(lambda leaf: focal(leaf, targets), logits),
        gradient(lambda leaf: entropy(leaf, targets), logits),
    )
    harder = loss_of("focal", focal_gamma=0.5, **changes)
    assert (harder(logits, targets) < entropy(logits, targets)).all()


def test_focal_loss_by_hand() -> None:
    losses = loss_of("focal", focal_gamma=2.0)(TABLE, TABLE_TARGETS)
    expected = [-0.09 * math.log(0.7), -0.81 * math.log(0.1), -0.25 * math.log(0.5)]
    assert losses.tolist() == pytest.approx(expected)
    weighted = loss_of("focal", focal_gamma=1.0, class_weights="balanced")(TABLE, TABLE_TARGETS)
    expected = [
        -0.3 * math.log(0.7) * 5 / 9,
        -0.9 * math.log(0.1) * 10 / 3,
        -0.5 * math.log(0.5) * 10 / 3,
    ]
    assert weighted.tolist() == pytest.approx(expected)
    smoothed = loss_of("focal", focal_gamma=1.0, label_smoothing=0.3)(TABLE, TABLE_TARGETS)
    assert smoothed[0].item() == pytest.approx(
        -0.8 * 0.3 * math.log(0.7) - 0.1 * 0.8 * math.log(0.2) - 0.1 * 0.9 * math.log(0.1)
    )


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_gradients_of_focal_losses_are_those_of_finite_differences(
    gamma: float, smoothing: float
) -> None:
    changes = {"focal_gamma": gamma, "label_smoothing": smoothing}
    one, some = loss_of("focal", **changes), several("focal", **changes)
    logits, targets = random_logits(6)
    _, labels = random_labels(6)
    leaf = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda leaf: one(leaf, targets), (leaf,))
    assert torch.autograd.gradcheck(lambda leaf: some(leaf, labels.double()), (leaf,))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_several_labels_is_torchvisions(gamma: float) -> None:
    logits, labels = random_labels()
    focal = several("focal", focal_gamma=gamma)
    expected = sigmoid_focal_loss(logits, labels, alpha=-1, gamma=gamma).mean(dim=1)
    torch.testing.assert_close(focal(logits, labels), expected)
    assert not torch.allclose(focal(logits, 1 - labels), expected)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_focal_loss_of_gamma_0_is_bce_where_there_are_several_labels(
    weights: str, smoothing: float
) -> None:
    logits, labels = random_labels()
    changes = {"class_weights": WEIGHTS[weights], "label_smoothing": smoothing}
    focal = several("focal", focal_gamma=0.0, **changes)
    torch.testing.assert_close(focal(logits, labels), several("bce", **changes)(logits, labels))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", [None, "balanced", {"rare": 7.0}], ids=str)
def test_bce_of_two_classes_is_cross_entropy_of_two_logits(weights: Any, smoothing: float) -> None:
    logits, targets = random_logits(num_classes=2)
    bce, entropy = (
        loss_of(name, ("usual", "rare"), (90, 10), class_weights=weights, label_smoothing=smoothing)
        for name in ("bce", "cross_entropy")
    )
    torch.testing.assert_close(bce(logits, targets), entropy(logits, targets))
    torch.testing.assert_close(
        gradient(lambda leaf: bce(leaf, targets), logits),
        gradient(lambda leaf: entropy(leaf, targets), logits),
    )
    assert not torch.allclose(bce(logits, 1 - targets), entropy(logits, targets))


def test_bce_of_two_classes_is_torchs_of_the_difference_of_the_logits() -> None:
    logits, targets = random_logits(num_classes=2)
    reference = torch.nn.BCEWithLogitsLoss(reduction="none")
    expected = reference(logits[:, 1] - logits[:, 0], targets.float())
    torch.testing.assert_close(loss_of("bce", ("a", "b"), (1, 1))(logits, targets), expected)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_bce_of_several_labels_is_torchs(weights: str, smoothing: float) -> None:
    logits, labels = random_labels()
    # of 100 images: negatives to positives; as they are given
    pos_weight = {
        "none": None,
        "balanced": torch.tensor([40 / 60, 70 / 30, 90 / 10]),
        "given": torch.tensor([1.0, 3.0, 0.5]),
    }[weights]
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=pos_weight, reduction="none")
    smoothed = labels * (1 - smoothing) + smoothing / 2
    loss = several("bce", class_weights=WEIGHTS[weights], label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, labels), reference(logits, smoothed).mean(dim=1))


def test_weights_of_positives_in_the_focal_loss_of_several_labels_by_hand() -> None:
    logits = torch.tensor([[0.8, 0.4, 0.5]]).logit()
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    loss = several("focal", focal_gamma=1.0, class_weights={"cat": 5.0, "dog": 7.0})
    expected = -(5 * 0.2 * math.log(0.8) + 0.4 * math.log(0.6) + 0.5 * math.log(0.5)) / 3
    assert loss(logits, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("counts", [(60, 30, 10), (1, 1), (5, 1, 1000, 7), (3,)], ids=str)
def test_balanced_weights_are_scikit_learns(counts: tuple[int, ...]) -> None:
    classes = np.arange(len(counts))
    expected = compute_class_weight("balanced", classes=classes, y=classes.repeat(counts))
    assert one_class.balanced_weights(counts, sum(counts)) == pytest.approx(expected.tolist())
    assert np.average(one_class.balanced_weights(counts, sum(counts)), weights=counts) == pytest.approx(
        1
    )


def test_a_class_without_images_weighs_1_and_changes_no_other() -> None:
    assert one_class.balanced_weights((60, 0, 30, 10), 100) == pytest.approx(
        [100 / 3 / 60, 1.0, 100 / 3 / 30, 100 / 3 / 10]
    )


def test_given_weights_are_1_in_the_mean_over_the_training_images() -> None:
    uniform = torch.zeros(100, 3)
    targets = torch.repeat_interleave(torch.tensor(COUNTS))
    for weights in (WEIGHTS["given"], {"cat": 1e6}, {"horse": 1e-3}, "balanced"):
        losses = loss_of("cross_entropy", class_weights=weights)(uniform, targets)
        assert losses.mean().item() == pytest.approx(math.log(3), rel=1e-5)
        assert losses.std() > 0.1
    # what counts is the ratio, and classes that are not named weigh 1
    losses = loss_of("nll", class_weights={"dog": 3.0, "horse": 0.5})(torch.zeros(3, 3), torch.arange(3))
    assert (losses / losses[0]).tolist() == pytest.approx([1.0, 3.0, 0.5])


def test_a_label_of_no_image_or_of_all_of_them_is_not_balanced() -> None:
    options = train_options(loss="bce", class_weights="balanced")
    loss = make_loss(several_labels, options, NAMES, (100, 0, 20), 100, CPU)
    losses = [loss(torch.zeros(1, 3), row[None]).item() for row in torch.eye(3)]
    half = math.log(2) / 3
    assert losses == pytest.approx([3 * half, 3 * half, 6 * half])


def message(make: Callable[[], Loss]) -> str:
    with pytest.raises(UserError) as raised:
        make()
    return str(raised.value)


def test_weights_of_an_unknown_class_are_refused() -> None:
    assert message(lambda: loss_of("nll", class_weights={"cat": 1.0, "hose": 2.0})) == (
        "train.class_weights: 'hose' is not a class of the data; did you mean horse? "
        "The classes are: cat, dog, horse"
    )
    assert message(lambda: several("bce", class_weights={"zebra": 2.0})) == (
        "train.class_weights: 'zebra' is not a class of the data. The classes are: cat, dog, horse"
    )


def test_losses_that_do_not_go_with_the_data_are_refused() -> None:
    ten = tuple("abcdefghij")
    assert message(lambda: loss_of("bce", ten, (5,) * 10)) == (
        "train.loss: bce needs two classes or several labels, and this dataset has 10 classes"
        " and one label each; use cross_entropy or focal"
    )
    for name in ("cross_entropy", "nll"):
        assert message(lambda name=name: several(name)) == (
            f"train.loss: {name} needs one label per image, and these images may have several; use bce"
            " or focal"
        )
    for name in ("cross_entropy", "nll", "focal"):
        loss_of(name, ten, (5,) * 10)


def batch_of(logits: Tensor, targets: Tensor, **fields: Tensor) -> TrainBatch:
    return TrainBatch(torch.zeros(len(logits), 1, 1, 1), targets, **fields)


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "focal"])
def test_the_loss_of_a_mixed_image_is_shared_by_its_targets(name: str) -> None:
    logits, targets = random_logits()
    _, other_targets = random_logits(seed=1)
    shares = torch.rand(len(logits), generator=torch.Generator().manual_seed(0))
    loss = loss_of(name)
    batch = batch_of(logits, targets, other_targets=other_targets, shares=shares)
    expected = [
        float(share * loss(row[None], target[None]) + (1 - share) * loss(row[None], other[None]))
        for row, target, other, share in zip(logits, targets, other_targets, shares, strict=True)
    ]
    assert losses_of(logits, batch, loss).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    unmixed = losses_of(logits, batch_of(logits, targets), loss)
    assert torch.equal(unmixed, loss(logits, targets))
    assert not torch.allclose(unmixed, losses_of(logits, batch, loss))
    whole = batch._replace(shares=torch.ones(len(logits)))
    assert torch.equal(losses_of(logits, whole, loss), unmixed)


def test_the_loss_of_mixed_images_is_cross_entropy_of_mixed_probabilities() -> None:
    logits, targets = random_logits()
    _, other_targets = random_logits(seed=1)
    shares = torch.linspace(0, 1, len(logits))
    batch = batch_of(logits, targets, other_targets=other_targets, shares=shares)
    mixed = shares[:, None] * F.one_hot(targets, 3) + (1 - shares[:, None]) * F.one_hot(other_targets, 3)
    losses = losses_of(logits, batch, loss_of("cross_entropy", label_smoothing=0.1))
    expected = F.cross_entropy(logits, mixed, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(losses, expected)


def test_several_labels_are_mixed_as_one_is() -> None:
    logits, labels = random_labels()
    _, other_labels = random_labels(seed=5)
    shares = torch.linspace(0, 1, len(logits))
    batch = batch_of(logits, labels, other_targets=other_labels, shares=shares)
    mixed = shares[:, None] * labels + (1 - shares[:, None]) * other_labels
    expected = F.binary_cross_entropy_with_logits(logits, mixed, reduction="none").mean(dim=1)
    torch.testing.assert_close(losses_of(logits, batch, several("bce")), expected)


def test_weights_of_images_multiply_their_losses() -> None:
    logits, targets = random_logits()
    weights = torch.linspace(0, 2, len(logits))
    loss = loss_of("cross_entropy")
    expected = weights * loss(logits, targets)
    assert torch.equal(losses_of(logits, batch_of(logits, targets, weights=weights), loss), expected)
    mixed = batch_of(
        logits, targets, weights=weights, other_targets=targets, shares=torch.full((len(logits),), 0.3)
    )
    torch.testing.assert_close(losses_of(logits, mixed, loss), expected)


GAMMAS = (0.0, 0.01, 0.5, 1.0, 2.0, 10.0)
LOSSES = [
    ("cross_entropy", None),
    ("nll", None),
    ("bce", None),
    *(("focal", gamma) for gamma in GAMMAS),
]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("size", [10.0, 18.0, 60.0, 88.0, 104.0, 1e4])
@pytest.mark.parametrize(("name", "gamma"), LOSSES)
def test_losses_and_gradients_stay_finite(
    name: str, gamma: float | None, size: float, smoothing: float
) -> None:
    changes = {"focal_gamma": gamma, "label_smoothing": smoothing}
    corners = torch.tensor([[size, -size], [-size, size], [size, size], [0.0, size], [0.0, 0.0]])
    one = loss_of(name, ("a", "b"), (1, 1), **changes)
    for targets in (torch.zeros(5, dtype=torch.int64), torch.ones(5, dtype=torch.int64)):
        losses = one(corners, targets)
        assert losses.isfinite().all()
        assert (losses >= 0).all()
        assert gradient(lambda leaf, targets=targets: one(leaf, targets), corners).isfinite().all()
    if name in ("bce", "focal"):
        some = make_loss(several_labels, train_options(loss=name, **changes), ("a", "b"), (1, 1), 2, CPU)
        for labels in (torch.zeros(5, 2), torch.ones(5, 2)):
            losses = some(corners, labels)
            assert losses.isfinite().all()
            assert (losses >= 0).all()
            assert gradient(lambda leaf, labels=labels: some(leaf, labels), corners).isfinite().all()


def test_what_is_wrong_for_certain_is_still_corrected() -> None:
    wrong = torch.tensor([[1e4, -1e4]])
    for name, gamma in LOSSES:
        loss = loss_of(name, ("a", "b"), (1, 1), focal_gamma=gamma)
        assert loss(wrong, torch.tensor([1])).item() == pytest.approx(2e4)
        assert loss(wrong, torch.tensor([0])).item() == 0
        slope = gradient(lambda leaf, loss=loss: loss(leaf, torch.tensor([1])), wrong)
        assert slope.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_focal_loss_keeps_its_digits_where_a_probability_is_near_1(gamma: float) -> None:
    # there 1 - p and -log p are both exp(-logit)
    loss = several("focal", focal_gamma=gamma)
    logits = torch.tensor([[10.0, 14.0, 20.0]])
    for label in range(3):
        labels = torch.ones(1, 3)
        slope = gradient(lambda leaf, labels=labels: loss(leaf, labels), logits)[0, label].item()
        power = math.exp(-logits[0, label].item() * (gamma + 1))
        assert slope == pytest.approx(-(gamma + 1) * power / 3, rel=1e-3)


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(("name", "gamma"), LOSSES)
def test_losses_of_half_precise_logits_are_computed_in_single_precision(
    name: str, gamma: float | None, smoothing: float, weights: str
) -> None:
    changes = {
        "focal_gamma": gamma,
        "label_smoothing": smoothing,
        "class_weights": WEIGHTS[weights],
    }
    cases: list[tuple[Loss, Tensor, Tensor]] = []
    if name == "bce":
        logits, targets = random_logits(num_classes=2)
        cases.append((loss_of(name, ("a", "b"), (90, 10), **changes), logits, targets))
    else:
        logits, targets = random_logits()
        cases.append((loss_of(name, **changes), logits, targets))
    if name in ("bce", "focal"):
        logits, labels = random_labels()
        cases.append((several(name, **changes), logits, labels))
    for loss, logits, targets in cases:
        halves = logits.bfloat16()
        expected = loss(halves.float(), targets)
        assert torch.equal(loss(halves, targets), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(halves, targets), expected)
        assert expected.dtype == torch.float32
        assert (
            gradient(lambda leaf, call=(loss, targets): call[0](leaf, call[1]), halves).isfinite().all()
        )


def test_a_training_step_under_autocast_is_near_to_one_in_single_precision() -> None:
    features, targets = random_logits(64, 8)
    layer = torch.nn.Linear(8, 8)
    loss = loss_of("focal", tuple("abcdefgh"), (8,) * 8, focal_gamma=0.5)
    loss(layer(features), targets).mean().backward()
    expected = layer.weight.grad
    layer.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(features)
        losses = loss(logits, targets)
    assert logits.dtype == torch.bfloat16
    losses.mean().backward()
    assert expected is not None
    assert layer.weight.grad is not None
    difference = (layer.weight.grad - expected).norm() / expected.norm()
    assert 0 < difference < 0.02

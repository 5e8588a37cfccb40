"""Losses of masks against torch's own, formulas by hand, and finite differences."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from test_losses import NAMES, loss_of
from torch import Tensor

from darkroom.training.mask_losses import MaskLoss, dice, mean_over_pixels, summed
from darkroom.void import VOID


def random_masks(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits ``(4, 3, 5, 6)`` and targets with void pixels; the last image is void."""
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 3, 5, 6, generator=random, dtype=dtype)
    targets = torch.randint(3, (4, 5, 6), generator=random)
    targets[torch.rand(targets.shape, generator=random) < 0.2] = VOID
    targets[1][targets[1] == 2] = 0  # this image lacks a class
    targets[3] = VOID
    return logits, targets


LOSSES: dict[str, MaskLoss] = {
    "cross_entropy": mean_over_pixels(loss_of("cross_entropy")),
    "focal": mean_over_pixels(loss_of("focal")),
    "dice": dice,
    "sum": summed([mean_over_pixels(loss_of("cross_entropy")), dice]),
}


@pytest.mark.parametrize("weights", [None, {"dog": 3.0}])
def test_cross_entropy_is_torchs(weights: dict[str, float] | None) -> None:
    logits, targets = random_masks()
    found = mean_over_pixels(loss_of("cross_entropy", class_weights=weights))(logits, targets)
    # the class weights have a mean of 1 over the training data: 60, 30 and 10 per cent of it
    weight = None if weights is None else torch.tensor([1.0, 3.0, 1.0]) / (0.6 + 0.9 + 0.1)
    by_pixel = F.cross_entropy(logits, targets, weight, ignore_index=VOID, reduction="none")
    for index in range(3):
        expected = by_pixel[index][targets[index] != VOID].mean()
        torch.testing.assert_close(found[index], expected)
    assert found[3] == 0


def test_bce_of_two_classes_is_torchs() -> None:
    logits, targets = random_masks()
    targets = torch.where(targets == 2, 1, targets)
    loss = mean_over_pixels(loss_of("bce", names=NAMES[:2], counts=(50, 50)))
    found = loss(logits[:, :2], targets)
    difference = logits[:, 1] - logits[:, 0]
    for index in range(3):
        is_valid = targets[index] != VOID
        expected = F.binary_cross_entropy_with_logits(
            difference[index][is_valid], targets[index][is_valid].float()
        )
        torch.testing.assert_close(found[index], expected)


def test_focal_loss_is_the_papers() -> None:
    logits, targets = random_masks(torch.float64)
    found = mean_over_pixels(loss_of("focal"))(logits, targets)
    p = logits.softmax(dim=1).numpy()
    for index in range(3):
        of_pixels = [
            -((1 - p[index, target, row, column]) ** 2) * np.log(p[index, target, row, column])
            for row in range(5)
            for column in range(6)
            if (target := int(targets[index, row, column])) != VOID
        ]
        assert float(found[index]) == pytest.approx(np.mean(of_pixels), abs=1e-12)


def test_dice_is_the_formula() -> None:
    logits, targets = random_masks(torch.float64)
    found = dice(logits, targets)
    p, t = logits.softmax(dim=1).numpy(), targets.numpy()
    for index, shown in enumerate([(0, 1, 2), (0, 1), (0, 1, 2)]):
        is_valid = t[index] != VOID
        parts = []
        for label in shown:
            own, true = p[index, label][is_valid], (t[index] == label)[is_valid]
            parts.append(1 - 2 * (own * true).sum() / (own.sum() + true.sum()))
        assert float(found[index]) == pytest.approx(np.mean(parts), abs=1e-12)
    assert found[3] == 0


def test_dice_is_one_minus_f1_for_certain_predictions() -> None:
    _, targets = random_masks()
    preds = torch.randint(3, targets.shape, generator=torch.Generator().manual_seed(1))
    found = dice(1e4 * F.one_hot(preds, 3).permute(0, 3, 1, 2).double(), targets)
    is_valid = targets[0] != VOID
    expected = f1_score(targets[0][is_valid], preds[0][is_valid], average="macro")
    assert float(found[0]) == pytest.approx(1 - expected, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    logits, targets = random_masks(torch.float64)
    loss = LOSSES[name]
    assert torch.autograd.gradcheck(lambda given: loss(given, targets), logits.requires_grad_())
    (gradient,) = torch.autograd.grad(loss(logits, targets).sum(), logits)
    is_void = (targets == VOID)[:, None].expand_as(gradient)
    assert (gradient[is_void] == 0).all()
    assert (gradient[~is_void] != 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_does_not_depend_on_the_batch(name: str) -> None:
    logits, targets = random_masks(torch.float64)
    alone = torch.cat([LOSSES[name](logits[i : i + 1], targets[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(LOSSES[name](logits, targets), alone, rtol=0, atol=1e-12)


def test_summed_losses_are_added() -> None:
    logits, targets = random_masks()
    expected = LOSSES["cross_entropy"](logits, targets) + dice(logits, targets)
    torch.testing.assert_close(LOSSES["sum"](logits, targets), expected)

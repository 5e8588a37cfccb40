"""Thresholds chosen at the end of a training, and what a model for several labels begins with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from support import make_spec
from torch import Tensor, nn

from darkroom.models.classifier import probabilities_of
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_spec, save_model
from darkroom.models.weights import start_from
from darkroom.training.outputs import choose_thresholds

SPEC = make_spec(class_names=("a", "b", "c"), multi_label=True)
NUM_IMAGES = 80


class Biased(nn.Module):
    """Takes logits for images and adds to those of each label what a rare label learns first."""

    def __init__(self, *bias: float) -> None:
        super().__init__()
        self.bias = torch.tensor(bias)

    def forward(self, images: Tensor) -> Tensor:
        """float ``(n, 3)`` -> logits ``(n, 3)``."""
        return images + self.bias


def val_batches() -> list[tuple[Tensor, Tensor]]:
    """Three batches, in which a logit is the higher where the image has the label."""
    random = np.random.default_rng(0)
    targets = random.random((NUM_IMAGES, 3)) < (0.2, 0.4, 0.6)
    logits = random.normal(0, 1, targets.shape) + 3 * targets - 1.5
    pairs = torch.from_numpy(logits).float(), torch.from_numpy(targets).float()
    return list(zip(*(part.split(30) for part in pairs), strict=True))


def f1_of(model: nn.Module, thresholds: tuple[float, ...]) -> list[float]:
    logits, targets = (torch.cat(parts) for parts in zip(*val_batches(), strict=True))
    with torch.no_grad():
        p = model(logits).double().numpy()
    preds = 1 / (1 + np.exp(-p)) >= np.array(thresholds)
    return f1_score(targets.numpy(), preds, average=None).tolist()


def test_chosen_thresholds_undo_a_bias() -> None:
    plain, biased = Biased(0, 0, 0), Biased(-3, 0, 2)
    chosen = choose_thresholds(SPEC, biased, val_batches())
    assert isinstance(chosen, tuple)
    low, middle, high = chosen
    assert low < 0.25 < middle < 0.75 < high
    unbiased = choose_thresholds(SPEC, plain, val_batches())
    assert unbiased is not None
    assert f1_of(biased, chosen) == pytest.approx(f1_of(plain, unbiased))
    at_half = f1_of(biased, (0.5, 0.5, 0.5))
    assert all(best >= other for best, other in zip(f1_of(biased, chosen), at_half, strict=True))
    assert f1_of(biased, chosen)[0] > at_half[0] + 0.2


def test_batches_of_other_sizes_give_the_same_thresholds_and_other_labels_others() -> None:
    model = Biased(-1, 0, 1)
    chosen = choose_thresholds(SPEC, model, val_batches())
    whole = tuple(torch.cat(parts) for parts in zip(*val_batches(), strict=True))
    assert choose_thresholds(SPEC, model, [whole]) == chosen
    assert choose_thresholds(SPEC, model, [(whole[0], whole[1].roll(1, dims=0))]) != chosen


def test_one_label_an_image_has_no_thresholds() -> None:
    spec = replace(SPEC, multi_label=False)
    assert choose_thresholds(spec, Biased(0, 0, 0), []) is None


def test_thresholds_come_back_from_the_model_file_as_they_were(tmp_path: Path) -> None:
    chosen = choose_thresholds(SPEC, Biased(-3, 0, 2), val_batches())
    spec = replace(SPEC, thresholds=chosen)
    save_model(make_classifier(spec), spec, tmp_path / "model.safetensors")
    assert load_spec(tmp_path / "model.safetensors") == spec
    assert load_spec(tmp_path / "model.safetensors") != SPEC


def test_what_an_older_file_does_not_say_is_one_label_an_image() -> None:
    values = make_spec().to_dict()
    del values["multi_label"], values["thresholds"]
    assert type(SPEC).from_dict(values) == make_spec()


def test_probabilities_are_sigmoids_or_a_softmax() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0]], dtype=torch.float64)
    powers = np.exp([0.0, 2.0, -1.0])
    assert probabilities_of(logits, SPEC)[0].tolist() == pytest.approx((powers / (1 + powers)).tolist())
    assert probabilities_of(logits, replace(SPEC, multi_label=False))[0].tolist() == pytest.approx((powers / powers.sum()).tolist())


@pytest.mark.parametrize("multi_label", [True, False])
def test_a_head_is_taken_over_from_a_model_of_the_same_kind_alone(
    multi_label: bool, tmp_path: Path
) -> None:
    spec = replace(SPEC, multi_label=multi_label)
    torch.manual_seed(0)
    model = make_classifier(spec)
    save_model(model, spec, tmp_path / "a.safetensors")
    torch.manual_seed(1)
    same = start_from(f"{tmp_path}/a.safetensors", spec).classifier.network
    other = start_from(
        f"{tmp_path}/a.safetensors", replace(spec, multi_label=not multi_label)
    ).classifier.network
    ours = model.network.head.linear.weight
    assert torch.equal(same.head.linear.weight, ours)
    assert not torch.equal(other.head.linear.weight, ours)
    backbones = (next(net.backbone.parameters()) for net in (other, model.network))
    assert torch.equal(*backbones)

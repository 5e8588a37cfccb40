"""Thresholds chosen at the end of a training, and what a model for several labels begins with."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score
from support import make_spec
from torch import Tensor, nn

from darkroom.compute.inference import joined
from darkroom.metrics.multi_label import best_thresholds, labels_at
from darkroom.models.classifier import probabilities_of
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_spec, save_model
from darkroom.models.spec import ModelSpec
from darkroom.models.weights import start_from
from darkroom.targets import Target
from darkroom.training.calibration import calibrate, write_validation

SPEC = make_spec(class_names=("a", "b", "c"), target="several_labels")
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


def f1_of(model: nn.Module, spec: ModelSpec) -> list[float]:
    logits, targets = (torch.cat(parts) for parts in zip(*val_batches(), strict=True))
    with torch.no_grad():
        p = model(logits).double().numpy() / np.array(spec.temperature)
    preds = 1 / (1 + np.exp(-p)) >= np.array(spec.thresholds)
    return f1_score(targets.numpy(), preds, average=None).tolist()


def chosen_by(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> ModelSpec:
    return calibrate(SPEC, model, batches)[0]


def test_chosen_thresholds_undo_a_bias() -> None:
    plain, biased = Biased(0, 0, 0), Biased(-3, 0, 2)
    chosen, unbiased = (chosen_by(model, val_batches()) for model in (biased, plain))
    assert isinstance(chosen.thresholds, tuple)
    low, middle, high = chosen.thresholds
    assert low < 0.3 < middle < 0.7 < high
    assert f1_of(biased, chosen) == pytest.approx(f1_of(plain, unbiased))
    at_half = f1_of(biased, replace(chosen, thresholds=(0.5, 0.5, 0.5)))
    assert all(best >= other for best, other in zip(f1_of(biased, chosen), at_half, strict=True))
    assert f1_of(biased, chosen)[0] > at_half[0] + 0.2


def test_batches_of_other_sizes_give_the_same_thresholds_and_other_labels_others() -> None:
    model = Biased(-1, 0, 1)
    chosen = chosen_by(model, val_batches())
    whole = tuple(torch.cat(parts) for parts in zip(*val_batches(), strict=True))
    assert chosen_by(model, [whole]) == chosen
    assert chosen_by(model, [(whole[0], whole[1].roll(1, dims=0))]).thresholds != chosen.thresholds


def test_a_temperature_moves_thresholds_and_no_prediction() -> None:
    """Logits that are twenty times as large are too sure; their temperature takes that back."""
    sure = [(20 * images, targets) for images, targets in val_batches()]
    spec, _ = calibrate(SPEC, Biased(0, 0, 0), sure)
    assert all(temperature > 3 for temperature in spec.temperature)
    logits, targets = joined(sure)
    probabilities, logits = probabilities_of(logits.double(), spec), logits.double()
    raw = best_thresholds(targets, logits.sigmoid())
    assert list(spec.thresholds or ()) != raw
    assert torch.equal(labels_at(spec.thresholds or (), probabilities), labels_at(raw, logits.sigmoid()))
    assert not torch.equal(labels_at(raw, probabilities), labels_at(raw, logits.sigmoid()))


def test_one_label_an_image_has_one_temperature_and_no_thresholds(tmp_path: Path) -> None:
    one_class = [(images, targets.argmax(dim=1)) for images, targets in val_batches()]
    spec = replace(SPEC, target="one_class")
    found, columns = calibrate(spec, Biased(0, 0, 0), one_class)
    logits, targets = joined(one_class)
    probabilities = probabilities_of(logits.double(), found)
    assert (len(found.temperature), found.thresholds) == (1, None)
    paths = [f"{index}.png" for index in range(NUM_IMAGES)]
    write_validation(columns, paths, tmp_path / "new" / "val.parquet")
    table = pd.read_parquet(tmp_path / "new" / "val.parquet")
    assert table["path"].tolist() == paths
    assert table["label"].tolist() == [SPEC.class_names[index] for index in targets.tolist()]
    assert (table["correct"] == (table["label"] == table["pred"])).all()
    own = probabilities[torch.arange(NUM_IMAGES), targets].float().numpy()
    assert (table["label_probability"].to_numpy() == own).all()
    assert (table["probability"] >= table["label_probability"]).all()


def test_thresholds_come_back_from_the_model_file_as_they_were(tmp_path: Path) -> None:
    spec = chosen_by(Biased(-3, 0, 2), val_batches())
    save_model(make_classifier(spec), spec, tmp_path / "model.safetensors")
    assert load_spec(tmp_path / "model.safetensors") == spec
    assert load_spec(tmp_path / "model.safetensors") != SPEC


def test_what_an_older_file_does_not_say_is_one_label_an_image() -> None:
    values = make_spec().to_dict()
    del values["multi_label"], values["thresholds"], values["temperature"]
    assert type(SPEC).from_dict(values) == make_spec()


def test_probabilities_are_sigmoids_or_a_softmax() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0]], dtype=torch.float64)
    powers = np.exp([0.0, 2.0, -1.0])
    assert probabilities_of(logits, SPEC)[0].tolist() == pytest.approx((powers / (1 + powers)).tolist())
    halved = np.exp([0.0, 1.0, -0.25])
    by_label = replace(SPEC, temperature=(1.0, 2.0, 4.0))
    assert probabilities_of(logits, by_label)[0].tolist() == pytest.approx(
        (halved / (1 + halved)).tolist()
    )
    assert probabilities_of(logits, replace(SPEC, target="one_class"))[0].tolist() == pytest.approx(
        (powers / powers.sum()).tolist()
    )


@pytest.mark.parametrize("target", ["one_class", "several_labels"])
def test_a_head_is_taken_over_from_a_model_of_the_same_kind_alone(
    target: Target, tmp_path: Path
) -> None:
    spec = replace(SPEC, target=target)
    torch.manual_seed(0)
    model = make_classifier(spec)
    save_model(model, spec, tmp_path / "a.safetensors")
    torch.manual_seed(1)
    same = start_from(f"{tmp_path}/a.safetensors", spec).classifier.network
    [kind] = {"one_class", "several_labels"} - {target}
    changed = replace(spec, target=cast(Target, kind))
    other = start_from(f"{tmp_path}/a.safetensors", changed).classifier.network
    ours = model.network.head.linear.weight
    assert torch.equal(same.head.linear.weight, ours)
    assert not torch.equal(other.head.linear.weight, ours)
    backbones = (next(net.backbone.parameters()) for net in (other, model.network))
    assert torch.equal(*backbones)

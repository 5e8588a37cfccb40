"""Every model learns, resumes exactly from any step, and has the same bytes when it is trained again."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from effort import ALL
from support import make_spec, plain_loss, train_options, weights_hash
from test_torchvision_models import FAMILIES, side_of

from darkroom.loading.batches import TrainBatch
from darkroom.models.factory import make_classifier
from darkroom.models.network import backbone_layers
from darkroom.training.checkpoint import copied
from darkroom.training.engine import fit
from darkroom.training.state import TrainingState

pytestmark = pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")

NUM_STEPS = 3
SAMPLE = ("googlenet", "mobilenet_v2")
OPTIONS = {"epochs": 1, "lr": 0.01, "ema_decay": 0.9, "layer_decay": 0.8, "clip_norm": 1.0}


def own(name: str, head: str = "linear", **changes: Any) -> Any:
    width = {"mlp": 16, "cnn": 4, "resnet": 8, "vit": 32}[name]
    fixed = {"name": name, "head": head, "width": width, "input_size": (16, 16), "channels": 3}
    patch_size = 4 if name == "vit" else None
    depth = 0.2 if name in ("resnet", "vit") else 0.0
    return make_spec(**fixed, dropout=0.2, patch_size=patch_size, stochastic_depth=depth, **changes)


def of_torchvision(name: str, head: str = "linear") -> Any:
    side = side_of(name)
    return make_spec(
        name=f"torchvision:{name}", head=head, input_size=(side, side), channels=3, dropout=0.2
    )


def specs() -> Iterator[Any]:
    """Our backbones with every head that they take, then one model of some of torchvision's families."""
    for name in ("mlp", "cnn", "resnet", "vit"):
        yield pytest.param(own(name), id=name)
        marks = () if name == "cnn" else pytest.mark.slow
        yield pytest.param(own(name, "mlp"), id=f"{name}, mlp", marks=marks)
        if name in ("cnn", "resnet"):
            yield pytest.param(own(name, "concat_pool"), id=f"{name}, concat_pool", marks=marks)
    pooled = of_torchvision("resnet18", "concat_pool")
    yield pytest.param(pooled, id="resnet18, concat_pool", marks=pytest.mark.slow)
    for name in FAMILIES if ALL else SAMPLE:
        yield pytest.param(of_torchvision(name), id=name, marks=pytest.mark.slow)


class Stopped(Exception):
    pass


@pytest.fixture(autouse=True)
def free_memory() -> Iterator[None]:
    """Collects what only cycles hold: large networks, which Python counts as few objects."""
    yield
    gc.collect()


def batches(spec: Any, first_step: int, stop_at: int | None) -> Iterator[TrainBatch]:
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_STEPS, 4, spec.channels, *spec.input_size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    for step in range(first_step, NUM_STEPS):
        if step == stop_at:
            raise Stopped
        part = images[step].contiguous(memory_format=torch.channels_last)
        yield TrainBatch(part, torch.tensor([0, 1, 1, 0]))


def new_state(spec: Any, seed: int) -> TrainingState:
    torch.manual_seed(seed)
    model = make_classifier(spec)
    options = train_options(**OPTIONS)
    return TrainingState(model, options, NUM_STEPS, backbone_layers(model.network))


def train(spec: Any, state: TrainingState, stop_at: int | None = None) -> str:
    options = train_options(**OPTIONS)
    val = [(batch.images, batch.targets) for batch in batches(spec, 0, None)]
    for _ in fit(
        state,
        lambda _, first_step: batches(spec, first_step, stop_at),
        lambda _: val,
        plain_loss(options),
        options,
        seed=0,
    ):
        pass
    return weights_hash(state.model) + weights_hash(state.evaluated_model)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [*specs()])
def test_it_learns_resumes_exactly_and_is_the_same_again(spec: Any) -> None:
    state = new_state(spec, seed=1)
    began_with = weights_hash(state.model)
    whole = train(spec, state)
    assert weights_hash(state.model) != began_with
    is_large = spec.name.startswith("torchvision:")  # test_resume.py stops at every step
    for stop_at in (1,) if is_large else (1, NUM_STEPS - 1):
        stopped = new_state(spec, seed=1)
        with pytest.raises(Stopped):
            train(spec, stopped, stop_at)
        other = new_state(spec, seed=2)
        assert weights_hash(other.model) != began_with
        other.restore(copied(stopped.to_dict()))
        assert train(spec, other) == whole
    if not is_large:
        assert train(spec, new_state(spec, seed=2)) != whole

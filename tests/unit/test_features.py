"""Features of a frozen backbone: the same training as from images, at the cost of one pass."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import (
    augment_options,
    make_spec,
    plain_loss,
    train_options,
    two_brightnesses,
    weights_hash,
    write_shards,
)
from torch import Tensor, nn

from darkroom.augment.pipeline import Augmentation
from darkroom.dataset.shards import Shards
from darkroom.loading.batches import Batch, Batches
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.training import features
from darkroom.training.course import EpochResult
from darkroom.training.engine import fit
from darkroom.training.job import Job
from darkroom.training.state import TrainingState

NUM_TRAIN, NUM_VAL, NUM_EPOCHS = 40, 12, 4
NETWORKS: dict[str, dict[str, Any]] = {
    "map": {"name": "cnn", "dropout": 0.3},
    "pooled map": {"name": "cnn", "dropout": 0.3, "head": "concat_pool"},
    "vector": {"name": "mlp", "width": 8, "dropout": 0.3},
    "hidden layer": {"name": "vit", "patch_size": 4, "width": 32, "dropout": 0.3, "head": "mlp"},
}


def make_job(
    folder: Path,
    network: dict[str, Any] | None = None,
    augment: dict[str, Any] | None = None,
    **options: Any,
) -> Job:
    """A training of a frozen backbone on two brightnesses; ``options`` are those of ``train``."""
    given = {"epochs": NUM_EPOCHS, "batch_size": 8, "freeze": "backbone", "lr": 0.05, **options}
    train = train_options(**given)
    torch.manual_seed(0)
    model = make_classifier(make_spec(**network or {}))
    assert isinstance(model, Classifier)
    device = torch.device("cpu")
    for split, number in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        if not (folder / split).exists():
            write_shards(folder / split, *two_brightnesses(number, seed=number))
    batches = {
        split: Batches(Shards(folder / split), device, 8, sampling=train.sampling)
        for split in ("train", "val")
    }
    return Job(
        config=SimpleNamespace(train=train, seed=0),  # type: ignore[arg-type]
        device=device,
        environment={},
        info=None,  # type: ignore[arg-type]
        spec=make_spec(),
        model=model,
        batch_size=8,
        train=batches["train"],
        val=batches["val"],
        augmentation=Augmentation(augment_options(**augment or {}), 0),
        loss=plain_loss(train),
        weights_sha256="",
        remark="",
    )


def epochs_of(job: Job, state: TrainingState) -> Iterator[EpochResult]:
    options = job.settled(job.config.train.lr)  # type: ignore[arg-type]
    return fit(
        state,
        job.epoch,
        job.validation,
        job.loss,
        options,
        0,
        network=job.network(),
        validated=job.validated,
    )


def trained(job: Job) -> tuple[TrainingState, list[EpochResult]]:
    state = job.new_state(job.settled(job.config.train.lr))  # type: ignore[arg-type]
    return state, list(epochs_of(job, state))


@pytest.fixture
def num_images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images that backbones have been run on, a number per batch."""
    counted: list[int] = []
    compute = Classifier._normalised

    def count(self: Classifier, images: Tensor) -> Tensor:
        counted.append(len(images))
        return compute(self, images)

    monkeypatch.setattr(Classifier, "_normalised", count)
    return counted


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"sampling": "balanced"}])
def test_the_training_is_the_one_from_images(
    tmp_path: Path, network: dict[str, Any], options: dict[str, Any]
) -> None:
    state, results = trained(make_job(tmp_path, network, **options).with_features())
    other, from_images = trained(make_job(tmp_path, network, **options))
    assert len(results) == len(from_images) == NUM_EPOCHS
    for result, expected in zip(results, from_images, strict=True):
        assert result.train_loss == pytest.approx(expected.train_loss, abs=1e-4)
        assert result.val_loss == pytest.approx(expected.val_loss, abs=1e-4)
    weights = other.model.state_dict()
    for name, tensor in state.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-4, rtol=1e-3)
    start = make_job(tmp_path, network, **options).model
    assert weights_hash(start.network.backbone) == weights_hash(state.model.network.backbone)  # type: ignore[arg-type]
    assert weights_hash(start.network.head) != weights_hash(state.model.network.head)  # type: ignore[arg-type]


def test_each_image_goes_through_the_backbone_once(tmp_path: Path, num_images: list[int]) -> None:
    job = make_job(tmp_path).with_features()
    assert sum(num_images) == NUM_TRAIN + NUM_VAL + 1  # one to see how large features are
    trained(job)
    assert sum(num_images) == NUM_TRAIN + NUM_VAL + 1


def test_without_features_each_epoch_runs_the_backbone(tmp_path: Path, num_images: list[int]) -> None:
    trained(make_job(tmp_path))
    assert sum(num_images) == NUM_EPOCHS * (NUM_TRAIN + NUM_VAL)


@pytest.mark.parametrize(
    "augment", [{"crop_padding": 1}, {"horizontal_flip": True}, {"mixup": 0.2}, {"brightness": 0.1}]
)
def test_augmented_images_are_computed_anew_and_only_validation_is_kept(
    tmp_path: Path, num_images: list[int], augment: dict[str, Any]
) -> None:
    job = make_job(tmp_path, augment=augment).with_features()
    assert sum(num_images) == NUM_VAL + 1
    state, results = trained(job)
    assert sum(num_images) == NUM_VAL + 1 + NUM_EPOCHS * NUM_TRAIN
    other, from_images = trained(make_job(tmp_path, augment=augment))
    assert weights_hash(state.model) == weights_hash(other.model)
    assert [result.val_loss for result in results] == pytest.approx([r.val_loss for r in from_images])


@pytest.mark.parametrize(
    "options",
    [
        {"freeze": "none"},
        {"freeze": ["backbone.stages.0"]},
        {"unfreeze": [{"epoch": 2, "layers": "backbone.stages.1"}]},
    ],
)
def test_a_backbone_that_learns_has_no_features(tmp_path: Path, options: dict[str, Any]) -> None:
    job = make_job(tmp_path, **options)
    assert job.with_features() is job
    assert job.validation is job.val
    assert job.network() is job.model


def test_too_many_features_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_per_image = 4 * 8 * 4 * 4  # float32, 8 channels of 4 x 4
    monkeypatch.setattr(features, "MAX_BYTES", bytes_per_image * NUM_TRAIN)
    found = make_job(tmp_path).with_features().features
    assert found is not None
    assert found.train is not None
    monkeypatch.setattr(features, "MAX_BYTES", bytes_per_image * NUM_TRAIN - 1)
    found = make_job(tmp_path).with_features().features
    assert found is not None
    assert found.train is None
    monkeypatch.setattr(features, "MAX_BYTES", bytes_per_image * NUM_VAL - 1)
    job = make_job(tmp_path).with_features()
    assert job.features is None
    assert job.validation is job.val


def test_who_watches_sees_the_images(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def watch(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            seen.append(batch[0])
            yield batch

    make_job(tmp_path).with_features(watch)
    assert {images.dtype for images in seen} == {torch.uint8}
    images, _ = two_brightnesses(NUM_TRAIN, seed=NUM_TRAIN)
    first = torch.cat(seen)[:NUM_TRAIN]
    assert first.permute(0, 2, 3, 1).equal(torch.from_numpy(images))


def test_a_resumed_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, _ = trained(make_job(tmp_path, NETWORKS["map"]).with_features())
    job = make_job(tmp_path, NETWORKS["map"]).with_features()
    state = job.new_state(job.settled(0.05))
    epochs = epochs_of(job, state)
    next(epochs)
    next(epochs)
    saved = state.to_dict()
    job = make_job(tmp_path, NETWORKS["map"]).with_features()
    resumed = job.new_state(job.settled(0.05))
    resumed.restore(saved)
    assert len(list(epochs_of(job, resumed))) == NUM_EPOCHS
    assert weights_hash(resumed.model) == weights_hash(whole.model)


def test_another_backbone_gives_other_bytes(tmp_path: Path) -> None:
    whole, _ = trained(make_job(tmp_path, NETWORKS["map"]).with_features())
    other = make_job(tmp_path, NETWORKS["map"])
    with torch.no_grad():
        next(p for p in other.model.network.backbone.parameters() if p.ndim > 1).mul_(-1)
    state, _ = trained(other.with_features())
    assert weights_hash(state.model.network.head) != weights_hash(whole.model.network.head)  # type: ignore[arg-type]


def test_a_vector_is_a_map_of_one_place() -> None:
    model = make_classifier(make_spec(name="mlp", width=8)).eval()
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    vectors = model.features(images)
    assert vectors.ndim == 2
    head: nn.Module = features.Head(model)
    assert head(vectors[:, :, None, None]).equal(model(images))

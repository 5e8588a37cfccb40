"""Features of a frozen backbone: the same training as from images, at the cost of one pass."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
from darkroom.dataset.subset import Subset
from darkroom.features.store import Store
from darkroom.loading.batches import Batches
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.models.heads import Head
from darkroom.training import decay_finder
from darkroom.training import features as training_features
from darkroom.training.course import EpochResult, course_of
from darkroom.training.decay_finder import DECOUPLED, Trial, settle_weight_decay, try_decays
from darkroom.training.features import OnFeatures, useful_threads
from darkroom.training.job import Job
from darkroom.training.session import settle
from darkroom.training.state import TrainingState
from darkroom.training.unfamiliarity import fit_unfamiliarity

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
    num_threads: int = 1,
    **options: Any,
) -> Job:
    """A training of a frozen backbone on two brightnesses; ``options`` are those of ``train``.

    With one thread, that of a head alone rounds as that of the whole network does.
    """
    given = {"epochs": NUM_EPOCHS, "batch_size": 8, "freeze": "backbone", "lr": 0.05, **options}
    train = train_options(**{**given, "weight_decay": 0.0})
    train = train.model_copy(update={"weight_decay": given.get("weight_decay", 0.0)})
    torch.manual_seed(0)
    model = make_classifier(make_spec(**network or {}))
    assert isinstance(model, Classifier)
    device = torch.device("cpu")
    options_of_augment = augment_options(**augment or {})
    for split, number in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        if not (folder / split).exists():
            write_shards(folder / split, *two_brightnesses(number, seed=number))
    batches = {
        split: Batches(Shards(folder / split), device, 8, sampling=train.sampling)
        for split in ("train", "val")
    }
    return Job(
        config=SimpleNamespace(  # type: ignore[arg-type]
            train=train, seed=0, augment=options_of_augment, num_threads=num_threads
        ),
        device=device,
        environment={},
        info=SimpleNamespace(input_size=make_spec().input_size, target="one_class"),  # type: ignore[arg-type]
        spec=make_spec(**network or {}),
        model=model,
        batch_size=8,
        train=batches["train"],
        val=batches["val"],
        augmentation=Augmentation(options_of_augment, 0),
        loss=plain_loss(train),
        store=Store(folder / "features", 2**30),
        weights_sha256="",
        remark="",
    )


def epochs_of(job: Job, state: TrainingState) -> Iterator[EpochResult]:
    options = job.settled(job.config.train.lr)  # type: ignore[arg-type]
    return job.fit(state, options, lambda batches: batches)


def trained(job: Job) -> tuple[TrainingState, list[EpochResult]]:
    state = job.new_state(job.settled(job.config.train.lr))  # type: ignore[arg-type]
    return state, list(epochs_of(job, state))


def same_weights(state: TrainingState, other: TrainingState) -> bool:
    """Whether both keep the same weights, to the bit."""
    kept, others = state.kept_weights, other.kept_weights
    return kept.keys() == others.keys() and all(torch.equal(kept[name], others[name]) for name in kept)


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
    options = {**options, "lr": 0.02}  # with 0.05, the largest head diverges, and rounding grows with it
    job = make_job(tmp_path, network, **options).with_features()
    state, results = trained(job)
    assert not list(state.model.network.backbone.parameters())
    other, from_images = trained(make_job(tmp_path, network, **options))
    assert len(results) == len(from_images) == NUM_EPOCHS
    for result, expected in zip(results, from_images, strict=True):
        assert result.train_loss == pytest.approx(expected.train_loss, abs=1e-5)
        assert result.val_loss == pytest.approx(expected.val_loss, abs=1e-5)
    weights = other.model.state_dict()
    for name, tensor in job.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-4, rtol=1e-3)
    start = make_job(tmp_path, network, **options).model
    assert weights_hash(start.network.backbone) == weights_hash(job.model.network.backbone)
    assert weights_hash(start.network.head) != weights_hash(job.model.network.head)


def test_each_image_goes_through_the_backbone_once(tmp_path: Path, num_images: list[int]) -> None:
    job = make_job(tmp_path).with_features()
    assert sum(num_images) == NUM_TRAIN + NUM_VAL
    trained(job)
    assert sum(num_images) == NUM_TRAIN + NUM_VAL


def test_features_of_a_part_are_those_of_its_images(tmp_path: Path) -> None:
    job, rows = make_job(tmp_path), np.tile(np.arange(NUM_TRAIN)[3::3], 2)
    part = Batches(Subset([Shards(tmp_path / "train")], rows), job.device, 8)
    whole = job.with_features().features
    assert whole is not None
    model = OnFeatures(job.model).eval()

    def logits(batches: Batches) -> Tensor:
        with torch.inference_mode():
            return torch.cat([model(batch.images) for batch in batches.epoch(0, 0, None, 0)])

    of_part, of_others = (logits(whole.of_part(part, at).train[0]) for at in (rows, rows - 1))
    torch.testing.assert_close(of_part, logits(part), atol=1e-5, rtol=0)
    assert (of_others - logits(part)).abs().max() > 1e-4


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
    assert sum(num_images) == NUM_VAL
    state, results = trained(job)
    assert sum(num_images) == NUM_VAL + NUM_EPOCHS * NUM_TRAIN
    other, from_images = trained(make_job(tmp_path, augment=augment))
    assert weights_hash(state.model) == weights_hash(other.model)
    assert [result.val_loss for result in results] == pytest.approx([r.val_loss for r in from_images])


@pytest.mark.parametrize("options", [{"freeze": "none"}, {"freeze": ["backbone.stages.0"]}])
def test_a_backbone_that_learns_has_no_features(tmp_path: Path, options: dict[str, Any]) -> None:
    job = make_job(tmp_path, **options)
    assert job.with_features() is job
    assert job.validation(0) is job.val
    assert job.network() is job.model


UNFREEZE = [{"epoch": 3, "layers": "backbone.stages.1"}]


def test_features_are_used_until_a_layer_is_unfrozen(tmp_path: Path, num_images: list[int]) -> None:
    job = make_job(tmp_path, unfreeze=UNFREEZE, ema_decay=0.9).with_features()
    state, results = trained(job)
    # an epoch's images are seen in training and in validation, from the third epoch on
    assert sum(num_images) == 3 * (NUM_TRAIN + NUM_VAL)
    other, from_images = trained(make_job(tmp_path, unfreeze=UNFREEZE, ema_decay=0.9))
    for result, expected in zip(results, from_images, strict=True):
        assert result.train_loss == pytest.approx(expected.train_loss, abs=1e-4)
    for name, tensor in state.model.state_dict().items():
        torch.testing.assert_close(tensor, other.model.state_dict()[name], atol=1e-4, rtol=1e-3)


SHIFTED = {"crop_padding": 2, "brightness": 0.3}


def test_epochs_use_the_views_in_turn(tmp_path: Path, num_images: list[int]) -> None:
    job = make_job(tmp_path, augment=SHIFTED, feature_views=2).with_features()
    assert sum(num_images) == NUM_VAL + 2 * NUM_TRAIN
    state, _ = trained(job)
    assert sum(num_images) == NUM_VAL + 2 * NUM_TRAIN
    # independently: images in the order of each epoch, as augmented in epoch 0, 1, 0 and 1
    other = make_job(tmp_path, augment=SHIFTED)
    for epoch in range(NUM_EPOCHS):
        order = [batch.targets for batch in other.train.epoch(0, epoch, None)]
        assert torch.cat(order).equal(
            torch.cat([batch.targets for batch in job.epoch(epoch, 0)])  # the same images
        )
        images = torch.cat([batch.images for batch in other.train.epoch(0, epoch, None)])
        originals = torch.from_numpy(two_brightnesses(NUM_TRAIN, seed=NUM_TRAIN)[0])
        places = torch.stack(
            [
                (originals.permute(0, 3, 1, 2) == image).flatten(1).all(1).nonzero()[0, 0]
                for image in images
            ]
        )
        views = torch.cat(list(other.train.views([places], other.augmentation, epoch % 2)))
        with torch.no_grad():
            expected = other.model.eval().network.head.pool(other.model.features(views))  # type: ignore[operator]
        given = torch.cat([batch.images for batch in job.epoch(epoch, 0)])
        torch.testing.assert_close(given, expected)
    none, _ = trained(make_job(tmp_path, feature_views=None).with_features())
    assert weights_hash(none.model) != weights_hash(state.model)


RESUMED: dict[str, dict[str, Any]] = {
    "plain": {},
    "before the switch": {"unfreeze": UNFREEZE, "ema_decay": 0.9},
    "at the switch": {"unfreeze": [{"epoch": 2, "layers": "backbone.stages.1"}]},
    "views": {"feature_views": 3, "augment": SHIFTED, "sampling": "balanced"},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED)
@pytest.mark.parametrize("from_cache", [True, False])
def test_a_resumed_training_ends_with_the_same_bytes(
    tmp_path: Path, options: dict[str, Any], from_cache: bool
) -> None:
    whole, _ = trained(make_job(tmp_path, **options).with_features())
    job = make_job(tmp_path, **options).with_features()
    state = job.new_state(job.settled(0.05))
    next(epochs_of(job, state))  # the position is after the first epoch
    saved = copy.deepcopy(state.to_dict())
    if not from_cache:
        shutil.rmtree(tmp_path / "features")
    job = make_job(tmp_path, **options).with_features()
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


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_logits_of_pooled_features_are_those_of_images(network: dict[str, Any]) -> None:
    model = make_classifier(make_spec(**network)).eval()
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    head = model.network.head
    assert isinstance(head, Head)
    vectors = head.pool(model.features(images))
    assert vectors.shape == (3, head.num_inputs)
    both = OnFeatures(model)
    assert both(vectors).equal(model(images))
    assert both(images).equal(model(images))


def test_small_steps_of_a_head_have_one_thread_and_all_others_the_configured_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threads_of_steps(**options: Any) -> set[int]:
        seen = set()
        job = make_job(tmp_path, NETWORKS["vector"], num_threads=2, **options).with_features()

        def watch(batches: Any) -> Any:
            for batch in batches:
                seen.add(torch.get_num_threads())
                yield batch

        list(job.fit(job.new_state(job.settled(0.05)), job.settled(0.05), watch))
        return seen

    before = torch.get_num_threads()
    assert threads_of_steps() == {1}
    assert threads_of_steps(freeze="none") == {2}  # the backbone, too
    assert threads_of_steps(unfreeze=[{"epoch": 3, "layers": "backbone.layers.1"}]) == {2}
    monkeypatch.setattr(training_features, "SHARED_FROM", 100)
    assert threads_of_steps() == {2}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("features", "classes", "batch", "expected"),
    [(1_280, 2, 128, 1), (384, 10, 128, 1), (1_280, 10, 128, 8), (1_280, 1_000, 128, 8)],
)
def test_threads_are_used_from_five_million_operations(
    features: int, classes: int, batch: int, expected: int
) -> None:
    assert useful_threads(nn.Linear(features, classes), batch, 8) == expected
    assert useful_threads(nn.Linear(features, classes), batch, 1) == 1


def test_the_unfamiliarity_comes_from_the_features(tmp_path: Path, num_images: list[int]) -> None:
    write_shards(tmp_path / "val", *two_brightnesses(30, seed=1))
    job = make_job(tmp_path).with_features()
    assert sum(num_images) == NUM_TRAIN + 30
    fitted = fit_unfamiliarity(job, 0)
    assert sum(num_images) == NUM_TRAIN + 30
    expected = fit_unfamiliarity(make_job(tmp_path), 0)
    assert sum(num_images) == 2 * (NUM_TRAIN + 30)
    assert fitted is not None
    assert expected is not None
    assert fitted.description == expected.description
    vectors = torch.from_numpy(np.random.default_rng(0).random((9, len(fitted.module.mean)), np.float32))
    torch.testing.assert_close(fitted.module(vectors), expected.module(vectors), rtol=1e-3, atol=1e-3)


# the weight decay


DECAYS = {"weight_decay": "auto", "optimizer": "adamw", "momentum": None, "nesterov": None}


@pytest.mark.parametrize("options", [{}, {"feature_views": 2, "augment": SHIFTED, "ema_decay": 0.9}])
def test_a_trial_is_the_training_with_that_decay(tmp_path: Path, options: dict[str, Any]) -> None:
    job = make_job(tmp_path, **DECAYS, **options).with_features()
    before = weights_hash(job.model)
    trials, states = zip(*try_decays(job, lr=0.05), strict=True)
    assert [trial.weight_decay for trial in trials] == list(DECOUPLED)
    assert weights_hash(job.model) == before
    for trial, state in list(zip(trials, states, strict=True))[::3]:
        given = {**DECAYS, **options, "weight_decay": trial.weight_decay}
        alone, results = trained(make_job(tmp_path, **given).with_features())
        kept = course_of(results).kept
        assert (trial.f1_macro, trial.loss) == (kept.val_f1_macro, kept.val_loss)
        assert state.results == results
        assert weights_hash(state.model) == weights_hash(alone.model)
        assert same_weights(state, alone)
    assert len({trial.loss for trial in trials}) == len(DECOUPLED)  # decays matter


def test_the_best_f1_wins_then_the_lower_loss_then_the_stronger_decay() -> None:
    trials = [Trial(0.1, 0.8, 0.2), Trial(1, 0.9, 0.5), Trial(10, 0.9, 0.4), Trial(100, 0.9, 0.4)]
    ranked = sorted(trials, key=lambda trial: trial.rank)
    assert [trial.weight_decay for trial in ranked] == [0.1, 1, 10, 100]


def test_trials_are_stored_for_a_training_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(tmp_path, **DECAYS).with_features()
    (tmp_path / "whole").mkdir()
    settled, state = settle_weight_decay(job, tmp_path / "whole", 0.05, check=lambda: None)
    assert settled in DECOUPLED
    assert state is not None
    assert state.epoch == NUM_EPOCHS
    assert state.optimizer.param_groups[0]["weight_decay"] == settled
    assert f"train: weight decay {settled:g}; validation" in capsys.readouterr().out

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settle_weight_decay(job, tmp_path, 0.05, killed)
    left: list[int] = []

    def noted(job: Job, lr: float, num_tried: int) -> Iterator[tuple[Trial, TrainingState]]:
        left.append(len(DECOUPLED) - num_tried)
        return try_decays(job, lr, num_tried)

    def settled_again(**options: Any) -> float:
        return settle_weight_decay(make_job(tmp_path, **options), tmp_path, 0.05, lambda: None)[0]

    monkeypatch.setattr(decay_finder, "try_decays", noted)
    assert settled_again(**DECAYS) == settled
    assert settled_again(**DECAYS) == settled
    assert left == [3, 0]
    (tmp_path / "weight_decay.json").write_text("{")
    assert settled_again(**DECAYS) == settled
    assert left == [3, 0, 4]
    assert settled_again(weight_decay=0.25) == 0.25


def test_the_training_continues_the_best_trial_unless_an_earlier_process_had_it(tmp_path: Path) -> None:
    job = make_job(tmp_path, **DECAYS).with_features()
    options, finished = settle(job, tmp_path, lambda: None)
    assert finished.epoch == NUM_EPOCHS  # nothing is left to train
    again, new = settle(job, tmp_path, lambda: None)
    assert again == options
    assert new.epoch == 0
    assert list(job.fit(new, again, lambda batches: batches)) == finished.results
    assert same_weights(new, finished)

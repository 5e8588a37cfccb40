"""Training at another size than the prepared one: crops, schedules of sizes, and what is evaluated."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import (
    augment_options,
    make_spec,
    plain_loss,
    train_options,
    weights_hash,
    write_shards,
)
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from darkroom.augment import pipeline
from darkroom.augment.geometry import resized_crop
from darkroom.augment.pipeline import Augmentation
from darkroom.compute.inference import compute_logits, mirrored
from darkroom.config.train import images_differ, resizes_each_epoch
from darkroom.dataset.resampling import resize
from darkroom.dataset.shards import Shards
from darkroom.dataset.subset import Subset
from darkroom.dataset.views import EvaluationView
from darkroom.errors import UserError
from darkroom.evaluation.evaluate import all_remarks, evaluate
from darkroom.evaluation.tables import write_predictions
from darkroom.loading.batches import Batches, TrainBatch
from darkroom.metrics.classification import metrics_file
from darkroom.models.classifier import probabilities_of
from darkroom.models.factory import check_stages, make_classifier
from darkroom.training.engine import fit
from darkroom.training.state import TrainingState

CPU = torch.device("cpu")
IDS = torch.tensor([7, 0, 31, 2**32 - 1, 4, 5, 6, 100, 11, 12])
SIZES = ((1, (8, 10)), (3, (12, 16)))
"""Of images of 14 x 18 pixels."""


def random_images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


# resizing


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((32, 40), (28, 35)),
        ((64, 48), (16, 24)),
        ((20, 20), (20, 7)),
        ((20, 3), (5, 3)),
        ((9, 7), (12, 21)),
    ],
    ids=str,
)
def test_resizing_is_that_of_torchvision(
    shape: tuple[int, int], size: tuple[int, int], channels: int
) -> None:
    images = random_images(4, *shape, channels)
    got = torch.from_numpy(resize(images.numpy(), size)).permute(0, 3, 1, 2)
    wanted = TF.resize(images.permute(0, 3, 1, 2), list(size), antialias=True)
    assert (got.int() - wanted.int()).abs().max() <= 2
    exact = TF.resize(images.permute(0, 3, 1, 2).double(), list(size), antialias=True)
    assert (got - exact).abs().max() < 2
    assert (got - exact).square().mean() < 0.6**2


@pytest.mark.parametrize("size", [(28, 35), (8, 40), (33, 50)], ids=str)
def test_numpy_and_torch_resize_to_the_same_bits(size: tuple[int, int]) -> None:
    images = random_images(3, 32, 40, 3)
    whole = torch.tensor([[0, 0, 32, 40]]).expand(3, -1)
    assert np.array_equal(resized_crop(images, whole, size), resize(images.numpy(), size))


def test_a_smaller_resized_crop_is_that_of_torchvision() -> None:
    images = random_images(3, 64, 48, 3)
    crops = torch.tensor([[0, 0, 64, 48], [3, 5, 50, 20], [60, 40, 4, 8]])
    for image, crop, got in zip(
        images, crops.tolist(), resized_crop(images, crops, (24, 16)), strict=True
    ):
        wanted = TF.resized_crop(image.permute(2, 0, 1), *crop, [24, 16], antialias=True)
        assert (got.permute(2, 0, 1).int() - wanted.int()).abs().max() <= 2


def test_a_flat_image_stays_as_it_is() -> None:
    for level in (0, 1, 254, 255):
        image = np.full((1, 50, 61, 1), level, np.uint8)
        assert (resize(image, (17, 9)) == level).all()


# training images


def augmentation(
    sizes: Any = SIZES, cuts: Any = "centre", seed: int = 1, **options: Any
) -> Augmentation:
    return Augmentation(augment_options(**options), seed, sizes, cuts)


WAYS: list[dict[str, Any]] = [
    {},
    {"cuts": "whole"},
    {"resized_crop": 0.2},
    {"resized_crop": 0.2, "crop_padding": 2, "rotate": 9, "brightness": 0.2, "erase": 0.5},
]


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_sample_does_not_depend_on_its_batch_or_part(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, cut = random_images(10, 14, 18, 3), augmentation(**options)
    together = cut.on_device(images, IDS, 2)
    assert together.shape == (10, 12, 16, 3)
    alone = [cut.on_device(images[i : i + 1], IDS[i : i + 1], 2) for i in range(10)]
    assert torch.equal(torch.cat(alone), together)
    monkeypatch.setattr(pipeline, "PIXELS_AT_ONCE", 600)
    assert torch.equal(cut.on_device(images, IDS, 2), together)
    is_random = options != {"cuts": "whole"}
    for other in (augmentation(**options | {"seed": 2}), augmentation(SIZES[1:], **options)):
        epoch = 2 if other is not cut else 3
        changes = not torch.equal(other.on_device(images, IDS, epoch), together)
        assert changes == (is_random and other._seed == 2)


def test_each_epoch_has_the_size_of_the_schedule() -> None:
    cut = augmentation()
    shapes = [
        tuple(cut.on_device(random_images(2, 14, 18, 1), IDS[:2], epoch).shape) for epoch in range(5)
    ]
    assert shapes == [(2, 8, 10, 1)] * 2 + [(2, 12, 16, 1)] * 3


@pytest.mark.parametrize(
    ("sizes", "crop", "augment", "anew", "differ"),
    [
        (None, None, {}, False, False),
        (None, None, {"rotate": 3}, False, True),
        (None, None, {"resized_crop": 0.5}, False, True),
        ([12, 16], "whole", {}, False, False),
        ([12, 16], "centre", {}, True, True),
        ([14, 18], "centre", {}, False, False),  # the prepared size
        ([12, 16], "whole", {"erase": 0.1}, False, True),
        ([12, 16], "whole", {"resized_crop": 0.5}, True, True),
        ([{"epoch": 1, "size": [8, 10]}, {"epoch": 3, "size": [12, 16]}], "whole", {}, True, True),
    ],
)
def test_whether_images_differ_between_epochs(
    sizes: Any, crop: Any, augment: dict[str, Any], anew: bool, differ: bool
) -> None:
    train, options = train_options(image_size=sizes, evaluate_crop=crop), augment_options(**augment)
    assert images_differ(train, options, (14, 18)) == differ
    assert resizes_each_epoch(train, options, (14, 18)) == anew
    # if the prepared size is not known, it may be another one
    assert resizes_each_epoch(train, options, None) == (anew or sizes == [14, 18])


def test_a_random_crop_is_as_large_as_the_last_size_and_lies_anywhere() -> None:
    images = random_images(1, 14, 18, 1).expand(400, -1, -1, -1)
    crops = augmentation().on_device(images, torch.arange(400), 2)
    places = {
        images[0, top : top + 12, left : left + 16].numpy().tobytes(): (top, left)
        for top in range(3)
        for left in range(3)
    }
    found = [places[crop.numpy().tobytes()] for crop in crops]
    assert set(found) == set(places.values())
    # earlier, the same crop is smaller
    small = augmentation().on_device(images, torch.arange(400), 0)
    top, left = places[
        augmentation(SIZES[1:]).on_device(images, torch.arange(400), 0)[5].numpy().tobytes()
    ]
    whole = images[:1, top : top + 12, left : left + 16].numpy()
    assert np.array_equal(small[5:6], resize(whole, (8, 10)))


def test_transforms_work_on_images_of_the_training_size() -> None:
    images, plain = random_images(4, 14, 18, 3), augmentation()
    solarized = augmentation(transforms=[{"RandomSolarize": {"threshold": 128, "p": 1}}])
    on_host = solarized.on_host(images, IDS[:4], 2)
    assert torch.equal(on_host, TF.solarize(plain.on_device(images, IDS[:4], 2), 128))
    assert solarized.on_device(on_host, IDS[:4], 2) is on_host
    before = Augmentation(
        augment_options(transforms=[{"RandomSolarize": {"threshold": 128, "p": 1}}]), 1
    )
    assert before.on_host(images, IDS[:4], 2).shape == images.shape


# evaluation


def test_the_view_is_the_centre_crop_of_torchvision_or_the_whole_image() -> None:
    for shape, size in (((9, 12), (8, 8)), ((14, 15), (9, 6)), ((12, 8), (12, 8)), ((11, 11), (8, 11))):
        images = random_images(3, *shape, 3)
        got = EvaluationView(size, "centre")(images.numpy())
        wanted = TF.center_crop(images.permute(0, 3, 1, 2), list(size)).permute(0, 2, 3, 1)
        assert np.array_equal(got, wanted)
        assert np.array_equal(
            EvaluationView(size, "whole")(images.numpy()), resize(images.numpy(), size)
        )


@pytest.mark.parametrize("crop", ["centre", "whole"])
def test_shards_and_their_workers_give_views(tmp_path: Path, crop: Any) -> None:
    images, labels = random_images(30, 14, 18, 3).numpy(), np.arange(30) % 2
    view = EvaluationView((12, 10), crop)
    for storage in ("decoded", "encoded"):
        folder = write_shards(tmp_path / storage, images, labels, storage=storage)
        shards = Shards(folder, view=view)
        assert shards.shape == (12, 10, 3)
        # the key of cached features
        other = EvaluationView((12, 9), crop)
        assert shards.digest == Shards(folder, view=view).digest
        assert len({shards.digest, Shards(folder).digest, Shards(folder, view=other).digest}) == 3
        rows = np.array([3, 29, 3])
        assert np.array_equal(shards.gather(rows), view(images[rows]))
        # of the same files, as a training has them for the images without augmentation
        assert shards.viewed(view) is shards
        for viewed in (Shards(folder).viewed(view), Shards(folder, view=other).viewed(view)):
            assert (viewed.shape, viewed.digest) == (shards.shape, shards.digest)
            assert np.array_equal(viewed.gather(rows), view(images[rows]))
        part = Subset([Shards(folder)], rows).viewed(view)
        assert np.array_equal(part.gather(np.array([1, 0])), view(images[[29, 3]]))
        assert part.viewed(view) is part
        for workers in (0, 2):
            batches = Batches(shards, CPU, 7, workers)
            got = torch.cat([part for part, _ in batches]).permute(0, 2, 3, 1)
            assert np.array_equal(got, view(images))


# a whole training


def a_training(
    folder: Path, epochs: int = 4
) -> tuple[TrainingState, Batches, Batches, Augmentation, Any]:
    if not folder.exists():
        write_shards(folder, random_images(21, 14, 18, 1).numpy(), np.arange(21) % 2)
    options = train_options(epochs=epochs, micro_batches=2)
    torch.manual_seed(0)
    model = make_classifier(make_spec(input_size=(12, 16), dropout=0.1))
    train = Batches(Shards(folder), CPU, options.batch_size)
    val = Batches(Shards(folder, view=EvaluationView((12, 16), "centre")), CPU, 8)
    return TrainingState(model, options, train.num_steps), train, val, augmentation(), options


class Stopped(Exception):
    pass


def run(folder: Path, stop_after: int | None = None, values: Any = None) -> TrainingState:
    """Train to the end, or up to a number of steps."""
    state, train, val, cut, options = a_training(folder)
    if values is not None:
        state.restore(values)

    def batches(epoch: int, step: int) -> Iterator[TrainBatch]:
        for number, batch in enumerate(train.epoch(0, epoch, cut, step), epoch * train.num_steps + step):
            if number == stop_after:
                raise Stopped
            yield batch

    try:
        for _ in fit(state, batches, lambda _: val, plain_loss(options), options, 0):
            pass
    except Stopped:
        pass
    return state


@pytest.mark.slow
def test_progressive_resizing_resumes_at_every_step(tmp_path: Path) -> None:
    whole = run(tmp_path / "train")
    assert whole.epoch == 4
    wanted = weights_hash(whole.model)
    for stop in range(1, 12):
        stopped = run(tmp_path / "train", stop)
        resumed = run(tmp_path / "train", values=copy.deepcopy(stopped.to_dict()))
        assert weights_hash(resumed.model) == wanted
        assert resumed.results == whole.results


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "mlp"},
            "mlp is built for one size, 12 x 16, and cannot be trained on images of 8 x 10",
        ),
        ({"name": "vit", "patch_size": 2, "width": 8}, "vit is built for one size, 12 x 16"),
        (
            {"depth": 5, "input_size": (16, 20)},
            "train.image_size: from .* at least 16 x 16 pixels, but they have 8 x 10",
        ),
        ({"name": "torchvision:vit_b_32", "channels": 3, "input_size": (64, 64)}, "multiple of 32"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_networks_for_one_size_only_are_refused_at_once(changes: dict[str, Any], message: str) -> None:
    spec = make_spec(**{"input_size": (12, 16), **changes})
    sizes = ((1, (8, 10)), (3, spec.input_size))
    with pytest.raises(UserError, match=message):
        check_stages(make_classifier(spec), spec, sizes)


def test_networks_for_any_size_are_not_refused_nor_changed() -> None:
    for name in ("cnn", "resnet"):
        spec = make_spec(name=name, width=8, input_size=(12, 16))
        model = make_classifier(spec)
        before = weights_hash(model)
        check_stages(model, spec, SIZES)
        assert weights_hash(model) == before
        assert model.training


# averaging over mirror images


def test_averaging_over_mirror_images(tmp_path: Path) -> None:
    shards = Shards(
        write_shards(tmp_path / "test", random_images(20, 8, 8, 1).numpy(), np.arange(20) % 2)
    )
    spec, batches = make_spec(), Batches(shards, CPU, 8)
    torch.manual_seed(0)
    model = make_classifier(spec)
    logits, targets = compute_logits(model, batches)
    flipped, _ = compute_logits(model, mirrored(batches))
    assert not torch.equal(logits, flipped)
    twice, _ = compute_logits(model, mirrored(mirrored(batches)))
    assert torch.equal(logits, twice)

    alone = evaluate(spec, targets, logits, shards.paths)
    both = evaluate(spec, targets, logits, shards.paths, mirrored_logits=flipped)
    wanted = sum(probabilities_of(part.double(), spec) for part in (logits, flipped)) / 2
    assert torch.equal(both.probabilities, torch.as_tensor(wanted))
    other_way = evaluate(spec, targets, flipped, shards.paths, mirrored_logits=logits)
    assert torch.equal(both.probabilities, other_way.probabilities)

    assert both.metrics["tta"] == "flip"
    assert both.metrics["single_pass"]["accuracy"] == alone.metrics["accuracy"]
    assert not {"tta", "single_pass"} & set(alone.metrics)
    for evaluation, mirrors, is_said in (
        (both, False, True),
        (both, True, False),
        (alone, False, False),
    ):
        remarks = all_remarks(metrics_file(evaluation.metrics), {"augment.horizontal_flip": mirrors})
        assert any("trained without mirror images" in remark for remark in remarks) == is_said
    said = all_remarks(metrics_file(both.metrics), {})[0]
    assert "evaluate.tta: flip" in said
    assert f"an accuracy of {alone.metrics['accuracy']:.4f}" in said

    import pandas as pd

    write_predictions(both, shards.paths, tmp_path / "both.parquet")
    assert set(pd.read_parquet(tmp_path / "both.parquet")["tta"]) == {"flip"}
    write_predictions(alone, shards.paths, tmp_path / "alone.parquet")
    assert "tta" not in pd.read_parquet(tmp_path / "alone.parquet")


def test_what_a_model_file_says_of_its_view() -> None:
    plain = make_spec()
    assert not {"prepared_size", "evaluate_crop"} & set(plain.preprocessing())
    cut = replace(plain, prepared_size=(14, 18), evaluate_crop="centre")
    assert cut.preprocessing()["prepared_size"] == (14, 18)
    assert type(cut).from_dict(cut.to_dict()) == cut

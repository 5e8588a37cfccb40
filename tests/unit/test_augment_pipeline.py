"""All augmentations together: what a sample becomes is a function of (seed, epoch, id) alone."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import augment_options, output_of, start_python
from torch import Tensor
from torch.overrides import TorchFunctionMode

from darkroom.augment import pipeline
from darkroom.augment.draws import HOST, draw_words
from darkroom.augment.pipeline import Augmentation
from darkroom.errors import UserError
from darkroom.loading.philox import words
from darkroom.params import load_params

torch.set_num_threads(1)

ON_DEVICE: list[dict[str, Any]] = [
    {"crop_padding": 3},
    {"resized_crop": 0.2},
    {"horizontal_flip": True, "vertical_flip": True},
    {"rotate": 30},
    {"translate": 0.4},
    {"scale": 0.3},
    {"brightness": 0.5},
    {"contrast": 0.5},
    {"saturation": 0.5},
    {"hue": 0.3},
    {"erase": 0.9},
    {
        "crop_padding": 2,
        "horizontal_flip": True,
        "rotate": 9,
        "brightness": 0.2,
        "hue": 0.1,
        "erase": 0.5,
    },
]
MIXING: list[dict[str, Any]] = [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}]
IDS = torch.tensor([7, 0, 31, 2**32 - 1, 4, 5, 6, 100, 11, 12])


def augmentation(seed: int = 1, **options: Any) -> Augmentation:
    return Augmentation(augment_options(**options), seed)


def random_images(count: int = 10, side: int = 14, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, side, side, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", ON_DEVICE, ids=str)
def test_a_sample_does_not_depend_on_its_batch(options: dict[str, Any], channels: int) -> None:
    images = random_images(channels=channels)
    augment = augmentation(**options)
    got = augment.on_device(images, IDS, 3)
    assert (got.dtype, got.shape) == (torch.uint8, images.shape)
    order = torch.tensor([9, 2, 5, 0, 7, 1, 3, 8, 4, 6])
    assert torch.equal(augment.on_device(images[order], IDS[order], 3), got[order])
    for size in (1, 3, 7):
        parts = zip(images.split(size), IDS.split(size), strict=True)
        assert torch.equal(torch.cat([augment.on_device(part, ids, 3) for part, ids in parts]), got)
    if channels == 1 and not {"saturation", "hue"}.isdisjoint(options) and len(options) == 1:
        assert torch.equal(got, images)
        return
    assert not torch.equal(got, images)
    for seed, epoch, ids in (
        (2, 3, IDS),
        (1, 4, IDS),
        (1, 3, IDS + torch.tensor([1] * 3 + [-9] + [1] * 6)),
    ):
        other = augmentation(seed, **options).on_device(images, ids, epoch)
        assert (other != got).flatten(1).any(1).sum() >= 3


@pytest.mark.parametrize("options", ON_DEVICE, ids=str)
def test_identical_images_come_out_differently(options: dict[str, Any]) -> None:
    images = random_images(1).expand(60, -1, -1, -1)
    got = augmentation(**options).on_device(images, torch.arange(60), 0)
    num_ways = 4 if options == {"horizontal_flip": True, "vertical_flip": True} else 20
    assert len({image.numpy().tobytes() for image in got}) >= num_ways


@pytest.mark.parametrize("threads", [2, 3])
def test_neither_threads_nor_parts_change_pixels(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(40, side=48)
    ids = torch.arange(40)
    augment = augmentation(**{name: value for one in ON_DEVICE[2:] for name, value in one.items()})
    got = augment.on_device(images, ids, 0)
    monkeypatch.setattr(pipeline, "PIXELS_AT_ONCE", 1)
    assert torch.equal(augment.on_device(images, ids, 0), got)
    monkeypatch.setattr(pipeline, "PIXELS_AT_ONCE", 1 << 40)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(augment.on_device(images, ids, 0), got)
    finally:
        torch.set_num_threads(1)


def digest_of_everything() -> str:
    """SHA-256 of what all changes together and both mixings make."""
    options = {name: value for one in ON_DEVICE[1:-1] + MIXING for name, value in one.items()}
    images = augmentation(**options).on_device(random_images(33, side=19), torch.arange(33), 0)
    mixed, _, _ = augmentation(**options).mix(images, torch.arange(33), torch.arange(33), 0)
    return hashlib.sha256(images.numpy().tobytes() + mixed.numpy().tobytes()).hexdigest()


@pytest.mark.slow
def test_instruction_sets_do_not_change_pixels() -> None:
    code = "from test_augment_pipeline import digest_of_everything as digest; print(digest())"
    without_vectors = start_python(code, cwd=Path(__file__).parent, ATEN_CPU_CAPABILITY="default")
    assert torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    assert output_of(without_vectors).strip() == digest_of_everything()


def test_with_nothing_switched_on_the_images_come_back_as_they_are() -> None:
    images = random_images()
    augment = augmentation()
    assert augment.on_device(images, IDS, 0) is images
    assert augment.on_host(images, IDS, 0) is images
    assert not augment.needs_host
    assert not augment.mixes


def test_switching_one_change_on_leaves_the_others_as_drawn() -> None:
    images = random_images()
    shifted = augmentation(crop_padding=3).on_device(images, IDS, 0)
    turned = augmentation(rotate=20).on_device(shifted, IDS, 0)
    assert torch.equal(augmentation(crop_padding=3, rotate=20).on_device(images, IDS, 0), turned)
    erased = augmentation(erase=0.7).on_device(turned, IDS, 0)
    assert torch.equal(
        augmentation(crop_padding=3, rotate=20, erase=0.7).on_device(images, IDS, 0), erased
    )


def test_no_two_changes_share_words() -> None:
    blocks = range(HOST.stop)
    drawn = draw_words(1, 2, IDS, blocks)
    assert np.array_equal(drawn[:, :4], words(1, 2, 2, IDS))
    assert len(np.unique(drawn)) == drawn.size
    step_blocks = [
        block
        for options in ({"crop_padding": 1, "rotate": 1, "hue": 0.1, "erase": 1}, {"resized_crop": 0.5})
        for step in augmentation(**options)._steps
        for block in step.blocks
    ]
    assert len(set(step_blocks)) == len(step_blocks)


@pytest.mark.parametrize("options", MIXING, ids=str)
def test_mixing_does_not_depend_on_the_batch(options: dict[str, Any]) -> None:
    images, targets = random_images(), torch.arange(10)
    augment = augmentation(**options)
    assert augment.mixes
    mixed, others, shares = augment.mix(images, targets, IDS, 0)
    assert (mixed.dtype, mixed.shape) == (torch.float32, (9, 14, 14, 3))
    assert torch.equal(others, targets[1:])
    for one in range(9):
        pair = slice(one, one + 2)
        alone = augment.mix(images[pair], targets[pair], IDS[one : one + 1], 0)
        assert torch.equal(alone[0], mixed[one : one + 1])
        assert (alone[1], alone[2]) == (others[one], shares[one])
    for seed, epoch, ids in ((2, 0, IDS), (1, 1, IDS), (1, 0, IDS.flip(0))):
        assert not torch.equal(augmentation(seed, **options).mix(images, targets, ids, epoch)[0], mixed)


class MultipliesByReciprocals(TorchFunctionMode):
    """Divides by Python numbers as CUDA does: by a multiplication with the rounded reciprocal."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.Tensor.__truediv__, torch.Tensor.div, torch.div):
            number, divisor = args
            if not isinstance(divisor, Tensor):
                return number.float() * torch.tensor(1 / divisor, dtype=torch.float32)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", [(20, 28), (224, 224)], ids=str)
def test_division_as_on_a_gpu_gives_the_same_pixels_and_shares(size: tuple[int, int]) -> None:
    count = 40
    images = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8)
    ids = torch.arange(count)
    augment = augmentation(contrast=0.8, saturation=0.5, hue=0.2, mixup=0.5, cutmix=1.0)

    def changed() -> list[Tensor]:
        device = augment.on_device(images, ids, 0)
        mixed, _, shares = augment.mix(device, ids, ids, 0)
        return [device, mixed, shares]

    wanted = changed()
    with MultipliesByReciprocals():
        found = changed()
        areas = torch.arange(size[0] * size[1]) / (size[0] * size[1])
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    # the mode does what it says
    assert not torch.equal(areas, torch.arange(size[0] * size[1]) / (size[0] * size[1]))


def test_policies_and_transforms_need_the_host() -> None:
    images = random_images(4)
    for options in ({"policy": "trivialaugment"}, {"transforms": [{"RandomInvert": {"p": 1.0}}]}):
        augment = pickle.loads(pickle.dumps(augmentation(**options, mixup=1.0, rotate=5)))
        assert augment.needs_host
        got = augment.on_host(images, IDS[:4], 0)
        assert torch.equal(augment.on_host(images[2:], IDS[2:4], 0), got[2:])
        assert not torch.equal(got, images)


def refusal(old: str, new: str, folder: Path) -> str:
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    assert old in text
    (folder / "params.yaml").write_text(text.replace(old, new))
    with pytest.raises(UserError) as refused:
        load_params(folder / "params.yaml")
    return str(refused.value).split(": ", 1)[1]


def test_two_kinds_of_crop_are_refused(tmp_path: Path) -> None:
    assert refusal("  resized_crop: null", "  resized_crop: 0.08", tmp_path) == (
        "augment.resized_crop: 0.08 and augment.crop_padding 1 both crop; set this to null or that to 0"
    )


@pytest.mark.parametrize("given", ["[GaussianBlur]", "[{A: {}, B: {}}]", "[{A: }]", "{A: {}}"])
def test_transforms_are_a_list_of_names_with_arguments(given: str, tmp_path: Path) -> None:
    message = refusal("  transforms: []", f"  transforms: {given}", tmp_path)
    assert message.startswith("augment.transforms: ")
    assert message.endswith(" is not allowed; it must be a list with any of {NAME: {argument: value}}")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("options", ON_DEVICE + MIXING, ids=str)
def test_a_gpu_gives_the_same_bits(options: dict[str, Any]) -> None:
    images, targets = random_images(), torch.arange(10)
    augment = augmentation(**options)
    if augment.mixes:
        got = augment.mix(images.cuda(), targets.cuda(), IDS, 0)
        wanted = augment.mix(images, targets, IDS, 0)
    else:
        got, wanted = [augment.on_device(images.cuda(), IDS, 0)], [augment.on_device(images, IDS, 0)]
    for one, other in zip(got, wanted, strict=True):
        assert one.is_cuda
        assert torch.equal(one.cpu(), other)

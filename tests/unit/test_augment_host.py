"""torchvision's policies and transforms, a sample at a time, against torchvision called by hand."""

import pickle

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from darkroom.augment.draws import HOST, draw_words
from darkroom.augment.host import POLICIES, make_transforms, transform_each
from darkroom.errors import UserError

torch.set_num_threads(1)


def random_images(count: int = 6, side: int = 16, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, side, side, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


IDS = torch.tensor([5, 0, 9, 2**32 - 1, 3, 4])


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_are_torchvisions(policy: str) -> None:
    images = random_images()
    got = transform_each(make_transforms(policy, []), images, 1, 2, IDS)
    assert got.is_contiguous()
    by_hand = {
        "randaugment": v2.RandAugment(),
        "trivialaugment": v2.TrivialAugmentWide(),
        "autoaugment": v2.AutoAugment(),
        "augmix": v2.AugMix(),
    }[policy]
    words = draw_words(1, 2, IDS, HOST).tolist()
    for image, row, result in zip(images, words, got, strict=True):
        torch.manual_seed((row[0] << 31) | (row[1] >> 1))
        assert torch.equal(result.permute(2, 0, 1), by_hand(image.permute(2, 0, 1)))
    assert not torch.equal(got, images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_sample_does_not_depend_on_its_batch(policy: str, channels: int) -> None:
    transforms = pickle.loads(
        pickle.dumps(make_transforms(policy, [{"RandomRotation": {"degrees": 20}}]))
    )
    images = random_images(channels=channels)
    got = transform_each(transforms, images, 1, 0, IDS)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.equal(transform_each(transforms, images[order], 1, 0, IDS[order]), got[order])
    for one in range(6):
        alone = slice(one, one + 1)
        assert torch.equal(transform_each(transforms, images[alone], 1, 0, IDS[alone]), got[alone])
    for other in ((2, 0, IDS), (1, 1, IDS), (1, 0, IDS.flip(0))):
        assert not torch.equal(transform_each(transforms, images, *other), got)


def test_identical_images_come_out_differently() -> None:
    images = random_images(1).expand(40, -1, -1, -1)
    transforms = make_transforms("trivialaugment", [])
    got = transform_each(transforms, images, 0, 0, torch.arange(40))
    assert len({image.numpy().tobytes() for image in got}) > 20


def test_torchs_generator_and_threads_are_left_as_they_were() -> None:
    torch.manual_seed(8)
    before = torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        transform_each(make_transforms("augmix", []), random_images(), 0, 0, IDS)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), before)


def test_transforms_come_in_their_order_and_before_the_policy() -> None:
    named = [{"RandomInvert": {"p": 1.0}}, {"RandomPosterize": {"bits": 1, "p": 1.0}}]
    images = random_images()
    got = transform_each(make_transforms(None, named), images, 0, 0, IDS)
    assert torch.equal(got, (255 - images) & 128)
    assert not torch.equal(transform_each(make_transforms(None, named[::-1]), images, 0, 0, IDS), got)
    names = [name for name, _ in make_transforms("augmix", named)]
    assert names == [
        "augment.transforms: RandomInvert",
        "augment.transforms: RandomPosterize",
        "augment.policy: augmix",
    ]


def test_nothing_is_made_where_nothing_is_asked_for() -> None:
    assert make_transforms(None, []) == []


@pytest.mark.parametrize(
    ("named", "beginning"),
    [
        (
            {"GausianBlur": {"kernel_size": 3}},
            "augment.transforms: torchvision.transforms.v2 has no transform GausianBlur; did you mean "
            "GaussianBlur? The transforms are: ",
        ),
        (
            {"functional": {}},
            "augment.transforms: torchvision.transforms.v2 has no transform functional. "
            "The transforms are: ",
        ),
        (
            {"GaussianBlur": {"size": 3}},
            "augment.transforms: GaussianBlur rejects the arguments {'size': 3} (",
        ),
        (
            {"GaussianBlur": {"kernel_size": 4}},
            "augment.transforms: GaussianBlur rejects the arguments {'kernel_size': 4} (",
        ),
    ],
)
def test_what_torchvision_cannot_make_is_refused(named: dict, beginning: str) -> None:
    with pytest.raises(UserError) as refused:
        make_transforms(None, [named])
    assert str(refused.value).startswith(beginning)


@pytest.mark.parametrize(
    ("named", "name", "result"),
    [
        ({"Resize": {"size": 8}}, "Resize", "uint8 image of 8 x 8 pixels and 3 channels"),
        (
            {"ConvertImageDtype": {}},
            "ConvertImageDtype",
            "float32 image of 16 x 16 pixels and 3 channels",
        ),
        ({"ToPILImage": {}}, "ToPILImage", "PIL Image"),
    ],
)
def test_what_does_not_keep_type_and_size_is_refused(named: dict, name: str, result: str) -> None:
    with pytest.raises(UserError) as refused:
        transform_each(make_transforms(None, [named]), random_images(), 0, 0, IDS)
    assert str(refused.value) == (
        f"augment.transforms: {name} turns a uint8 image of 16 x 16 pixels and 3 channels into a "
        f"{result}; only transforms that keep type and size are allowed, so remove it"
    )


def test_a_transform_that_fails_is_named() -> None:
    transforms = make_transforms(None, [{"RandomCrop": {"size": 20}}])
    before = torch.get_rng_state()
    with pytest.raises(
        UserError, match=r"^augment.transforms: RandomCrop cannot transform a uint8 image of "
    ):
        transform_each(transforms, random_images(), 0, 0, IDS)
    assert torch.equal(torch.get_rng_state(), before)

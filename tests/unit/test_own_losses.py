"""Losses and transforms from a Python file of the user: mistakes, values, gradients, workers."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from project import documented
from support import augment_options, train_options, two_brightnesses, write_shards
from test_params import edited

from darkroom.augment.pipeline import Augmentation
from darkroom.dataset.shards import Shards
from darkroom.errors import UserError
from darkroom.loading.batches import Batches
from darkroom.params import load_params
from darkroom.training.losses import make_loss
from darkroom.training.targets import mask, one_class, several_labels
from darkroom.void import VOID

LOSSES, NOISE = Path("own/train/losses.py"), Path("own/train/noise.py")
POLY, NOISE_NAME = f"file:{LOSSES}:poly", f"file:{NOISE}:Noise"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder: a project with the guide's examples."""
    monkeypatch.chdir(tmp_path)
    LOSSES.parent.mkdir(parents=True)
    for path in (LOSSES, NOISE):
        path.write_text(documented(f"{path}"))


def loss_of(target: Any = one_class, num_classes: int = 4, **options: Any) -> Any:
    names = [f"{index}" for index in range(num_classes)]
    values = train_options(**{"loss": POLY, "label_smoothing": 0.0, **options})
    return make_loss(target, values, names, [1] * num_classes, num_classes, torch.device("cpu"))


def params(edits: dict[str, str]) -> str:
    """The mistakes in params.yaml; empty if there are none."""
    Path("params.yaml").write_text(edited(edits))
    try:
        load_params(Path("params.yaml"))
    except UserError as error:
        return f"{error}"
    return ""


# losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_loss_of_a_file_is_computed_as_it_says_with_its_gradient(smoothing: float) -> None:
    loss = loss_of(label_smoothing=smoothing)
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    targets = torch.tensor([0, 3, 1, 1, 2])
    p = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
    smooth = F.one_hot(targets, 4) * (1 - smoothing) + smoothing / 4
    expected = -(smooth * p.log()).sum(dim=1) + 1 - p[torch.arange(5), targets]
    assert torch.allclose(loss(logits, targets), expected)
    assert torch.autograd.gradcheck(lambda values: loss(values, targets), logits)


def test_class_weights_and_gamma_reach_a_loss_that_takes_them() -> None:
    LOSSES.write_text(
        "def poly(logits, targets, class_weights, focal_gamma):\n"
        "    return logits.sum(dim=1) * class_weights[targets] * focal_gamma\n"
    )
    loss = loss_of(class_weights={"0": 3.0}, focal_gamma=2.0)
    values = loss(torch.ones(2, 4), torch.tensor([0, 1]))
    assert values.tolist() == pytest.approx([16.0, 16 / 3])  # weights with a mean of 1


@pytest.mark.parametrize("kind", ["several", "mask"])
def test_a_loss_gets_the_targets_of_its_kind(kind: str) -> None:
    if kind == "several":
        LOSSES.write_text(
            "import torch\n"
            "def poly(logits, targets):\n"
            "    assert targets.shape == logits.shape and targets.dtype == torch.uint8\n"
            "    return (logits - targets).square().mean(dim=1)\n"
        )
        values = loss_of(several_labels)(torch.zeros(2, 4), torch.eye(4)[:2].to(torch.uint8))
        assert values.tolist() == [0.25, 0.25]
        return
    LOSSES.write_text(
        "import torch.nn.functional as F\n"
        "def poly(logits, targets):\n"
        f"    pixels = F.cross_entropy(logits, targets.long(), reduction='none', ignore_index={VOID})\n"
        "    return pixels.mean(dim=(1, 2))\n"
    )
    masks = torch.zeros(2, 3, 3, dtype=torch.uint8)
    assert loss_of(mask)(torch.zeros(2, 4, 3, 3), masks).tolist() == pytest.approx([1.3862944] * 2)


TRIED = {
    "a mean": ("return logits.mean()", "returns float32 of shape () for 3 images; it must return"),
    "two axes": ("return logits", "returns float32 of shape (3, 4) for 3 images"),
    "whole numbers": ("return targets", "returns int64 of shape (3,)"),
    "a list": ("return [1.0, 2.0, 3.0]", "returns a list for 3 images"),
    "an error": (
        "return logits @ targets",
        "own/train/losses.py:3: RuntimeError: ",
    ),
    "no gradient": (
        "return logits.detach().sum(dim=1)",
        "own/train/losses.py: RuntimeError: element 0 of tensors does not require grad",
    ),
    "not finite": ("return logits.sum(dim=1) / 0", "returns losses or gradients that are not finite"),
    "a gradient that is not finite": (
        "return (logits.sum(dim=1) * 0).sqrt()",
        "returns losses or gradients that are not finite",
    ),
    "random": (
        "return logits.sum(dim=1) + torch.rand(3)",
        "returns other losses for the same logits and targets",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TRIED)
def test_what_is_no_loss_is_refused_before_training(case: str) -> None:
    body, expected = TRIED[case]
    LOSSES.write_text(f"import torch\ndef poly(logits, targets):\n    {body}\n")
    with pytest.raises(UserError, match=rf"^train\.loss: .*{re.escape(expected)}"):
        loss_of()


STATIC = {
    "a parameter": (
        {"train.class_weights": "class_weights: balanced"},
        "train.class_weights: balanced has no effect when poly in own/train/losses.py does not take"
        " class_weights; it must be null",
    ),
    "gamma": (
        {"train.focal_gamma": "focal_gamma: 2"},
        "train.focal_gamma: 2.0 has no effect when poly in own/train/losses.py does not take",
    ),
    "a name": (
        {"train.loss": "loss: file:own/train/losses.py:poly1"},
        "train.loss: own/train/losses.py does not define poly1; did you mean poly?",
    ),
    "a place": (
        {"train.loss": "loss: file:losses.py:poly"},
        "train.loss: 'file:losses.py:poly' is not allowed; it must be one of cross_entropy, nll,"
        " focal, bce, dice, cross_entropy+dice, focal+dice or file:own/train/NAME.py:NAME",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATIC)
def test_mistakes_of_a_loss_show_when_the_parameters_are_read(case: str) -> None:
    edits, expected = STATIC[case]
    own = {"train.loss": f"loss: {POLY}"}
    assert params(own) == ""
    assert re.fullmatch(rf"params\.yaml:\d+: {re.escape(expected)}.*", params({**own, **edits}))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "logits",
            "train.loss: poly in own/train/losses.py does not take targets; a loss takes logits,",
        ),
        ("logits, targets, margin", "requires the argument margin, which darkroom does not pass"),
        ("logits, targets", "train.label_smoothing: 0.05 has no effect when poly in"),
    ],
)
def test_arguments_of_a_loss_show_when_the_parameters_are_read(arguments: str, expected: str) -> None:
    LOSSES.write_text(f"def poly({arguments}): pass\n")
    assert expected in params({"train.loss": f"loss: {POLY}"})
    LOSSES.write_text(f"poly = lambda {arguments}: logits.sum(dim=1)\n")  # which only a run tells
    assert params({"train.loss": f"loss: {POLY}"}) == ""
    with pytest.raises(UserError, match=re.escape(expected)):
        loss_of(label_smoothing=0.05)


def test_a_file_called_dice_is_no_dice_loss() -> None:
    LOSSES.rename(LOSSES.with_name("dice.py"))
    assert loss_of(loss="file:own/train/dice.py:poly")(torch.zeros(1, 4), torch.tensor([0])).shape == (
        1,
    )


# transforms


def augmentation(**arguments: Any) -> Augmentation:
    return Augmentation(augment_options(transforms=[{NOISE_NAME: arguments}]), 3)


def images_of(given: Augmentation, workers: int = 0) -> torch.Tensor:
    images, labels = two_brightnesses(20, 0)
    if not Path("shards").exists():
        write_shards(Path("shards"), images, labels, "decoded")
    batches = Batches(Shards(Path("shards")), torch.device("cpu"), 5, workers, given, given.needs_host)
    return torch.cat([batch.images.clone() for batch in batches.epoch(0, 0, given)])


def test_a_transform_of_a_file_changes_each_image_by_its_seed_whoever_loads_it() -> None:
    plain, noisy = images_of(augmentation(strength=0)), images_of(augmentation(strength=8))
    difference = noisy.int() - plain.int()
    assert 6 < difference.float().std() < 9
    assert torch.equal(images_of(augmentation(strength=8)), noisy)
    assert torch.equal(images_of(augmentation(strength=8), workers=2), noisy)
    assert not torch.equal(images_of(augmentation(strength=9)), noisy)


def test_a_transform_that_writes_into_its_image_leaves_the_stored_one() -> None:
    NOISE.write_text("def Noise(): return lambda image: image.fill_(7)\n")
    images = torch.full((2, 4, 4, 1), 9, dtype=torch.uint8)
    changed = augmentation().on_host(images, torch.arange(2), 0)
    assert (changed.unique().tolist(), images.unique().tolist()) == ([7], [9])


CHANGED = {
    "another type": ("return image.float()", "into a float32 image of 4 x 4 pixels and 1 channel;"),
    "another size": ("return image[:, :2]", "into a uint8 image of 2 x 4 pixels and 1 channel;"),
    "nothing": ("pass", "into a builtins NoneType;"),
    "an error": ("return image @ 1", "own/train/noise.py:3: TypeError: "),
    "random": (
        "return image + random.randrange(1, 200)",
        "changes an image in another way when it is called again with the same seed",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_is_no_transform_is_refused(case: str) -> None:
    body, expected = CHANGED[case]
    NOISE.write_text(
        f"import random; random.seed(1)\ndef change(image):\n    {body}\ndef Noise(): return change"
    )
    with pytest.raises(UserError, match=rf"^augment\.transforms: .*{re.escape(expected)}"):
        augmentation().on_host(torch.zeros(1, 4, 4, 1, dtype=torch.uint8), torch.arange(1), 0)


def test_arguments_that_a_transform_rejects_are_named() -> None:
    with pytest.raises(UserError, match=r"own/train/noise.py: TypeError: .*strength.*arguments \{\}"):
        augmentation()
    NOISE.write_text("def Noise(): return 3")
    with pytest.raises(UserError, match=r"Noise in own/train/noise.py makes a int; it must make"):
        augmentation()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NOISE_NAME, ""),
        ("file:own/train/noise.py:Nose", "own/train/noise.py does not define Nose; did you mean Noise?"),
        (
            "file:own/train/nose.py:Noise",
            "there is no file own/train/nose.py; own/train/ holds losses.py",
        ),
        (
            "file:noise.py:Noise",
            "'file:noise.py:Noise' is not allowed; it must be file:own/train/FILE.py",
        ),
    ],
)
def test_mistakes_of_a_transform_show_when_the_parameters_are_read(name: str, expected: str) -> None:
    found = params({"augment.transforms": f"transforms: [{{'{name}': {{strength: 8}}}}]"})
    assert bool(found) == bool(expected)
    assert expected in found

"""Knowledge distillation: its loss against torch's distributions, and which teachers are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import make_spec, plain_loss, train_options
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from darkroom.config.train import Teacher as TeacherOptions
from darkroom.errors import UserError
from darkroom.loading.batches import TrainBatch
from darkroom.models.factory import make_classifier
from darkroom.models.file import save_model
from darkroom.models.spec import ModelSpec
from darkroom.training.losses import losses_of
from darkroom.training.targets import mask, one_class, several_labels
from darkroom.training.teacher import load_teacher

CPU = torch.device("cpu")
SPEC = make_spec(class_names=("ant", "bee", "cat"), training={"data.digest": "d1"})


def logits_of(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def categorical(logits: Tensor) -> Categorical:
    return Categorical(logits=logits.movedim(1, -1))


DIVERGENCES: dict[str, tuple[Any, tuple[int, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "one class": (
        one_class,
        (9, 4),
        lambda ours, teacher: kl_divergence(categorical(teacher), categorical(ours)),
    ),
    "several labels": (
        several_labels,
        (9, 4),
        lambda ours, teacher: kl_divergence(Bernoulli(logits=teacher), Bernoulli(logits=ours)).mean(1),
    ),
    "masks": (
        mask,
        (3, 4, 5, 6),
        lambda ours, teacher: kl_divergence(categorical(teacher), categorical(ours)).mean((1, 2)),
    ),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_divergence_is_that_of_torchs_distributions(name: str) -> None:
    target, shape, expected = DIVERGENCES[name]
    ours, teacher = logits_of(0, *shape), logits_of(1, *shape)
    found = target.divergence(ours, teacher)
    torch.testing.assert_close(found, expected(ours, teacher))
    assert found.shape == (shape[0],)
    assert found.min() > 0
    torch.testing.assert_close(target.divergence(ours, ours), torch.zeros(shape[0]), atol=1e-6, rtol=0)
    assert not torch.allclose(found, expected(teacher, ours))  # the direction matters


def test_the_loss_is_hintons() -> None:
    weight, temperature = 0.3, 4.0
    options = train_options(teacher={"file": "a", "weight": weight, "temperature": temperature})
    ours, teacher, targets = logits_of(0, 6, 3), logits_of(1, 6, 3), torch.tensor([0, 1, 2] * 2)
    batch = TrainBatch(torch.zeros(6, 1, 1, 1), targets, teacher_logits=teacher)
    soft = (teacher / temperature).softmax(1)
    divergence = (soft * (soft.log() - (ours / temperature).log_softmax(1))).sum(1)
    labels = F.cross_entropy(ours, targets, reduction="none")
    expected = (1 - weight) * labels + weight * temperature**2 * divergence
    torch.testing.assert_close(losses_of(ours, batch, plain_loss(options, 3)), expected)
    weighted = batch._replace(weights=torch.arange(6.0))
    torch.testing.assert_close(
        losses_of(ours, weighted, plain_loss(options, 3)), expected * torch.arange(6.0)
    )


def test_with_a_weight_of_1_labels_do_not_matter_and_below_they_do() -> None:
    ours, teacher, targets = logits_of(0, 6, 3), logits_of(1, 6, 3), torch.tensor([0, 1, 2] * 2)
    for weight, matter in ((1, False), (0.99, True)):
        options = train_options(teacher={"file": "a", "weight": weight, "temperature": 2})
        batch = TrainBatch(torch.zeros(6, 1, 1, 1), targets, teacher_logits=teacher)
        one, other = (
            losses_of(ours, batch._replace(targets=t), plain_loss(options, 3))
            for t in (targets, 2 - targets)
        )
        assert torch.equal(one, other) != matter


# teachers


def saved(path: Path, spec: ModelSpec = SPEC) -> Path:
    torch.manual_seed(0)
    save_model(make_classifier(spec), spec, path)
    return path


def options_of(path: Path) -> TeacherOptions:
    return {"file": f"{path}", "weight": 0.5, "temperature": 2}


def test_a_teacher_sees_the_images_of_the_batch_and_its_classes_are_put_in_order(weights: Path) -> None:
    shuffled = replace(SPEC, class_names=("cat", "ant", "bee"))
    path = saved(weights / "large.safetensors", shuffled)
    teacher = load_teacher(options_of(path), replace(SPEC, name="mlp", width=8, depth=1), "d1", CPU)
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    [batch] = teacher.taught([TrainBatch(images, torch.zeros(5, dtype=torch.int64))])
    torch.manual_seed(0)
    expected = make_classifier(shuffled).eval()(images).detach()
    assert batch.teacher_logits is not None
    torch.testing.assert_close(batch.teacher_logits, expected[:, [1, 2, 0]])
    assert not batch.teacher_logits.requires_grad
    assert teacher.doubts == ()


def test_a_teacher_of_other_data_is_doubted_because_it_may_know_the_test_images(weights: Path) -> None:
    path = saved(weights / "large.safetensors")
    [doubt] = load_teacher(options_of(path), SPEC, "another digest", CPU).doubts
    assert "trained on other prepared data; if the test images were among its training images" in doubt


REFUSED: dict[str, tuple[ModelSpec, str]] = {
    "classes": (
        replace(SPEC, class_names=("ant", "bee", "dog")),
        r" has other classes than the data \(cat, dog\); train the teacher on the same classes",
    ),
    "size": (
        replace(SPEC, input_size=(16, 16)),
        r" and the network differ in their image size \(\(16, 16\), \(8, 8\)\); train the teacher on",
    ),
    "channels": (
        replace(SPEC, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3),
        r" and the network differ in their number of channels \(3, 1\)",
    ),
    "labels": (
        replace(SPEC, target="several_labels", thresholds=(0.5,) * 3),
        r" and the network differ in their kind of target \(several_labels, one_class\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_teacher_of_something_else_is_refused(name: str, weights: Path) -> None:
    spec, message = REFUSED[name]
    path = saved(weights / "large.safetensors", spec)
    with pytest.raises(UserError, match=rf"train\.teacher: {path}{message}"):
        load_teacher(options_of(path), SPEC, "d1", CPU)


def test_a_file_that_is_no_teacher_is_refused(weights: Path) -> None:
    with pytest.raises(UserError, match=r"train\.teacher: there is no file models/weights/none\.safet"):
        load_teacher(options_of(weights / "none.safetensors"), SPEC, "d1", CPU)
    torch.save({}, weights / "library.pth")
    with pytest.raises(UserError, match=r"library\.pth is not a model file that train has written"):
        load_teacher(options_of(weights / "library.pth"), SPEC, "d1", CPU)
    outside = saved(Path("large.safetensors"))
    with pytest.raises(UserError, match="move it to models/weights/large"):
        load_teacher(options_of(outside), SPEC, "d1", CPU)
    path = saved(weights / "large.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_teacher(options_of(path), SPEC, "d1", CPU)

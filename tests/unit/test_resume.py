"""A training that resumes from any of its states ends with the same weights as one never interrupted."""

import copy
import gc
import math
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from quick import quick_first
from support import make_spec, plain_loss, train_options
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from darkroom.config.train import Train
from darkroom.errors import UserError
from darkroom.loading.batches import Batch, TrainBatch
from darkroom.models.factory import make_classifier
from darkroom.training import batch_size, checkpoint
from darkroom.training.batch_size import settle_batch_size
from darkroom.training.checkpoint import Checkpoints
from darkroom.training.engine import fit
from darkroom.training.interruption import Interruption
from darkroom.training.losses import Loss, make_loss
from darkroom.training.moving_average import MovingAverage
from darkroom.training.state import TrainingState
from darkroom.training.targets import mask
from darkroom.training.teacher import Teacher
from darkroom.void import VOID

NUM_STEPS = 3
NUM_VAL_BATCHES = 2


@dataclass(frozen=True)
class Job:
    """A training of three epochs of three steps."""

    options: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    is_weighted: bool = False
    is_mixed: bool = False
    is_val_inverted: bool = False
    """Validation labels are the wrong ones, so learning makes it worse."""
    seed: int = 0
    make_model: Callable[[], nn.Module] | None = None

    def train_options(self) -> Train:
        values = {"epochs": 3, "weight_decay": 0.01, **self.options}
        return train_options(**values)

    def new_state(self, weights_seed: int = 0) -> TrainingState:
        torch.manual_seed(weights_seed)
        make_model = self.make_model or (lambda: make_classifier(make_spec(dropout=self.dropout)))
        return TrainingState(make_model(), self.train_options(), NUM_STEPS)

    def train_batches(self, epoch: int, first_step: int) -> Iterator[TrainBatch]:
        """Batches of 5 to 8 images that are functions of (epoch, step)."""
        for step in range(first_step, NUM_STEPS):
            generator = torch.Generator().manual_seed(100 * epoch + step)
            images, targets = some_images(8 - step, generator)
            weights = torch.rand(len(images), generator=generator) * 2 if self.is_weighted else None
            if not self.is_mixed:
                yield TrainBatch(images, targets, weights)
                continue
            shares = torch.rand(len(images), generator=generator)
            share = shares[:, None, None, None]
            mixed = share * images.float() + (1 - share) * images.flip(0).float()
            yield TrainBatch(mixed, targets, weights, targets.flip(0), shares)

    def val_batches(self, epoch: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(99)
        images, targets = some_images(16, generator)
        targets = 1 - targets if self.is_val_inverted else targets
        return list(zip(images.split(8), targets.split(8), strict=True))

    def loss(self) -> Loss:
        return plain_loss(self.train_options())

    def run(self, state: TrainingState, checkpoints: Checkpoints | None = None) -> dict[str, Any]:
        """Trains to the end, and returns the state at the end."""
        results = list(
            fit(
                state,
                self.train_batches,
                self.val_batches,
                self.loss(),
                self.train_options(),
                self.seed,
                checkpoints,
            )
        )
        assert results == state.results
        return checkpoint.copied(state.to_dict())


class MaskJob(Job):
    """A training on masks: the first row is void, other pixels say whether they are light."""

    def new_state(self, weights_seed: int = 0) -> TrainingState:
        torch.manual_seed(weights_seed)
        spec = make_spec(name="unet", target="mask", dropout=self.dropout)
        return TrainingState(make_classifier(spec), self.train_options(), NUM_STEPS)

    def train_batches(self, epoch: int, first_step: int) -> Iterator[TrainBatch]:
        for batch in super().train_batches(epoch, first_step):
            yield batch._replace(targets=masks_of(batch.images))

    def val_batches(self, epoch: int) -> list[Batch]:
        return [(images, masks_of(images)) for images, _ in super().val_batches(epoch)]

    def loss(self) -> Loss:
        return make_loss(mask, self.train_options(), "ab", (60, 40), 100, torch.device("cpu"))


class TaughtJob(Job):
    """A training that imitates another network, too."""

    def train_batches(self, epoch: int, first_step: int) -> Iterator[TrainBatch]:
        torch.manual_seed(7)
        teacher = Teacher(make_classifier(make_spec()).eval(), [0, 1])
        yield from teacher.taught(super().train_batches(epoch, first_step))


def masks_of(images: Tensor) -> Tensor:
    masks = (images[:, 0] > 128).byte()
    masks[:, 0] = VOID
    return masks


def some_images(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise around a dark and around a light grey: uint8 ``(count, 1, 8, 8)``, int64 ``(count,)``."""
    targets = torch.arange(count) % 2
    noise = 40 * torch.randn(count, 1, 8, 8, generator=generator)
    images = noise + torch.where(targets == 1, 150, 105)[:, None, None, None]
    return images.clamp(0, 255).to(torch.uint8), targets


def differences(value: Any, other: Any, where: str = "") -> list[str]:
    """Names what is not the same to the bit."""
    if type(value) is not type(other):
        return [where]
    if isinstance(value, Tensor):
        return [] if value.dtype == other.dtype and value.equal(other) else [where]
    if isinstance(value, dict):
        if list(value) != list(other):
            return [where]
        return [name for key in value for name in differences(value[key], other[key], f"{where}.{key}")]
    if isinstance(value, list | tuple):
        if len(value) != len(other):
            return [where]
        pairs = enumerate(zip(value, other, strict=True))
        return [name for i, (a, b) in pairs for name in differences(a, b, f"{where}.{i}")]
    return [] if value == other else [where]


class EveryState(Checkpoints):
    """Keeps a state whenever one could be kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0, Interruption())
        self.num_saved = 0

    def is_due(self, epoch_ended: bool = False) -> bool:
        self.num_saved += 1
        return True


@pytest.fixture(autouse=True)
def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "NUM_KEPT", 1000)


def resumed(path: Path, folder: Path, job: Job) -> tuple[TrainingState, dict[str, Any]]:
    """Trains from a saved state to the end, beginning with other weights."""
    folder.mkdir(parents=True)
    (folder / path.name).hardlink_to(path)
    state = job.new_state(weights_seed=1)
    with Checkpoints(folder, 1e9, Interruption()) as checkpoints:
        assert checkpoints.restore(state)
    return state, job.run(state)


ADAMW: dict[str, Any] = {"optimizer": "adamw", "momentum": None, "lr": 0.01}
CONSTANT: dict[str, Any] = {"schedule": "constant", "warmup_fraction": None}
FALLS: dict[str, Any] = {"warmup_fraction": None, "decay_factor": 0.3}
JOBS = {
    "sgd": Job(),
    "adamw": Job(ADAMW),
    "constant": Job({**CONSTANT, "momentum": 0.0}),
    "cosine": Job({"schedule": "cosine", "warmup_fraction": 0.4}),
    "step": Job({"schedule": "step", "decay_epochs": 2, **FALLS}),
    "multi_step": Job({"schedule": "multi_step", "decay_epochs": [1, 2], **FALLS}),
    "exponential": Job({"schedule": "exponential", **FALLS, "decay_factor": 0.6}),
    "plateau": Job({"schedule": "plateau", "decay_epochs": 1, **FALLS}, is_val_inverted=True),
    "ema": Job({"ema_decay": 0.7}),
    "patience": Job({"patience": 2, "epochs": 8}, is_val_inverted=True),
    "clipped": Job({"clip_norm": 0.05}),
    "gradient norms": Job({"gradient_norms": True, "clip_norm": 0.1}),
    "dropout and micro batches": Job({"micro_batches": 3}, dropout=0.3),
    "weights and mixed images": Job({"label_smoothing": 0.1}, is_weighted=True, is_mixed=True),
    "masks": MaskJob(
        {"loss": "cross_entropy+dice", "class_weights": "balanced", "micro_batches": 2}, dropout=0.2
    ),
    "teacher": TaughtJob(
        {"teacher": {"file": "a", "weight": 0.6, "temperature": 2}, "micro_batches": 2}, dropout=0.3
    ),
    "float16": Job({"precision": "float16"}),
    "bfloat16": Job({"precision": "bfloat16"}),
    "all": Job(
        {**ADAMW, "ema_decay": 0.9, "patience": 2, "clip_norm": 0.5, "micro_batches": 2},
        dropout=0.2,
        is_weighted=True,
        is_mixed=True,
    ),
}


QUICK = ("sgd", "all")


@pytest.mark.parametrize("name", quick_first(QUICK, JOBS))
def test_a_training_resumed_at_any_step_ends_the_same(name: str, tmp_path: Path) -> None:
    job = JOBS[name]
    whole = job.run(job.new_state())
    with EveryState(tmp_path / "all") as checkpoints:
        assert differences(job.run(job.new_state(), checkpoints), whole) == []  # saving changes nothing
    num_epochs = len(whole["results"])
    assert num_epochs == 3  # of eight, where patience ends
    assert checkpoints.num_saved == num_epochs * (NUM_STEPS + NUM_VAL_BATCHES + 1)
    # those within a validation are the one before it, to the bit: a file's name holds its hash
    paths = sorted((tmp_path / "all").iterdir())
    steps = [(epoch, step) for epoch in range(num_epochs) for step in range(NUM_STEPS + 1)]
    expected = [f"{epoch:06d}-{step:08d}" for epoch, step in steps[1:]]
    assert [path.name[:15] for path in paths] == [*expected, f"{num_epochs:06d}-00000000"]
    for path in paths:
        _, end = resumed(path, tmp_path / path.stem, job)
        assert differences(end, whole) == [], path


@pytest.mark.slow
def test_every_kind_of_job_ends_in_a_state_of_its_own() -> None:
    ends = [job.run(job.new_state()) for job in JOBS.values()]
    weights = [
        tuple(torch.cat([tensor.flatten() for tensor in end["kept_weights"].values()]).tolist())
        for end in ends
    ]
    assert len(set(weights)) == len(JOBS)


@pytest.fixture(scope="module")
def half_done() -> Callable[[], dict[str, Any]]:
    """Makes the state of the job called all, saved after the second step of its second epoch."""
    job = JOBS["all"]
    state = job.new_state()
    kept: list[dict[str, Any]] = []

    class Keeping:
        newest = None

        def is_due(self, epoch_ended: bool = False) -> bool:
            return (state.epoch, state.step) == (1, 2)

        def save(self, state: TrainingState) -> None:
            kept.append(checkpoint.copied(state.to_dict()))

    job.run(state, Keeping())  # type: ignore[arg-type]
    assert len(kept) == 1
    return lambda: copy.deepcopy(kept[0])


@pytest.fixture(scope="module")
def whole(half_done: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The end of the job called all, which its saved state leads to as well."""
    job = JOBS["all"]
    end = job.run(job.new_state())
    assert differences(ended(job, half_done()), end) == []
    return end


def ended(job: Job, values: dict[str, Any]) -> dict[str, Any]:
    state = job.new_state(weights_seed=1)
    state.restore(values)
    return job.run(state)


def add_to_first_moment(values: dict[str, Any]) -> None:
    values["optimizer"]["state"][0]["exp_avg"].flatten()[0] += 1e-3


def add_to_second_moment(values: dict[str, Any]) -> None:
    values["optimizer"]["state"][0]["exp_avg_sq"].flatten()[0] *= 2


def add_a_step_to_the_optimizer(values: dict[str, Any]) -> None:
    values["optimizer"]["state"][0]["step"] += 1


def add_to_a_weight(values: dict[str, Any]) -> None:
    name = next(name for name in values["model"] if name.endswith("weight"))
    values["model"][name].flatten()[0] += 1e-3


def move_the_schedule(values: dict[str, Any]) -> None:
    values["schedule"]["last_epoch"] += 1


def repeat_a_step(values: dict[str, Any]) -> None:
    values["step"] -= 1
    values["schedule"]["last_epoch"] -= 1


CHANGES = [
    add_to_first_moment,
    add_to_second_moment,
    add_a_step_to_the_optimizer,
    add_to_a_weight,
    move_the_schedule,
    repeat_a_step,
]


@pytest.mark.parametrize("change", CHANGES)
def test_one_changed_value_of_a_state_gives_other_weights(
    change: Callable[[dict[str, Any]], None],
    half_done: Callable[[], dict[str, Any]],
    whole: dict[str, Any],
) -> None:
    changed = half_done()
    change(changed)
    end = ended(JOBS["all"], changed)
    assert differences(end["model"], whole["model"])
    assert differences(end["averaged"], whole["averaged"])


def test_a_changed_average_changes_what_is_validated_and_nothing_that_is_trained(
    half_done: Callable[[], dict[str, Any]],
    whole: dict[str, Any],
) -> None:
    changed = half_done()
    for tensor in changed["averaged"]["module"].values():
        tensor.flatten()[:1] += 1
    end = ended(JOBS["all"], changed)
    assert differences(end["averaged"], whole["averaged"])
    assert differences(end["kept_weights"], whole["kept_weights"])
    assert differences(end["model"], whole["model"]) == []


def test_another_seed_after_resuming_gives_other_weights(
    half_done: Callable[[], dict[str, Any]],
    whole: dict[str, Any],
) -> None:
    job = replace(JOBS["all"], seed=1)
    assert differences(ended(job, half_done())["model"], whole["model"])


def test_what_is_over_is_not_trained_again(tmp_path: Path) -> None:
    for name in ("sgd", "patience"):
        job = JOBS[name]
        state = job.new_state()
        end = job.run(state)
        again = job.new_state(weights_seed=1)
        again.restore(checkpoint.copied(end))
        never = replace(job, is_mixed=True)
        assert differences(never.run(again), end) == []


# the pieces that are in no formula of the other tests


def linear() -> nn.Module:
    """In float64, and without batch norm."""
    return nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(64, 2)).double()


class Scaled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.double() / 255


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_of_the_weights_is_the_formulas(tmp_path: Path, decay: float) -> None:
    """That of TensorFlow's ExponentialMovingAverage with num_updates; the first step is the average."""
    job = Job({"ema_decay": decay, "epochs": 2}, make_model=linear)
    with EveryState(tmp_path) as checkpoints:
        end = job.run(job.new_state(), checkpoints)
    saved = [torch.load(path, weights_only=True) for path in sorted(tmp_path.iterdir())]
    after_steps = [values for values in saved if values["step"] > 0]
    assert len(after_steps) == 2 * NUM_STEPS
    average = None
    for number, values in enumerate(after_steps):
        weight = values["model"]["2.weight"]
        kept = min(decay, (1 + number) / (10 + number))
        average = weight if average is None else kept * average + (1 - kept) * weight
        assert torch.allclose(values["averaged"]["module"]["2.weight"], average, rtol=1e-12)
    assert average is not None
    assert not torch.allclose(average, end["model"]["2.weight"], atol=1e-4)


def test_the_average_has_the_bytes_of_torchs_averaged_model() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)

    def update(averaged: Any, current: Any, num_updates: Tensor | int) -> None:
        count = int(num_updates)
        get_ema_multi_avg_fn(min(0.3, (1 + count) / (10 + count)))(averaged, current, num_updates)

    theirs = AveragedModel(model, multi_avg_fn=update)
    ours = MovingAverage(model, 0.3)
    for _ in range(5):
        model(torch.randn(2, 3, 8, 8))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        theirs.update_parameters(model)
        ours.update()
        assert differences(dict(ours.module.state_dict()), dict(theirs.module.state_dict())) == []
    assert differences(dict(ours.module.state_dict()), dict(model.state_dict()))


def test_the_average_is_what_is_validated_and_kept() -> None:
    job = Job({"ema_decay": 0.7, "epochs": 1})
    state = job.new_state()
    end = job.run(state)
    assert state.averaged is not None
    assert differences(end["kept_weights"], dict(state.averaged.module.state_dict())) == []
    assert differences(end["kept_weights"], end["model"])
    plain = Job({"epochs": 1})
    plain_end = plain.run(plain.new_state())
    assert differences(plain_end["model"], end["model"]) == []
    assert end["results"][0]["val_loss"] != plain_end["results"][0]["val_loss"]
    assert end["results"][0]["train_loss"] == plain_end["results"][0]["train_loss"]


@pytest.mark.parametrize(
    ("job", "kept"),
    [
        (Job({"patience": 2, "epochs": 8, **CONSTANT}, is_val_inverted=True), 1),
        (  # as good as the first
            Job({"patience": 2, "epochs": 8, **CONSTANT, "lr": 0.02}, is_val_inverted=True),
            2,
        ),
    ],
)
def test_the_kept_weights_are_those_of_the_kept_epoch(job: Job, kept: int) -> None:
    state = job.new_state()
    end = job.run(state)
    assert [result.is_best for result in state.results] == [True, False, False]  # of eight
    assert [result.is_kept for result in state.results] == [epoch <= kept for epoch in (1, 2, 3)]
    assert differences(end["kept_weights"], end["model"])
    assert state.kept is not None
    shorter = replace(job, options={**job.options, "epochs": state.kept.epoch})
    assert differences(end["kept_weights"], shorter.run(shorter.new_state())["model"]) == []


@pytest.mark.parametrize("count", [2, 3, 5, 100])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_micro_batches_teach_what_the_whole_batch_does(count: int, is_mixed: bool) -> None:
    job = Job({"clip_norm": 0.5}, is_weighted=True, is_mixed=is_mixed, make_model=linear)
    micro = replace(job, options={**job.options, "micro_batches": count})
    whole, parts = job.run(job.new_state()), micro.run(micro.new_state())
    for name, weights in whole["model"].items():
        assert torch.allclose(parts["model"][name], weights, rtol=0, atol=1e-6)
    losses, other_losses = (
        [(result["train_loss"], result["val_loss"]) for result in end["results"]]
        for end in (whole, parts)
    )
    assert other_losses == [pytest.approx(losses_of_epoch, abs=1e-6) for losses_of_epoch in losses]
    half = replace(job, options={**job.options, "lr": 0.025})
    assert not torch.allclose(
        half.run(half.new_state())["model"]["2.weight"], whole["model"]["2.weight"]
    )


# a loss that is no number


class Breaks(nn.Module):
    """Turns to NaN or infinity where it is shown a white image of a kind."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2)
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1).float() / 255)
        return logits * self.value if bool((images == 255).all()) else logits


@dataclass(frozen=True)
class BreakingJob(Job):
    """Breaks at a step of the second epoch, or in its validation."""

    at_step: int | None = None

    def train_batches(self, epoch: int, first_step: int) -> Iterator[TrainBatch]:
        steps = range(first_step, NUM_STEPS)
        for step, batch in zip(steps, super().train_batches(epoch, first_step), strict=True):
            is_white = epoch == 1 and step == self.at_step
            yield batch._replace(images=torch.full_like(batch.images, 255)) if is_white else batch


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at_step", range(NUM_STEPS))
def test_a_loss_that_is_no_number_names_its_step_and_the_last_good_state(
    value: float, at_step: int, tmp_path: Path
) -> None:
    job = BreakingJob({"lr": 0.125}, make_model=lambda: Breaks(value), at_step=at_step)
    with EveryState(tmp_path) as checkpoints:
        with pytest.raises(UserError) as refused:
            job.run(job.new_state(), checkpoints)
        newest = checkpoints.newest
    message = str(refused.value)
    assert newest is not None
    assert f"loss of step {at_step + 1} of {NUM_STEPS} in epoch 2 became" in message
    assert "train.lr (0.125)" in message
    assert "train.clip_norm" in message
    assert message.endswith(f"The last good state is {newest}")
    assert newest.name.startswith(f"000001-{at_step:08d}-")
    for path in tmp_path.iterdir():
        values = torch.load(path, weights_only=True)
        assert values["losses"].isfinite().all()
        assert all(tensor.isfinite().all() for tensor in values["model"].values())


def test_a_bad_loss_is_seen_at_the_end_of_an_epoch_also_where_nothing_is_saved() -> None:
    job = BreakingJob(make_model=lambda: Breaks(math.nan), at_step=1)
    with pytest.raises(UserError, match="loss of step 2 of 3 in epoch 2 became nan") as refused:
        job.run(job.new_state())
    assert "last good state" not in str(refused.value)


# memory


class Hungry(nn.Module):
    """Has memory for a limited number of images."""

    def __init__(self, limit: int, message: str | None) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2)
        self.limit = limit
        self.message = message

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) > self.limit:
            if self.message is None:
                raise torch.OutOfMemoryError("CUDA out of memory")
            raise RuntimeError(self.message)
        logits: Tensor = self.linear(images.flatten(1).float())
        return logits


CPU_MESSAGE = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."


CUBLAS_MESSAGE = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"


@pytest.mark.parametrize("message", [None, CPU_MESSAGE, CUBLAS_MESSAGE])
@pytest.mark.parametrize(
    ("limit", "micro_batches", "at_once", "fitting"),
    [(7, 1, 8, 4), (5, 1, 8, 4), (3, 1, 8, 2), (1, 1, 8, 1), (3, 2, 4, 2), (1, 2, 4, 1), (2, 3, 3, 2)],
)
def test_a_step_that_does_not_fit_names_sizes_that_do(
    message: str | None, limit: int, micro_batches: int, at_once: int, fitting: int
) -> None:
    job = Job({"micro_batches": micro_batches}, make_model=lambda: Hungry(limit, message))
    with pytest.raises(UserError) as refused:
        job.run(job.new_state())
    text = str(refused.value)
    assert text.startswith(f"train: {at_once} images of 8 x 8 pixels at once do not fit into the memory")
    named = re.search(r"train.batch_size: (\d+) would fit.*, or 8 with train.micro_batches: (\d+)", text)
    assert named is not None, text
    batch, parts = (int(number) for number in named.groups())
    assert batch == fitting * micro_batches
    assert math.ceil(8 / parts) <= limit
    smaller = Job({"micro_batches": parts}, make_model=lambda: Hungry(limit, message))
    smaller.run(smaller.new_state())


def test_where_not_even_one_image_fits_no_size_is_named() -> None:
    job = Job({"micro_batches": 8}, make_model=lambda: Hungry(0, None))
    with pytest.raises(UserError, match="not even one image of 8 x 8 pixels fits") as refused:
        job.run(job.new_state())
    assert "would fit" not in str(refused.value)


class FailsInValidation(nn.Linear):
    def __init__(self, error: RuntimeError) -> None:
        super().__init__(64, 2)
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            raise self.error
        return super().forward(images.flatten(1).float())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError(CPU_MESSAGE)])
def test_a_validation_that_does_not_fit_is_explained(error: RuntimeError) -> None:
    job = Job({}, make_model=lambda: FailsInValidation(error))
    with pytest.raises(UserError, match=r"^\d+ images of 8 x 8 pixels .* lower train.batch_size$"):
        job.run(job.new_state())


def test_another_error_in_validation_is_passed_on() -> None:
    job = Job({}, make_model=lambda: FailsInValidation(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        job.run(job.new_state())


def test_what_the_failed_step_held_is_freed_before_sizes_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[weakref.ref[Tensor]] = []

    class Holding(Hungry):
        def forward(self, images: Tensor) -> Tensor:
            activations = images.float() * 2
            held.append(weakref.ref(activations))
            return super().forward(images)

    def tried(*_: object) -> bool:
        assert all(reference() is None for reference in held)
        return True

    monkeypatch.setattr(batch_size, "_step_fits", tried)
    job = Job(make_model=lambda: Holding(4, None))
    gc.disable()
    try:
        with pytest.raises(UserError, match=r"train.batch_size: 4 would fit"):
            job.run(job.new_state())
    finally:
        gc.enable()
    assert held


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    job = Job(make_model=lambda: Hungry(4, "something else"))
    with pytest.raises(RuntimeError, match="something else"):
        job.run(job.new_state())


def on(device: str) -> Any:
    """Stands for a model there."""
    return SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device(device))]))


def settled(
    num_images: int, fits: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch, device: str = "cuda"
) -> int:
    def step_fits(model: object, image_shape: object, size: int, precision: str) -> bool:
        assert image_shape == (3, 8, 8)
        assert precision == "bfloat16"
        return fits(size)

    monkeypatch.setattr(batch_size, "_step_fits", step_fits)
    return settle_batch_size("auto", on(device), (3, 8, 8), num_images, "bfloat16")


@pytest.mark.parametrize(
    ("num_images", "largest", "settled_at"),
    [
        (1_000_000, 10_000, 1024),
        (1_000_000, 1024, 1024),
        (1_000_000, 1023, 512),
        (1_000_000, 100, 64),
        (1_000_000, 1, 1),
        (20 * 100, 10_000, 64),
        (20 * 64, 10_000, 64),
        (20 * 64 - 1, 10_000, 32),
        (5, 10_000, 1),
    ],
)
def test_auto_is_the_largest_power_of_two_that_fits_and_leaves_twenty_steps(
    num_images: int, largest: int, settled_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settled(num_images, lambda size: size <= largest, monkeypatch) == settled_at


def test_auto_on_a_cpu_tries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(size: int) -> bool:
        raise AssertionError

    assert settled(1_000_000, never, monkeypatch, "cpu") == 64
    assert settled(20 * 16, never, monkeypatch, "cpu") == 16


def test_a_number_is_taken_as_it_is() -> None:
    assert settle_batch_size(77, on("cuda"), (3, 8, 8), 10, "float32") == 77

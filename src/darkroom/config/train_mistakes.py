"""Which values of the section ``train`` do not go together."""

from typing import TYPE_CHECKING

from darkroom.config.section import Mistakes, null_unless
from darkroom.own_names import is_own_file

if TYPE_CHECKING:
    from darkroom.config.train import Train

_WARMED_UP = ("one_cycle", "cosine")
_DECAYED = ("step", "multi_step", "exponential", "plateau")
_WITH_DECAY_EPOCHS = ("step", "multi_step", "plateau")


def mistakes_of_training(train: "Train") -> Mistakes:
    """Yield a message for each combination of parameters of ``train`` that cannot work."""
    yield from _mistaken_sizes(train)
    yield from _mistaken_loss(train)
    yield from _mistaken_batches(train)
    yield from _mistaken_optimizer(train)
    yield from _mistaken_schedule(train)
    yield from _mistaken_decay_epochs(train)
    yield from _mistaken_freezing(train)
    yield from _mistaken_teacher(train)


def _mistaken_sizes(train: "Train") -> Mistakes:
    is_set = train.image_size is not None
    state = f"train.image_size is {'set' if is_set else 'null'}"
    yield from null_unless(is_set, state, "train.evaluate_crop", train.evaluate_crop)
    epochs = [epoch for epoch, _ in train.sizes]
    if not epochs:
        return
    name = "train.image_size"
    if epochs[0] != 1:
        yield name, f"begins at epoch {epochs[0]}; the first size must begin at epoch 1"
    if epochs != sorted(set(epochs)):
        yield name, f"the epochs {epochs} are not ascending; list each epoch once, in order"
    if epochs[-1] > train.epochs:
        yield (
            name,
            f"epoch {epochs[-1]} is never reached, because train.epochs is {train.epochs}",
        )
    if len(epochs) > 1:
        yield from _unfit_for_schedule(train, name)


def _unfit_for_schedule(train: "Train", name: str) -> Mistakes:
    if train.compile is not None:
        yield (
            name,
            f"a schedule does not work with train.compile {train.compile}, because the network would"
            " be compiled again at each size, and torch.compile gives up after eight variants; set"
            " one size, or train.compile to null",
        )
    if train.freeze == "backbone":
        yield (
            name,
            "a schedule has no use when the backbone is frozen, because its features do not get"
            " better; set one size, or train.freeze to none",
        )


def _mistaken_loss(train: "Train") -> Mistakes:
    loss = f"train.loss is {train.loss}"
    is_focal = train.loss.startswith("focal")
    if not is_own_file(train.loss):  # whose code tells whether it takes it
        yield from null_unless(is_focal, loss, "train.focal_gamma", train.focal_gamma)
    if train.loss == "dice" and train.class_weights is not None:
        yield "train.class_weights", "the Dice loss has no class weights; it must be null"
    if train.loss == "dice" and train.label_smoothing > 0:
        yield "train.label_smoothing", "the Dice loss smooths no labels; it must be 0"
    if train.class_weights is not None and train.sampling == "balanced":
        yield (
            "train.class_weights",
            "train.sampling is already balanced, and together they would favour rare classes twice;"
            " set this to null or train.sampling to natural",
        )


def _mistaken_batches(train: "Train") -> Mistakes:
    if isinstance(train.batch_size, int) and train.micro_batches > train.batch_size:
        yield (
            "train.micro_batches",
            f"{train.micro_batches} is more than the number of images or rows per batch; it must be at"
            f" most train.batch_size, {train.batch_size}",
        )
    if train.micro_batches > 1 and train.compile == "cuda_graphs":
        # the gradients of one replay would be overwritten by the next (pytorch#96693, #169545)
        yield (
            "train.compile",
            f"cuda_graphs is not possible when train.micro_batches is {train.micro_batches}; it must"
            " be default or null, or set train.micro_batches to 1",
        )


def _mistaken_optimizer(train: "Train") -> Mistakes:
    optimizer = f"train.optimizer is {train.optimizer}"
    has_momentum = train.optimizer in ("sgd", "rmsprop", "muon")
    yield from null_unless(has_momentum, optimizer, "train.momentum", train.momentum)
    yield from null_unless(train.optimizer == "sgd", optimizer, "train.nesterov", train.nesterov)
    if train.nesterov and train.momentum == 0:
        yield "train.nesterov", "true needs momentum, but train.momentum is 0; it must be false"
    if train.clip_norm is not None and train.clip_value is not None:
        yield (
            "train.clip_value",
            "train.clip_norm already clips the gradients; set one of them to null",
        )


def _mistaken_schedule(train: "Train") -> Mistakes:
    schedule = f"train.schedule is {train.schedule}"
    for applies, option in (
        (train.schedule in _WARMED_UP, "warmup_fraction"),
        (train.schedule in _DECAYED, "decay_factor"),
        (train.schedule in _WITH_DECAY_EPOCHS, "decay_epochs"),
    ):
        yield from null_unless(applies, schedule, f"train.{option}", getattr(train, option))
    if train.warmup_fraction == 0 and train.schedule == "one_cycle":
        yield "train.warmup_fraction", f"0 is not allowed when {schedule}; usual: 0.3"


def _mistaken_decay_epochs(train: "Train") -> Mistakes:
    """Yield what is wrong with ``decay_epochs`` of a schedule that has them."""
    epochs, name = train.decay_epochs, "train.decay_epochs"
    if epochs is None or train.schedule not in _WITH_DECAY_EPOCHS:
        return
    if isinstance(epochs, list) != (train.schedule == "multi_step"):
        wanted = "a list of epochs" if train.schedule == "multi_step" else "one whole number"
        yield (
            name,
            f"{epochs} is not allowed when train.schedule is {train.schedule}; it must be {wanted}",
        )
    elif isinstance(epochs, list):
        if epochs != sorted(set(epochs)):
            yield name, f"{epochs} is not ascending; list each epoch once, in order"
        if late := [epoch for epoch in epochs if epoch >= train.epochs]:
            yield (
                name,
                f"a decay after epoch {late[0]} has no effect, because train.epochs is"
                f" {train.epochs}; remove it",
            )
    elif epochs >= train.epochs:
        yield (
            name,
            f"a decay after {epochs} epochs has no effect, because train.epochs is {train.epochs};"
            " lower it, or set train.schedule to constant",
        )


def _mistaken_freezing(train: "Train") -> Mistakes:
    if train.unfreeze and train.freeze == "none":
        yield "train.unfreeze", "nothing is frozen, because train.freeze is none; it must be []"
    for entry in train.unfreeze:
        if entry.epoch == 1:
            yield (
                "train.unfreeze",
                f"epoch 1 is not allowed for {entry.layers}, because layers that are trained from"
                " the first epoch on are not frozen; it must be at least 2, or the layers must be"
                " left out of train.freeze",
            )
        if entry.epoch > train.epochs:
            yield (
                "train.unfreeze",
                f"epoch {entry.epoch} is never reached, because train.epochs is {train.epochs}",
            )
    if train.feature_views is not None and train.freeze != "backbone":
        yield (
            "train.feature_views",
            f"{train.feature_views} has no effect unless train.freeze is backbone; it must be null",
        )
    elif train.feature_views is not None and train.feature_views > train.num_frozen_epochs:
        yield (
            "train.feature_views",
            f"{train.feature_views} is more than the {train.num_frozen_epochs} epochs in which the"
            " backbone is frozen, so that some views would never be used; lower it",
        )
    if not train.freezes_backbone:
        return
    if train.layer_decay is not None:
        yield (
            "train.layer_decay",
            f"{train.layer_decay:g} has no effect when the whole backbone is frozen; it must be null",
        )
    if train.optimizer == "muon":
        yield (
            "train.optimizer",
            "muon is for the matrices of the backbone, which is frozen; choose adamw",
        )
    for pattern in train.lr_factors:
        if pattern.startswith("backbone"):
            yield (
                "train.lr_factors",
                f"{pattern} has no effect when the whole backbone is frozen; remove it",
            )


def _mistaken_teacher(train: "Train") -> Mistakes:
    if train.teacher is None:
        return
    if train.num_frozen_epochs:
        yield (
            "train.teacher",
            "a teacher needs images, and epochs see features instead while train.freeze is backbone; set"
            " this to null, or train.freeze to none",
        )
    if len(train.sizes) > 1:
        yield (
            "train.teacher",
            "a teacher takes images of one size, and train.image_size is a schedule; set one size",
        )

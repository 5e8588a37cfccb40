"""The section ``train``, and what the stage of that name reads."""

from typing import Annotated, Literal, cast

from pydantic import Field

from darkroom.config.augment import Augment
from darkroom.config.model import Model
from darkroom.config.section import (
    Fraction,
    ImageSize,
    Mistakes,
    Section,
    Size,
    StageConfig,
    null_unless,
    size_of,
)

ClassWeights = Annotated[
    dict[str, Annotated[float, Field(gt=0, le=1e6)]],
    Field(min_length=1, examples=["{class: weight}"]),
]

Layers = Annotated[str, Field(min_length=1)]

LayersList = Annotated[list[Layers], Field(min_length=1, examples=["a list of layer name patterns"])]

LossName = Literal["cross_entropy", "nll", "focal", "bce", "dice", "cross_entropy+dice", "focal+dice"]

TrainingSizes = tuple[tuple[int, Size], ...]
"""Each training size with its first epoch, counted from 1."""

Cut = Literal["centre", "whole"]
"""The part of a prepared image that is evaluated: the crop at its centre, or the whole, resized."""

_WARMED_UP = ("one_cycle", "cosine")
_DECAYED = ("step", "multi_step", "exponential", "plateau")
_WITH_DECAY_EPOCHS = ("step", "multi_step", "plateau")


class Unfreeze(Section):
    """Layers that are trained from an epoch on."""

    epoch: int = Field(ge=1, le=10_000)
    layers: Layers


class SizeFrom(Section):
    """The size of training images from an epoch on."""

    epoch: int = Field(ge=1, le=10_000)
    size: ImageSize


SizeSchedule = Annotated[
    list[SizeFrom], Field(min_length=1, examples=["a list of {epoch: 1, size: SIZE}"])
]


class Train(Section):
    """Optimisation."""

    epochs: int = Field(ge=1, le=10_000, description="number of passes over the training images")
    image_size: ImageSize | SizeSchedule | None = Field(
        description="size of the images in training, at most prepare.image_size: a side in pixels, or"
        " [height, width], or a schedule such as [{epoch: 1, size: 128}, {epoch: 10, size: 224}]; the"
        " last size is the model's input size; null: the prepared size"
    )
    evaluate_crop: Cut | None = Field(
        description="the part of a prepared image that is evaluated if image_size is set: centre: a crop"
        " of that size at the centre; whole: the whole image, resized; null if image_size is null"
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=65_536)] = Field(
        description="maximum number of images per step; auto: as many as fit into the GPU's memory, up"
        " to 1024 and a twentieth of the training images; 64 on a CPU"
    )
    micro_batches: int = Field(
        ge=1,
        le=1024,
        description="gradient accumulation: number of parts that each batch is processed in, to save"
        " memory",
    )
    loss: LossName = Field(
        description="loss function: cross_entropy; nll: the same, computed from the log-softmax; focal:"
        " focal loss, which down-weights easy images (Lin et al., 2017); bce: binary cross entropy, for"
        " two classes or several labels per image; for masks also dice: one minus the Dice coefficient"
        " of each image (Milletari et al., 2016), alone or added to another loss"
    )
    focal_gamma: Annotated[float, Field(ge=0, le=10)] | None = Field(
        description="gamma (focusing parameter) of the focal loss, usually 2; null for other losses"
    )
    label_smoothing: float = Field(
        ge=0, lt=1, description="label smoothing: probability moved from the true class to all classes"
    )
    class_weights: Literal["balanced"] | ClassWeights | None = Field(
        description="weights of the classes in the loss: balanced: inversely proportional to class"
        " frequency, as in scikit-learn; {class: weight}; null: equal weights"
    )
    sampling: Literal["natural", "balanced"] = Field(
        description="natural: each image once per epoch; balanced: each class equally often, with the"
        " same number of images per epoch"
    )
    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "muon"] = Field(
        description="optimizer; muon: Muon for matrices, AdamW for all other weights (Jordan, 2024)"
    )
    lr: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] = Field(
        description="learning rate; its peak if schedule is one_cycle or cosine; auto: as suggested by"
        " `darkroom lr`"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        description="momentum of sgd, rmsprop and muon; null for other optimizers"
    )
    nesterov: bool | None = Field(description="Nesterov momentum, for sgd; null for other optimizers")
    weight_decay: Literal["auto"] | Annotated[float, Field(ge=0, le=10)] = Field(
        description="weight decay: L2 penalty (decoupled in adamw and muon), not applied to norms and"
        " biases; auto: the value with the best validation macro F1, for a head that is trained on"
        " features alone"
    )
    l1: float = Field(
        ge=0,
        le=10,
        description="L1 penalty: weight of the sum of absolute weights in the loss (lasso; elastic net"
        " together with weight_decay), not applied to norms and biases",
    )
    schedule: Literal[
        "constant", "one_cycle", "cosine", "step", "multi_step", "exponential", "plateau"
    ] = Field(
        description="learning rate schedule: one_cycle: rises, then falls; cosine: linear warmup, then"
        " half a cosine; step: multiply by decay_factor every decay_epochs; multi_step: multiply after"
        " each of decay_epochs; exponential: multiply after every epoch; plateau: multiply when the"
        " validation loss has not fallen for decay_epochs"
    )
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        description="warmup: fraction of the steps in which one_cycle or cosine rises to lr; null for"
        " other schedules"
    )
    decay_epochs: (
        Annotated[int, Field(ge=1, le=10_000)]
        | Annotated[
            list[Annotated[int, Field(ge=1, le=10_000)]],
            Field(min_length=1, examples=["a list of such numbers"]),
        ]
        | None
    ) = Field(
        description="step: epochs between decays; multi_step: list of epochs after which the learning"
        " rate decays; plateau: epochs without improvement before a decay; null for other schedules"
    )
    decay_factor: Fraction | None = Field(
        description="factor of the learning rate at each decay; null for constant, one_cycle and cosine"
    )
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="gradient clipping threshold for the norm of all gradients; null: off"
    )
    clip_value: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="gradient clipping threshold for the absolute value of each element; null: off"
    )
    gradient_norms: bool = Field(
        description="measure the L2 norm of each layer's gradient, and units without any, in every step;"
        " the weights stay the same"
    )
    freeze: Literal["none", "backbone"] | LayersList = Field(
        description="layers whose weights are frozen: none; backbone: all but the classification head;"
        " or a list of name patterns such as backbone.layer1.* (`darkroom summary` shows the names)"
    )
    unfreeze: list[Unfreeze] = Field(
        examples=["a list with any of {epoch: 3, layers: pattern}"],
        description="frozen layers that are trained from an epoch on; []: none",
    )
    feature_views: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        description="with a frozen backbone, number of augmented views of each training image whose"
        " features are computed once; epochs use them in turn; null: if images are augmented, the"
        " backbone computes them anew in each epoch"
    )
    layer_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="layer-wise learning rate decay: factor from each layer of the backbone to the one"
        " before it (Clark et al., 2020); null: off"
    )
    lr_factors: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        examples=["{pattern: factor}, such as {backbone.*: 0.1}"],
        description="factors of the learning rate by layer name pattern; {}: none",
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="decay of an exponential moving average of the weights, lower in the first steps;"
        " the average is what is validated and kept; null: off"
    )
    patience: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        description="early stopping: number of epochs without a higher validation macro F1 (an equal one"
        " does not count) before training stops; null: never"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="precision of convolutions and matrix products; weights and sums stay in float32;"
        " half precision needs a GPU, or, for bfloat16 with deterministic: false, a CPU with AVX512-BF16"
        " or AMX"
    )
    tf32: bool = Field(
        description="TF32 on a GPU: faster, but float32 factors are rounded to 10 bits of mantissa"
    )
    compile: Literal["default", "cuda_graphs"] | None = Field(
        description="mode of torch.compile, which takes about a minute to start; cuda_graphs: also"
        " replay whole passes; null: not compiled"
    )
    deterministic: bool = Field(
        description="true: the same bytes every time; false: faster, nondeterministic kernels where"
        " available"
    )

    @property
    def sizes(self) -> TrainingSizes:
        """The training sizes in the order of their epochs; empty: the prepared size."""
        value = self.image_size
        if value is None:
            return ()
        stages = (
            [part for part in value if isinstance(part, SizeFrom)] if isinstance(value, list) else []
        )
        if stages:
            return tuple((stage.epoch, size_of(stage.size)) for stage in stages)
        return ((1, size_of(cast(int | list[int], value))),)

    def size_problem(self, prepared: Size) -> str | None:
        """Return what is wrong with the training sizes for images of the ``prepared`` size."""
        for _, (height, width) in self.sizes:
            if height > prepared[0] or width > prepared[1]:
                return (
                    f"{height} x {width} (height x width) is more than the prepared images have,"
                    f" {prepared[0]} x {prepared[1]}; lower it, or raise prepare.image_size"
                )
        return None

    @property
    def freezes_backbone(self) -> bool:
        """Whether the whole backbone is frozen in every epoch."""
        return self.freeze == "backbone" and not self.unfreeze

    @property
    def num_frozen_epochs(self) -> int:
        """Number of epochs, from the first, in which the whole backbone is frozen."""
        if self.freeze != "backbone":
            return 0
        return min((entry.epoch - 1 for entry in self.unfreeze), default=self.epochs)

    def mistaken_combinations(self) -> Mistakes:
        yield from self._mistaken_sizes()
        yield from self._mistaken_loss()
        yield from self._mistaken_batches()
        yield from self._mistaken_optimizer()
        yield from self._mistaken_schedule()
        yield from self._mistaken_decay_epochs()
        yield from self._mistaken_freezing()

    def _mistaken_sizes(self) -> Mistakes:
        is_set = self.image_size is not None
        state = f"train.image_size is {'set' if is_set else 'null'}"
        yield from null_unless(is_set, state, "train.evaluate_crop", self.evaluate_crop)
        epochs = [epoch for epoch, _ in self.sizes]
        if not epochs:
            return
        name = "train.image_size"
        if epochs[0] != 1:
            yield name, f"begins at epoch {epochs[0]}; the first size must begin at epoch 1"
        if epochs != sorted(set(epochs)):
            yield name, f"the epochs {epochs} are not ascending; list each epoch once, in order"
        if epochs[-1] > self.epochs:
            yield (
                name,
                f"epoch {epochs[-1]} is never reached, because train.epochs is {self.epochs}",
            )
        if len(epochs) > 1:
            yield from self._unfit_for_schedule(name)

    def _unfit_for_schedule(self, name: str) -> Mistakes:
        if self.compile is not None:
            yield (
                name,
                f"a schedule does not work with train.compile {self.compile}, because the network would"
                " be compiled anew at each size, and torch.compile gives up after eight variants; set"
                " one size, or train.compile to null",
            )
        if self.freeze == "backbone":
            yield (
                name,
                "a schedule has no use when the backbone is frozen, because its features do not get"
                " better; set one size, or train.freeze to none",
            )

    def _mistaken_loss(self) -> Mistakes:
        loss = f"train.loss is {self.loss}"
        is_focal = self.loss.startswith("focal")
        yield from null_unless(is_focal, loss, "train.focal_gamma", self.focal_gamma)
        if self.loss == "dice" and self.class_weights is not None:
            yield "train.class_weights", "the Dice loss has no class weights; it must be null"
        if self.loss == "dice" and self.label_smoothing > 0:
            yield "train.label_smoothing", "the Dice loss smooths no labels; it must be 0"
        if self.class_weights is not None and self.sampling == "balanced":
            yield (
                "train.class_weights",
                "train.sampling is already balanced, and together they would favour rare classes twice;"
                " set this to null or train.sampling to natural",
            )

    def _mistaken_batches(self) -> Mistakes:
        if isinstance(self.batch_size, int) and self.micro_batches > self.batch_size:
            yield (
                "train.micro_batches",
                f"{self.micro_batches} is more than the number of images per batch; it must be at most"
                f" train.batch_size, {self.batch_size}",
            )
        if self.micro_batches > 1 and self.compile == "cuda_graphs":
            # the gradients of one replay would be overwritten by the next (pytorch#96693, #169545)
            yield (
                "train.compile",
                f"cuda_graphs is not possible when train.micro_batches is {self.micro_batches}; it must"
                " be default or null, or set train.micro_batches to 1",
            )

    def _mistaken_optimizer(self) -> Mistakes:
        optimizer = f"train.optimizer is {self.optimizer}"
        has_momentum = self.optimizer in ("sgd", "rmsprop", "muon")
        yield from null_unless(has_momentum, optimizer, "train.momentum", self.momentum)
        yield from null_unless(self.optimizer == "sgd", optimizer, "train.nesterov", self.nesterov)
        if self.nesterov and self.momentum == 0:
            yield "train.nesterov", "true needs momentum, but train.momentum is 0; it must be false"
        if self.clip_norm is not None and self.clip_value is not None:
            yield (
                "train.clip_value",
                "train.clip_norm already clips the gradients; set one of them to null",
            )

    def _mistaken_schedule(self) -> Mistakes:
        schedule = f"train.schedule is {self.schedule}"
        for applies, option in (
            (self.schedule in _WARMED_UP, "warmup_fraction"),
            (self.schedule in _DECAYED, "decay_factor"),
            (self.schedule in _WITH_DECAY_EPOCHS, "decay_epochs"),
        ):
            yield from null_unless(applies, schedule, f"train.{option}", getattr(self, option))
        if self.warmup_fraction == 0 and self.schedule == "one_cycle":
            yield "train.warmup_fraction", f"0 is not allowed when {schedule}; usual: 0.3"

    def _mistaken_decay_epochs(self) -> Mistakes:
        """Yield what is wrong with ``decay_epochs`` of a schedule that has them."""
        epochs, name = self.decay_epochs, "train.decay_epochs"
        if epochs is None or self.schedule not in _WITH_DECAY_EPOCHS:
            return
        if isinstance(epochs, list) != (self.schedule == "multi_step"):
            wanted = "a list of epochs" if self.schedule == "multi_step" else "one whole number"
            yield (
                name,
                f"{epochs} is not allowed when train.schedule is {self.schedule}; it must be {wanted}",
            )
        elif isinstance(epochs, list):
            if epochs != sorted(set(epochs)):
                yield name, f"{epochs} is not ascending; list each epoch once, in order"
            if late := [epoch for epoch in epochs if epoch >= self.epochs]:
                yield (
                    name,
                    f"a decay after epoch {late[0]} has no effect, because train.epochs is"
                    f" {self.epochs}; remove it",
                )
        elif epochs >= self.epochs:
            yield (
                name,
                f"a decay after {epochs} epochs has no effect, because train.epochs is {self.epochs};"
                " lower it, or set train.schedule to constant",
            )

    def _mistaken_freezing(self) -> Mistakes:
        if self.unfreeze and self.freeze == "none":
            yield "train.unfreeze", "nothing is frozen, because train.freeze is none; it must be []"
        for entry in self.unfreeze:
            if entry.epoch == 1:
                yield (
                    "train.unfreeze",
                    f"epoch 1 is not allowed for {entry.layers}, because layers that are trained from"
                    " the first epoch on are not frozen; it must be at least 2, or the layers must be"
                    " left out of train.freeze",
                )
            if entry.epoch > self.epochs:
                yield (
                    "train.unfreeze",
                    f"epoch {entry.epoch} is never reached, because train.epochs is {self.epochs}",
                )
        if self.feature_views is not None and self.freeze != "backbone":
            yield (
                "train.feature_views",
                f"{self.feature_views} has no effect unless train.freeze is backbone; it must be null",
            )
        elif self.feature_views is not None and self.feature_views > self.num_frozen_epochs:
            yield (
                "train.feature_views",
                f"{self.feature_views} is more than the {self.num_frozen_epochs} epochs in which the"
                " backbone is frozen, so that some views would never be used; lower it",
            )
        if not self.freezes_backbone:
            return
        if self.layer_decay is not None:
            yield (
                "train.layer_decay",
                f"{self.layer_decay:g} has no effect when the whole backbone is frozen; it must be null",
            )
        if self.optimizer == "muon":
            yield (
                "train.optimizer",
                "muon is for the matrices of the backbone, which is frozen; choose adamw",
            )
        for pattern in self.lr_factors:
            if pattern.startswith("backbone"):
                yield (
                    "train.lr_factors",
                    f"{pattern} has no effect when the whole backbone is frozen; remove it",
                )


class SettledTrain(Train):
    """The section with numbers where it may say ``auto``."""

    batch_size: int
    lr: float
    weight_decay: float


class TrainConfig(StageConfig):
    seed: int
    num_threads: int
    augment: Augment
    model: Model
    train: Train

    @property
    def is_deterministic(self) -> bool:
        return self.train.deterministic


def images_differ(train: Train, augment: Augment, prepared: Size | None) -> bool:
    """Return whether a training image differs between epochs.

    Args:
        prepared: the size of the prepared images; None if it is not known yet.
    """
    return augment.changes_images or resizes_anew(train, augment, prepared)


def resizes_anew(train: Train, augment: Augment, prepared: Size | None) -> bool:
    """Return whether training images are cut or resized to their size anew in each epoch.

    Otherwise training sees them as evaluation does.

    Args:
        prepared: the size of the prepared images; None if it is not known yet.
    """
    sizes = [size for _, size in train.sizes]
    if all(size == prepared for size in sizes):
        return False
    return len(sizes) > 1 or train.evaluate_crop == "centre" or augment.resized_crop is not None

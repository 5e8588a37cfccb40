"""The section ``train``, and what the stage of that name reads."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from darkroom.config.augment import Augment
from darkroom.config.model import Model
from darkroom.config.section import Fraction, Section, StageConfig, only_if

ClassWeights = Annotated[
    dict[str, Annotated[float, Field(gt=0, le=1e6)]],
    Field(min_length=1, examples=["{class: weight}"]),
]

Layers = Annotated[str, Field(min_length=1)]


LayersList = Annotated[
    list[Layers], Field(min_length=1, examples=["a list of patterns of layers' names"])
]


class Unfreeze(Section):
    """Layers that learn from an epoch on."""

    epoch: int = Field(ge=2, le=10_000)
    layers: Layers


class Train(Section):
    """Optimisation."""

    epochs: int = Field(ge=1, le=10_000, description="passes over the training images")
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=65_536)] = Field(
        description="images a step, at most; auto: as many as fit a GPU's memory, up to 1024 and a"
        " twentieth of the images; 64 on a CPU"
    )
    micro_batches: int = Field(
        ge=1,
        le=1024,
        description="parts in which a step computes its batch, one after the other, to save memory",
    )
    loss: Literal["cross_entropy", "nll", "focal", "bce"] = Field(
        description="cross_entropy; nll: the same, of the logarithm of the softmax; focal: less of what"
        " is easy (Lin et al., 2017); bce: binary cross entropy, for two classes or several labels an"
        " image"
    )
    focal_gamma: Annotated[float, Field(ge=0, le=10)] | None = Field(
        description="how much less of what is easy; null where loss is not focal; 2 is usual"
    )
    label_smoothing: float = Field(
        ge=0, lt=1, description="weight moved from the true class to all classes"
    )
    class_weights: Literal["balanced"] | ClassWeights | None = Field(
        description="weights of the classes in the loss: balanced: the rarer, the heavier, as in"
        " scikit-learn; {class: weight}; null: all count the same"
    )
    sampling: Literal["natural", "balanced"] = Field(
        description="natural: each image once an epoch; balanced: each class as often as the others,"
        " in as many images as there are"
    )
    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "muon"] = Field(
        description="the method; muon: for matrices, with adamw for all else (Jordan, 2024)"
    )
    lr: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] = Field(
        description="learning rate; the peak where schedule is one_cycle or cosine; auto: as `darkroom"
        " lr` suggests"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        description="momentum of sgd, rmsprop and muon; null for the others"
    )
    nesterov: bool | None = Field(
        description="whether sgd's momentum looks ahead (Nesterov); null for the others"
    )
    weight_decay: float = Field(
        ge=0,
        le=10,
        description="L2 decay (decoupled in adamw and muon), not of norms and biases",
    )
    l1: float = Field(
        ge=0,
        le=10,
        description="weight of the sum of absolute weights in the loss (lasso; with weight_decay elastic"
        " net), not of norms and biases",
    )
    schedule: Literal[
        "constant", "one_cycle", "cosine", "step", "multi_step", "exponential", "plateau"
    ] = Field(
        description="learning rate over the steps: one_cycle rises and falls; cosine: a linear rise,"
        " then half a cosine; step: times decay_factor every decay_epochs, multi_step: after each of"
        " them; exponential: times decay_factor an epoch; plateau: times decay_factor where the"
        " validation loss has not fallen for decay_epochs"
    )
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        description="share of the steps in which one_cycle or cosine rises to lr; null for the others"
    )
    decay_epochs: (
        Annotated[int, Field(ge=1, le=10_000)]
        | Annotated[
            list[Annotated[int, Field(ge=1, le=10_000)]],
            Field(min_length=1, examples=["a list of such numbers"]),
        ]
        | None
    ) = Field(
        description="epochs between the falls of step, a list of the epochs after which multi_step"
        " falls, epochs that plateau waits; null for the others"
    )
    decay_factor: Fraction | None = Field(
        description="of the learning rate, where it falls; null for constant, one_cycle and cosine"
    )
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="largest gradient norm; null: not clipped"
    )
    clip_value: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="largest absolute value in a gradient; null: not clipped"
    )
    freeze: Literal["none", "backbone"] | LayersList = Field(
        description="layers that keep their weights: none; backbone: all but the head; or a list of"
        " patterns of names, such as backbone.layer1.*, which `darkroom summary` shows"
    )
    unfreeze: list[Unfreeze] = Field(
        examples=["a list with any of {epoch: 3, layers: pattern}"],
        description="frozen layers that learn from an epoch on; [] none",
    )
    layer_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="factor of the learning rate from each layer of the backbone to the one before it"
        " (Clark et al., 2020); null: all learn at the same rate"
    )
    lr_factors: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        examples=["{pattern: factor}, such as {backbone.*: 0.1}"],
        description="factors of the learning rate by patterns of names; {} none",
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="keep a moving average of the weights, of which each step leaves this share, in the"
        " first steps less; it is what is validated and kept; null: none"
    )
    patience: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        description="stop after this many epochs without a higher validation macro F1 (an equal one is"
        " not higher); null: never"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="of convolutions and matrix products; weights and sums stay float32"
    )
    tf32: bool = Field(description="let a GPU round float32 factors to 10 bits of mantissa: faster")
    compile: Literal["default", "cuda_graphs"] | None = Field(
        description="torch.compile, which takes a minute to begin; cuda_graphs: which also replays whole"
        " passes; null: not compiled"
    )
    deterministic: bool = Field(
        description="true: the same bytes every time; false: faster kernels where there are some"
    )

    def mistaken_combinations(self) -> Iterator[tuple[str, str]]:
        """Yields ``(full name, what is wrong)`` for values that do not go together."""
        by_loss = f"where train.loss is {self.loss}"
        yield from only_if("train.focal_gamma", self.focal_gamma, self.loss == "focal", by_loss)
        by_optimizer = f"where train.optimizer is {self.optimizer}"
        has_momentum = self.optimizer in ("sgd", "rmsprop", "muon")
        yield from only_if("train.momentum", self.momentum, has_momentum, by_optimizer)
        yield from only_if("train.nesterov", self.nesterov, self.optimizer == "sgd", by_optimizer)
        if self.nesterov and self.momentum == 0:
            yield (
                "train.nesterov",
                "true looks ahead by the momentum, and train.momentum is 0; it must be false there",
            )
        by_schedule = f"where train.schedule is {self.schedule}"
        rises = self.schedule in ("one_cycle", "cosine")
        falls = self.schedule in ("step", "multi_step", "exponential", "plateau")
        has_epochs = self.schedule in ("step", "multi_step", "plateau")
        yield from only_if("train.warmup_fraction", self.warmup_fraction, rises, by_schedule)
        yield from only_if("train.decay_factor", self.decay_factor, falls, by_schedule)
        yield from only_if("train.decay_epochs", self.decay_epochs, has_epochs, by_schedule)
        if has_epochs and self.decay_epochs is not None:
            is_list = isinstance(self.decay_epochs, list)
            if is_list != (self.schedule == "multi_step"):
                wanted = "a list of epochs" if not is_list else "one whole number"
                yield (
                    "train.decay_epochs",
                    f"{self.decay_epochs} is not allowed {by_schedule}; it must be {wanted} there",
                )
            elif isinstance(self.decay_epochs, list) and self.decay_epochs != sorted(
                set(self.decay_epochs)
            ):
                yield "train.decay_epochs", f"{self.decay_epochs} does not rise; name each epoch once"
        if self.warmup_fraction == 0 and self.schedule == "one_cycle":
            yield "train.warmup_fraction", f"0 is not allowed {by_schedule}; 0.3 is usual"
        if self.clip_norm is not None and self.clip_value is not None:
            yield "train.clip_value", "train.clip_norm clips already; set one of them to null"
        if self.class_weights is not None and self.sampling == "balanced":
            yield (
                "train.class_weights",
                "train.sampling is balanced already, and both together favour rare classes twice; "
                "set one of them to null or natural",
            )
        if self.unfreeze and self.freeze == "none":
            yield "train.unfreeze", "nothing is frozen, since train.freeze is none; [] is right there"
        for entry in self.unfreeze:
            if entry.epoch > self.epochs:
                yield (
                    "train.unfreeze",
                    f"epoch {entry.epoch} never comes, since train.epochs is {self.epochs}",
                )
        if self.freezes_backbone and self.layer_decay is not None:
            yield (
                "train.layer_decay",
                f"{self.layer_decay:g} has no effect where the whole backbone is frozen; "
                "it must be null there",
            )
        for pattern in self.lr_factors if self.freezes_backbone else ():
            if pattern.startswith("backbone"):
                yield (
                    "train.lr_factors",
                    f"{pattern} has no effect where the whole backbone is frozen; leave it out",
                )
        yield from self._never_in_time()
        if isinstance(self.batch_size, int) and self.micro_batches > self.batch_size:
            yield (
                "train.micro_batches",
                f"{self.micro_batches} parts are more than the {self.batch_size} images of a batch; "
                f"it must be at most train.batch_size",
            )

    @property
    def freezes_backbone(self) -> bool:
        """Whether the whole backbone is frozen in every epoch."""
        return self.freeze == "backbone" and not self.unfreeze

    def _never_in_time(self) -> Iterator[tuple[str, str]]:
        """Yields what would happen only after the last epoch."""
        ends = f"since train.epochs is {self.epochs}"
        if self.schedule in ("step", "plateau") and isinstance(self.decay_epochs, int):
            if self.decay_epochs >= self.epochs:
                yield (
                    "train.decay_epochs",
                    f"after {self.decay_epochs} epochs nothing is left to learn at a lower rate, {ends};"
                    " take fewer, or train.schedule: constant",
                )
        elif self.schedule == "multi_step" and isinstance(self.decay_epochs, list):
            late = [epoch for epoch in self.decay_epochs if epoch >= self.epochs]
            if late:
                yield (
                    "train.decay_epochs",
                    f"after epoch {late[0]} nothing is left to learn at a lower rate, {ends};"
                    " leave it out",
                )


class SettledTrain(Train):
    """The section with numbers where it may say ``auto``."""

    batch_size: int
    lr: float


class TrainConfig(StageConfig):
    seed: int
    num_threads: int
    augment: Augment
    model: Model
    train: Train

    @property
    def is_deterministic(self) -> bool:
        return self.train.deterministic

"""The section ``train``, and what the stage of that name reads."""

from typing import Annotated, Literal, cast

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from darkroom.config.augment import Augment
from darkroom.config.model import Model
from darkroom.config.section import (
    Fraction,
    ImageSize,
    Mistakes,
    Section,
    Size,
    StageConfig,
    size_of,
)
from darkroom.config.train_mistakes import mistakes_of_training
from darkroom.own_names import TRAIN_PATTERN

ClassWeights = Annotated[
    dict[str, Annotated[float, Field(gt=0, le=1e6)]],
    Field(min_length=1, examples=["{class: weight}"]),
]

Layers = Annotated[str, Field(min_length=1)]

LayersList = Annotated[list[Layers], Field(min_length=1, examples=["a list of layer name patterns"])]

LossName = Literal["cross_entropy", "nll", "focal", "bce", "dice", "cross_entropy+dice", "focal+dice"]

OwnLoss = Annotated[str, Field(pattern=rf"^{TRAIN_PATTERN}$")]

TrainingSizes = tuple[tuple[int, Size], ...]
"""Each training size with its first epoch, counted from 1."""

Cut = Literal["centre", "whole"]
"""The part of a prepared image that is evaluated: the crop at its centre, or the whole, resized."""


class Unfreeze(Section):
    """Layers that are trained from an epoch on."""

    epoch: int = Field(ge=1, le=10_000)
    layers: Layers


class SizeFrom(Section):
    """The size of training images from an epoch on."""

    epoch: int = Field(ge=1, le=10_000)
    size: ImageSize


@with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Teacher(TypedDict):
    """A trained model whose predictions the network learns to imitate."""

    file: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(gt=0, le=1)]
    temperature: Annotated[float, Field(ge=1, le=100)]


SizeSchedule = Annotated[
    list[SizeFrom], Field(min_length=1, examples=["a list of {epoch: 1, size: SIZE}"])
]


class Train(Section):
    """Optimisation."""

    epochs: int = Field(ge=1, le=10_000, description="number of passes over the training data")
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
        description="maximum number of images or rows per step; auto: as many as fit into the GPU's"
        " memory, up to 1024 and a twentieth of the training data; 64 on a CPU"
    )
    micro_batches: int = Field(
        ge=1,
        le=1024,
        description="gradient accumulation: number of parts that each batch is processed in, to save"
        " memory",
    )
    loss: LossName | OwnLoss = Field(
        description="loss function: cross_entropy; nll: the same, computed from the log-softmax; focal:"
        " focal loss, which down-weights easy examples (Lin et al., 2017); bce: binary cross entropy,"
        " for two classes or several labels per image; for masks also dice: one minus the Dice"
        " coefficient of each image (Milletari et al., 2016), alone or added to another loss;"
        " or file:own/train/FILE.py:NAME, a function in a Python file of yours"
    )
    focal_gamma: Annotated[float, Field(ge=0, le=10)] | None = Field(
        description="gamma (focusing parameter) of the focal loss, usually 2; passed to a loss of a file"
        " that takes it; null for others"
    )
    label_smoothing: float = Field(
        ge=0, lt=1, description="label smoothing: probability moved from the true class to all classes"
    )
    teacher: Teacher | None = Field(
        examples=["{file: models/weights/FILE, weight: 0.5, temperature: 2} or null"],
        description="knowledge distillation (Hinton et al., 2015): the loss is (1 - weight) times the"
        " loss of the labels plus weight times the divergence from the probabilities of a trained"
        " model, softened by the temperature; null: labels alone",
    )
    class_weights: Literal["balanced"] | ClassWeights | None = Field(
        description="weights of the classes in the loss: balanced: inversely proportional to class"
        " frequency, as in scikit-learn; {class: weight}; null: equal weights"
    )
    sampling: Literal["natural", "balanced"] = Field(
        description="natural: each image or row once per epoch; balanced: each class equally often, with"
        " as many images or rows per epoch"
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
        " backbone computes them again in each epoch"
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
        return mistakes_of_training(self)


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
    return augment.changes_images or resizes_each_epoch(train, augment, prepared)


def resizes_each_epoch(train: Train, augment: Augment, prepared: Size | None) -> bool:
    """Return whether training images are cut or resized to their size again in each epoch.

    Otherwise training sees them as evaluation does.

    Args:
        prepared: the size of the prepared images; None if it is not known yet.
    """
    sizes = [size for _, size in train.sizes]
    if all(size == prepared for size in sizes):
        return False
    return len(sizes) > 1 or train.evaluate_crop == "centre" or augment.resized_crop is not None

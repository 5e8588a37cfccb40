"""The typed sections of params.yaml, and which of them each stage reads.

There are no defaults here: ``params.yaml`` holds every value, so DVC sees every value.
``darkroom.params`` reads the file and explains mistakes.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NamedSet = Literal[
    "digits",
    "CIFAR10",
    "CIFAR100",
    "Caltech101",
    "DTD",
    "EMNIST",
    "EuroSAT",
    "FGVCAircraft",
    "FashionMNIST",
    "Flowers102",
    "Food101",
    "GTSRB",
    "KMNIST",
    "MNIST",
    "OxfordIIITPet",
    "QMNIST",
    "RenderedSST2",
    "STL10",
    "SVHN",
    "USPS",
]
"""Public sets that ``fetch`` can bring: scikit-learn's digits, and torchvision's by class name."""

Fold = Annotated[str, Field(pattern=r"^[1-9][0-9]?/[1-9][0-9]?$", examples=["K/N, such as 2/5,"])]
HuggingFaceSet = Annotated[str, Field(pattern=r"^hf--[A-Za-z0-9_.-]+$", examples=["hf--OWNER--NAME"])]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Column = Annotated[str, Field(min_length=1)]
Alpha = Annotated[float, Field(gt=0, le=100)]
NamedTransform = Annotated[
    dict[str, dict[str, Any]],
    Field(min_length=1, max_length=1, examples=["{NAME: {argument: value}}"]),
]


def _text_or_whole(value: object) -> object:
    """Refuses ``true`` and ``1.0``, which are equal to 1."""
    if type(value) not in (str, int):
        raise ValueError("neither text nor a whole number")
    return value


class Section(BaseModel):
    """A frozen group of parameters that refuses unknown names and never converts a value."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class DataSource(Section):
    """Where the images and their labels are: the part of ``data`` that ``prepare`` reads."""

    path: str = Field(
        min_length=1,
        description="a folder or an uncompressed tar of class folders, or of train, val and test folders"
        " of class folders; or with a manifest; or MNIST-style idx files; or a Hugging Face copy",
    )
    class_name: Literal["top", "path", "leaf"] = Field(
        description="of the nested folder a/b: its class is a (top), a/b (path) or b (leaf)"
    )
    manifest: Column | None = Field(
        description="table in path that labels the files: CSV, Parquet or JSON Lines, with file paths"
        " relative to its own folder; null: folders are the labels"
    )
    path_column: Column = Field(description="the manifest's column of file paths")
    label_column: Column = Field(description="the manifest's column of labels, taken as text")
    label_separator: Column | None = Field(
        description="what parts the labels of an image that has several, such as |, in the manifest's"
        " label column; null: an image has one label"
    )
    split_column: Column | None = Field(
        description="the manifest's column that says train, val, test or nothing; null: none"
    )
    group_column: Column | None = Field(
        description="the manifest's column of what must not be split (patient, scene); null: none"
    )
    weight_column: Column | None = Field(
        description="the manifest's column of weights in the training loss; null: all count the same"
    )


class Data(DataSource):
    """Where the images come from."""

    fetch: list[NamedSet | HuggingFaceSet] = Field(
        description="public sets to fetch into data/NAME; hf--OWNER--NAME is OWNER/NAME on the Hugging"
        " Face hub; [] for images of your own"
    )


class Prepare(Section):
    """How images become arrays, and how they are split."""

    image_size: Literal["auto"] | Annotated[int, Field(ge=1, le=2048)] = Field(
        description="side in pixels after resizing; auto: the images' own size if they share one of"
        " at most 224, else their median shorter side rounded down to a multiple of 32, from 32 to 224"
    )
    channels: Annotated[Literal["auto", 1, 3], BeforeValidator(_text_or_whole)] = Field(
        description="1: grey, 3: RGB, auto: grey if every image is grey"
    )
    resize: Literal["stretch", "crop", "pad"] = Field(
        description="how an image of another shape becomes square: stretch both sides, crop the"
        " longer one at the centre, or pad the shorter one with black"
    )
    tiff: bool = Field(
        description="read TIFF files too; off, because its decoder has the longest record of holes"
    )
    storage: Literal["auto", "decoded", "encoded"] = Field(
        description="decoded: pixels as they are, fastest to train on; encoded: the same pixels as"
        " lossless WebP, about half as large; auto: encoded above 32 GiB of pixels"
    )
    on_bad_image: Literal["error", "skip"] = Field(
        description="what to do with files that cannot be used: stop and name them, or leave them out"
        " and count them"
    )
    split: Literal["stratified", "stable", "given"] = Field(
        description="stratified: each class in equal shares; stable: by content, so that a new image"
        " never moves an old one; given: as the data say, nothing is cut"
    )
    val_fraction: Fraction = Field(
        description="share of the images for validation (of the training folder, where only"
        " train and test are given); unused where the data come with a val folder"
    )
    test_fraction: Fraction = Field(
        description="share of the images for the test; unused where the data come with a test folder"
        " or fold is set"
    )
    fold: Fold | None = Field(
        description="cross-validation: 2/5 tests on the second of five folds; null: no folds"
    )
    duplicates: Literal["group", "drop", "error", "keep"] = Field(
        description="images with the same or nearly the same pixels: group: kept in one split; drop: one"
        " of them is used; error: stop and name them; keep: as they come, even across splits"
    )
    near_duplicates: Annotated[float, Field(gt=0, le=0.15)] | None = Field(
        description="largest difference at any place between images that count as nearly the same, as a"
        " share of the range of brightness, after undoing a change of the whole image by up to a tenth;"
        " null: only the very same pixels count"
    )
    on_conflict: Literal["error", "drop"] = Field(
        description="the same pixels under several labels: stop and name them, or use none of them"
    )


class Augment(Section):
    """Random changes to training images, drawn anew for each image in each epoch."""

    crop_padding: int = Field(
        ge=0,
        le=256,
        description="pixels of edge padding before a random crop back to size, so the largest shift",
    )
    resized_crop: Annotated[float, Field(gt=0, le=1)] | None = Field(
        description="smallest share of the area of a random crop (3:4 to 4:3) that is enlarged back to"
        " size; null: none"
    )
    horizontal_flip: bool = Field(description="mirror every other image (not for text or digits)")
    vertical_flip: bool = Field(description="turn every other image upside down")
    rotate: float = Field(ge=0, le=180, description="largest angle in degrees, either way")
    translate: float = Field(ge=0, le=1, description="largest shift as a share of the side")
    scale: float = Field(
        ge=0, le=0.9, description="largest relative change of size; 0.2: from 0.8 to 1.2 times"
    )
    brightness: float = Field(
        ge=0, le=10, description="largest relative change of brightness; 0.4: factors 0.6 to 1.4"
    )
    contrast: float = Field(ge=0, le=10, description="largest relative change of contrast")
    saturation: float = Field(ge=0, le=10, description="largest relative change of saturation")
    hue: float = Field(ge=0, le=0.5, description="largest turn of the hue as a share of the circle")
    policy: Literal["randaugment", "trivialaugment", "autoaugment", "augmix"] | None = Field(
        description="torchvision's policy of that name with its usual settings; slow, on the CPU; null:"
        " none"
    )
    transforms: list[NamedTransform] = Field(
        description="transforms of torchvision.transforms.v2 with their arguments, before the policy;"
        " slow, on the CPU; [] none"
    )
    erase: float = Field(
        ge=0, le=1, description="probability of erasing a rectangle of 2 to 33 % of the image"
    )
    erase_fill: Literal["mean"] | Annotated[int, Field(ge=0, le=255)] = Field(
        description="level of what is erased; mean: the image's own mean colour"
    )
    mixup: Alpha | None = Field(
        description="alpha of the Beta distribution of shares in which two images are blended; null:"
        " none"
    )
    cutmix: Alpha | None = Field(
        description="alpha of the Beta distribution of shares in which a rectangle comes from another"
        " image; null: none; with mixup every image has one of the two"
    )


class Model(Section):
    """The network."""

    name: str = Field(
        pattern=r"^(cnn|resnet|torchvision:[A-Za-z0-9_]+)$",
        description="cnn, resnet (for small images), or torchvision:NAME (resnet18, ...)",
    )
    width: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        description="channels of the first layer; null for torchvision:NAME"
    )
    depth: Annotated[int, Field(ge=1, le=64)] | None = Field(
        description="cnn: stages of two convolutions, each halving the image; resnet: residual"
        " blocks in each of its three stages; null for torchvision:NAME"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        description="probability of dropping a feature before the last layer; null for torchvision:NAME"
    )


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
    optimizer: Literal["sgd", "adamw"] = Field(description="SGD with Nesterov momentum, or AdamW")
    lr: float = Field(gt=0, le=100, description="learning rate; the peak where schedule is one_cycle")
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        description="momentum of sgd; null for adamw"
    )
    weight_decay: float = Field(ge=0, le=10, description="L2 decay (decoupled in adamw)")
    schedule: Literal["one_cycle", "constant"] = Field(description="learning rate over the steps")
    warmup_fraction: Fraction | None = Field(
        description="share of the steps in which one_cycle rises to lr; null for constant"
    )
    label_smoothing: float = Field(
        ge=0, lt=1, description="weight moved from the true class to all classes"
    )
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="largest gradient norm; null: not clipped"
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="keep a moving average of the weights, of which each step leaves this share;"
        " it is what is validated and kept; null: none"
    )
    patience: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        description="stop after so many epochs without a better validation macro F1; null: never"
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


class Evaluate(Section):
    """The measurement on the test split."""

    batch_size: int = Field(ge=1, le=65_536, description="images a batch")


class Export(Section):
    """The files that leave the project."""

    formats: list[Literal["onnx", "pt2"]] = Field(
        description="formats beside safetensors; darkroom predict needs onnx"
    )
    parity_images: int = Field(
        ge=1, le=10_000, description="test images on which each format is compared"
    )
    parity_tolerance: float = Field(
        gt=0, le=1, description="largest difference of a probability between a format and the model"
    )


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0, le=2**32 - 1, description="every random choice follows from it")
    num_threads: int = Field(
        ge=1, le=256, description="CPU threads of a computation; another number rounds differently"
    )
    data: Data
    prepare: Prepare
    augment: Augment
    model: Model
    train: Train
    evaluate: Evaluate
    export: Export

    def mistaken_combinations(self) -> Iterator[tuple[str, str]]:
        """Yields ``(full name, what is wrong)`` for values that do not go together."""
        prepare, augment, model, train = self.prepare, self.augment, self.model, self.train
        if prepare.fold is not None:
            fold, num_folds = (int(part) for part in prepare.fold.split("/"))
            if num_folds < 2:
                yield "prepare.fold", f"{prepare.fold} is no fold; a fold is one of at least two"
            elif fold > num_folds:
                there_are = f"1/{num_folds} to {num_folds}/{num_folds}"
                yield (
                    "prepare.fold",
                    f"{prepare.fold} is no fold; of {num_folds} folds there are {there_are}",
                )
            elif prepare.val_fraction + 1 / num_folds >= 1:
                yield (
                    "prepare.val_fraction",
                    f"{prepare.val_fraction:g} and the fold of 1/{num_folds} leave nothing to train on; "
                    "their sum must be below 1",
                )
            if prepare.split == "given":
                yield (
                    "prepare.fold",
                    f"{prepare.fold} cuts a test split, but prepare.split is given, which cuts nothing",
                )
        elif prepare.val_fraction + prepare.test_fraction >= 1:
            yield (
                "prepare.test_fraction",
                f"{prepare.test_fraction:g} and prepare.val_fraction {prepare.val_fraction:g} leave "
                "nothing to train on; their sum must be below 1",
            )
        for option in ("image_size", "channels"):
            if prepare.split == "stable" and getattr(prepare, option) == "auto":
                yield (
                    f"prepare.{option}",
                    "auto may change with a new image, and move others, where prepare.split is stable; "
                    "set a number",
                )
        if self.data.label_separator is not None and self.data.manifest is None:
            yield (
                "data.label_separator",
                f"{self.data.label_separator!r} parts labels of a manifest, but data.manifest is null;"
                " set both or none",
            )
        if len(set(self.data.fetch)) < len(self.data.fetch):
            yield "data.fetch", f"{self.data.fetch} names a set twice; name each once"
        if augment.crop_padding > 0 and augment.resized_crop is not None:
            yield (
                "augment.resized_crop",
                f"{augment.resized_crop:g} crops, and so does augment.crop_padding"
                f" {augment.crop_padding}; set this to null or that to 0",
            )
        own = not model.name.startswith("torchvision:")
        for option in ("width", "depth", "dropout"):
            value = getattr(model, option)
            if own and value is None:
                yield f"model.{option}", f"null is not allowed where model.name is {model.name}"
            if not own and value is not None:
                yield (
                    f"model.{option}",
                    f"{value:g} has no effect on {model.name}; it must be null there",
                )
        if train.optimizer == "sgd" and train.momentum is None:
            yield "train.momentum", "null is not allowed where train.optimizer is sgd; 0 means none"
        if train.optimizer == "adamw" and train.momentum is not None:
            yield (
                "train.momentum",
                f"{train.momentum:g} has no effect on adamw; it must be null there",
            )
        if train.schedule == "one_cycle" and train.warmup_fraction is None:
            yield (
                "train.warmup_fraction",
                "null is not allowed where train.schedule is one_cycle; 0.3 is usual",
            )
        if train.schedule == "constant" and train.warmup_fraction is not None:
            yield (
                "train.warmup_fraction",
                f"{train.warmup_fraction:g} has no effect where train.schedule is constant; "
                "it must be null there",
            )
        if len(set(self.export.formats)) < len(self.export.formats):
            yield "export.formats", f"{self.export.formats} names a format twice; name each once"


class StageConfig(Section):
    """What one stage reads of params.yaml: its fields are the ``params`` of the stage in dvc.yaml."""

    @classmethod
    def of(cls, params: Params) -> Self:
        """Takes this stage's part of ``params``."""
        values = params.model_dump()
        return cls.model_validate({name: _part(values[name], cls, name) for name in cls.model_fields})

    @property
    def is_deterministic(self) -> bool:
        """Whether equal inputs must give equal bytes."""
        return True


def _part(value: Any, config: type[StageConfig], name: str) -> Any:
    """Leaves out of a section what the stage does not read."""
    section = config.model_fields[name].annotation
    if not isinstance(value, dict) or not isinstance(section, type):
        return value
    return {key: value[key] for key in section.model_fields}


class FetchConfig(StageConfig):
    """``fetch`` reads nothing: DVC hands it the name of one set."""


class PrepareConfig(StageConfig):
    seed: int
    data: DataSource
    prepare: Prepare


class TrainConfig(StageConfig):
    seed: int
    num_threads: int
    augment: Augment
    model: Model
    train: Train

    @property
    def is_deterministic(self) -> bool:
        return self.train.deterministic


class EvaluateConfig(StageConfig):
    num_threads: int
    evaluate: Evaluate


class ExportConfig(StageConfig):
    num_threads: int
    export: Export

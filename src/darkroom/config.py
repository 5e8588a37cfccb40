"""The typed sections of params.yaml, and which of them each stage reads.

There are no defaults here: ``params.yaml`` holds every value, so DVC sees every value.
``darkroom.params`` reads the file and explains mistakes.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from darkroom.paths import FETCHED, fetched_name, mistaken_input

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
HuggingFaceSet = Annotated[
    str,
    Field(
        pattern=r"^hf(--[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*){2,3}$",
        max_length=200,
        examples=["hf--OWNER--NAME"],
    ),
]
"""The hub's own rules for names: no ``..`` and no ``--``, so these are never the path of a folder."""

Fraction = Annotated[float, Field(gt=0, lt=1)]
Column = Annotated[str, Field(min_length=1)]
Alpha = Annotated[float, Field(gt=0, le=100)]
NamedTransform = Annotated[
    dict[str, dict[str, Any]],
    Field(min_length=1, max_length=1, examples=["{NAME: {argument: value}}"]),
]


_MERGE_EXAMPLE = "{label: label}, as {Cat: cat}"


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


def _only_where(name: str, value: object, applies: bool, where: str) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with a parameter that is to be null where it does not apply, else not."""
    if applies and value is None:
        yield name, f"null is not allowed {where}"
    if not applies and value is not None:
        shown = str(value).lower() if isinstance(value, bool) else value
        yield name, f"{shown} has no effect {where}; it must be null there"


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
        description="table in path that labels the files: CSV, Parquet or JSON Lines; null: folders are"
        " the labels"
    )
    image_root: Column | None = Field(
        description="folder in path that the manifest's file paths are relative to; null: the manifest's"
        " own folder; . is path itself"
    )
    path_column: Column = Field(description="the manifest's column of file paths")
    label_column: Column = Field(description="the manifest's column of labels, taken as text")
    label_separator: Column | None = Field(
        description="what parts the labels of an image that has several, such as |, in the manifest's"
        " label column; null: an image has one label"
    )
    merge_labels: Annotated[dict[Column, Column], Field(examples=[_MERGE_EXAMPLE])] = Field(
        description="labels that become one class, as {Cat: cat, kitten: cat}; labels that only look"
        " alike and are different classes are mapped to themselves, as {a: a, A: A}; {} none"
    )
    split_column: Column | None = Field(
        description="the manifest's column that says train, val, test or nothing; null: none"
    )
    group_column: Column | None = Field(
        description="the manifest's column of what must not be split (patient, scene); null: none"
    )
    group_pattern: Column | None = Field(
        description="regular expression (RE2) that is searched in each path below data.path; what its"
        " groups, or the group named group, match must not be split, as ^(.*)_frame; null: none"
    )
    weight_column: Column | None = Field(
        description="the manifest's column of weights in the training loss; null: all count the same"
    )

    def mistaken_combinations(self) -> Iterator[tuple[str, str]]:
        """Yields ``(full name, what is wrong)`` for values that do not go together."""
        for option in ("label_separator", "image_root"):
            value = getattr(self, option)
            if value is not None and self.manifest is None:
                does = (
                    "parts labels of" if option == "label_separator" else "is a folder of the paths in"
                )
                yield (
                    f"data.{option}",
                    f"{value!r} {does} a manifest, but data.manifest is null; set both or none",
                )
        if self.image_root is not None and (advice := self._stray_root(self.image_root)):
            yield "data.image_root", f"{self.image_root!r} is not a folder in data.path; {advice}"
        if self.group_pattern is not None and self.group_column is not None:
            yield (
                "data.group_pattern",
                f"{self.group_pattern!r} names groups, and so does data.group_column"
                f" {self.group_column!r}; set one of them to null",
            )
        for label, target in self.merge_labels.items():
            if problem := self._mistaken_merge(label, target):
                yield "data.merge_labels", problem

    def _stray_root(self, root: str) -> str:
        """Returns what to do about an ``image_root`` that is not inside ``path``, else nothing."""
        parts = root.replace("\\", "/").split("/")
        path = self.path.replace("\\", "/").rstrip("/")
        if f"{root.rstrip('/')}/".startswith(f"{path}/"):
            inside = root.rstrip("/")[len(path) :].strip("/") or "."
            return f"it is relative to data.path, so write {inside}"
        if root.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", root):
            return (
                "DVC follows data.path alone, so the images must lie in it: set data.path to a folder"
                " that holds manifest and images, and data.image_root to the folder of the images in it"
            )
        return ""

    def _mistaken_merge(self, label: str, target: str) -> str:
        """Returns what is wrong with merging ``label`` into ``target``, or nothing."""
        for name in (label, target):
            if name != name.strip() or not name.strip():
                return f"{name!r} has blanks around it, and labels are read without them; leave them out"
        if self.label_separator is not None and self.label_separator in label + "\n" + target:
            return (
                f"{label!r} or {target!r} holds data.label_separator {self.label_separator!r}; name"
                " single labels"
            )
        onward = self.merge_labels.get(target, target)
        if onward != target:
            if onward == label:
                return (
                    f"{label!r} and {target!r} are merged into each other; keep one of the two entries"
                )
            return (
                f"{label!r} is merged into {target!r}, which is merged into {onward!r}; map both to one"
            )
        return ""


class PublicSets(Section):
    """The part of ``data`` that ``fetch`` reads."""

    fetch: list[NamedSet | HuggingFaceSet] = Field(
        description="public sets to fetch into data/fetched/NAME; hf--OWNER--NAME is OWNER/NAME on the"
        " Hugging Face hub; [] for images of your own"
    )


class Data(PublicSets, DataSource):
    """Where the images come from."""


class Prepare(Section):
    """How images become arrays, and how they are split."""

    image_size: Literal["auto"] | Annotated[int, Field(ge=1, le=2048)] = Field(
        description="side in pixels after resizing; auto: the images' own size if at least 95 %"
        " share one of at most 224, else the median shorter side rounded down to a multiple of 32,"
        " from 32 to 224"
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
        " images with other look-alikes must agree in detail too; null: only the very same pixels count"
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

    def padding_problem(self, side: int) -> str | None:
        """Returns what is wrong with ``crop_padding`` for images whose shorter side is ``side``."""
        if self.crop_padding == 0 or self.crop_padding < side:
            return None
        return (
            f"{self.crop_padding} would move images of {side} pixels out of sight altogether; it must be"
            f" below {side} (an eighth is usual: {side // 8})"
        )


class Model(Section):
    """The network."""

    name: str = Field(
        pattern=r"^(mlp|cnn|resnet|vit|torchvision:[A-Za-z0-9_]+|timm:[A-Za-z0-9_.]+)$",
        description="mlp, cnn, resnet or vit, which are made for small images, or torchvision:NAME or"
        " timm:NAME; `darkroom models` lists them",
    )
    width: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        description="mlp: units of a layer; cnn, resnet: channels of the first layer; vit: numbers a"
        " patch; null for a library's network"
    )
    depth: Annotated[int, Field(ge=1, le=64)] | None = Field(
        description="mlp: hidden layers; cnn: stages of two convolutions, each halving the image;"
        " resnet: residual blocks in each of its three stages; vit: blocks; null for a library's network"
    )
    patch_size: Annotated[int, Field(ge=1, le=256)] | None = Field(
        description="vit: pixels of a patch's side; null for all others"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="probability of dropping a feature before the last layer (mlp, vit: also between"
        " layers)"
    )
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="probability of leaving out the last residual block for an image, rising to it from"
        " 0 at the first (Huang et al., 2016); for resnet, vit, and libraries' networks that have it"
    )
    head: Literal["linear", "mlp", "concat_pool"] = Field(
        description="what makes classes of features: linear; mlp: one hidden layer; concat_pool: average"
        " and maximum of each feature's map, then two layers with batch normalisation"
    )
    weights: str = Field(
        min_length=1,
        description="what training begins with: random; default: the library's, downloaded once; or a"
        " file in models/weights/, .pth or .safetensors",
    )

    def mistaken_combinations(self) -> Iterator[tuple[str, str]]:
        """Yields ``(full name, what is wrong)`` for values that do not go together."""
        is_own = ":" not in self.name
        for option in ("width", "depth", "patch_size"):
            applies = self.name == "vit" if option == "patch_size" else is_own
            yield from _only_where(
                f"model.{option}", getattr(self, option), applies, f"where model.name is {self.name}"
            )
        if self.name == "resnet" and self.width is not None and self.width < 8:
            yield (
                "model.width",
                f"{self.width} is too narrow for resnet; it must be at least 8 there, because torch's "
                "kernel for its shortcuts writes beyond its memory on a CPU with fewer",
            )
        if self.stochastic_depth > 0 and self.name in ("mlp", "cnn"):
            yield (
                "model.stochastic_depth",
                f"{self.stochastic_depth:g} leaves out residual blocks, and {self.name} has none; "
                "it must be 0 there",
            )
        if self.head == "concat_pool" and self.name in ("mlp", "vit"):
            yield (
                "model.head",
                f"concat_pool pools maps of features, and {self.name} has none; take linear or mlp",
            )
        if self.weights == "default" and is_own:
            yield (
                "model.weights",
                f"default is the library's, and {self.name} comes from none; take random or a file",
            )


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
        yield from _only_where("train.focal_gamma", self.focal_gamma, self.loss == "focal", by_loss)
        by_optimizer = f"where train.optimizer is {self.optimizer}"
        has_momentum = self.optimizer in ("sgd", "rmsprop", "muon")
        yield from _only_where("train.momentum", self.momentum, has_momentum, by_optimizer)
        yield from _only_where("train.nesterov", self.nesterov, self.optimizer == "sgd", by_optimizer)
        if self.nesterov and self.momentum == 0:
            yield (
                "train.nesterov",
                "true looks ahead by the momentum, and train.momentum is 0; it must be false there",
            )
        by_schedule = f"where train.schedule is {self.schedule}"
        rises = self.schedule in ("one_cycle", "cosine")
        falls = self.schedule in ("step", "multi_step", "exponential", "plateau")
        has_epochs = self.schedule in ("step", "multi_step", "plateau")
        yield from _only_where("train.warmup_fraction", self.warmup_fraction, rises, by_schedule)
        yield from _only_where("train.decay_factor", self.decay_factor, falls, by_schedule)
        yield from _only_where("train.decay_epochs", self.decay_epochs, has_epochs, by_schedule)
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
        if problem := mistaken_input(self.data.path):
            yield "data.path", problem
        elif self.data.path in (f"data/{name}" for name in self.data.fetch):
            yield (
                "data.path",
                f"{self.data.path} is where fetch wrote before; it writes to {FETCHED}/ now: set"
                f" {FETCHED}/{self.data.path.removeprefix('data/')}, or data.fetch: [] to use the"
                " folder as your own",
            )
        elif self.data.fetch and (name := fetched_name(self.data.path)) not in ("", *self.data.fetch):
            yield (
                "data.path",
                f"{self.data.path} is not fetched: data.fetch names {', '.join(self.data.fetch)} and not"
                f" {name}; images of your own belong elsewhere, such as in data/mine",
            )
        yield from self.data.mistaken_combinations()
        if isinstance(train.class_weights, dict):
            for name in train.class_weights:
                if (target := self.data.merge_labels.get(name, name)) != name:
                    yield (
                        "train.class_weights",
                        f"data.merge_labels merges {name!r} into {target!r}; weight {target!r} instead",
                    )
        if len(set(self.data.fetch)) < len(self.data.fetch):
            yield "data.fetch", f"{self.data.fetch} names a set twice; name each once"
        if augment.crop_padding > 0 and augment.resized_crop is not None:
            yield (
                "augment.resized_crop",
                f"{augment.resized_crop:g} crops, and so does augment.crop_padding"
                f" {augment.crop_padding}; set this to null or that to 0",
            )
        side = prepare.image_size
        if isinstance(side, int) and (out_of_sight := augment.padding_problem(side)):
            yield "augment.crop_padding", out_of_sight
        if augment.translate == 1:
            yield "augment.translate", "1 moves images out of sight altogether; it must be below 1"
        yield from model.mistaken_combinations()
        yield from train.mistaken_combinations()
        if train.freezes_backbone and model.weights == "random":
            yield (
                "train.freeze",
                "backbone would keep its random weights, since model.weights is random, and never learn;"
                " take other weights, or none here",
            )
        if train.freezes_backbone and model.stochastic_depth > 0:
            yield (
                "model.stochastic_depth",
                f"{model.stochastic_depth:g} has no effect where the whole backbone is frozen; "
                "it must be 0 there",
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
    data: PublicSets


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

"""Everything that a training consists of, made of params and the prepared data."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from darkroom.augment.pipeline import Augmentation
from darkroom.compute.determinism import set_determinism
from darkroom.compute.device import select_device
from darkroom.compute.environment import describe_environment
from darkroom.config.train import SettledTrain, TrainConfig
from darkroom.dataset.info import DatasetInfo, load_info
from darkroom.dataset.prepared import open_split
from darkroom.errors import UserError
from darkroom.loading.batches import Batches, TrainBatch
from darkroom.loading.sampling import Sampling
from darkroom.models.classifier import Classifier
from darkroom.models.network import Network, backbone_layers
from darkroom.models.spec import ModelSpec
from darkroom.models.weights import start_from
from darkroom.paths import DATASET, PREPARED
from darkroom.runtime import Runtime
from darkroom.training.batch_size import settle_batch_size
from darkroom.training.compiled import compiled
from darkroom.training.doubts import check_padding, doubts
from darkroom.training.features import Features, Head, Watch, compute_features
from darkroom.training.losses import Loss, make_loss
from darkroom.training.state import TrainingState


@dataclass(frozen=True)
class Job:
    """What is trained, on what, and how. All on ``device``."""

    config: TrainConfig
    device: torch.device
    environment: dict[str, str]
    info: DatasetInfo
    spec: ModelSpec
    model: Classifier
    batch_size: int
    train: Batches
    val: Batches
    augmentation: Augmentation
    loss: Loss
    weights_sha256: str
    """Of the file of weights that the model begins with; empty where they are random."""
    remark: str
    """On those weights."""
    doubts: tuple[str, ...] = ()
    """What of the parameters makes little sense for the data, in sentences."""
    features: Features | None = None
    """In place of images, where the whole backbone is frozen."""

    def with_features(self, watch: Watch = lambda batches: batches) -> "Job":
        """Returns the job with features in place of images, if each epoch would compute the same ones.

        Args:
            watch: passes on the batches of images.

        Raises:
            UserError: a batch does not fit into memory.
        """
        if self.config.train.freeze != "backbone" or self.config.train.unfreeze:
            return self
        changes = self.augmentation.changes_images
        features = compute_features(self.model, self.train, self.val, changes, watch)
        return replace(self, features=features)

    @property
    def _learns_from_features(self) -> bool:
        return self.features is not None and self.features.train is not None

    def settled(self, lr: float, **changes: Any) -> SettledTrain:
        """Return the ``train`` section with numbers for ``auto``, and with ``changes``."""
        # its values were validated as params.yaml was read
        values = {**dict(self.config.train), "batch_size": self.batch_size, "lr": lr, **changes}
        return SettledTrain.model_construct(**values)

    def new_state(self, options: SettledTrain, model: nn.Module | None = None) -> TrainingState:
        """Returns the state in which a training of ``model`` begins, by default of the job's own."""
        assert isinstance(self.model.network, Network)
        layers = backbone_layers(self.model.network)
        return TrainingState(model or self.model, options, self.train.num_steps, layers)

    def network(self, model: nn.Module | None = None) -> nn.Module:
        """Returns what computes the model's logits in training: itself or its head, maybe compiled."""
        model = model or self.model
        part = Head(model) if self._learns_from_features else model
        return compiled(part, self.config.train.compile)

    def validated(self, model: nn.Module) -> nn.Module:
        """Returns what computes a model's logits of ``validation``: itself or its head."""
        return model if self.features is None else Head(model)

    @property
    def validation(self) -> Batches:
        """The validation images, or their features."""
        return self.val if self.features is None else self.features.val

    def epoch(self, epoch: int, step: int) -> Iterable[TrainBatch]:
        """Returns an epoch's batches, from a step on; both count from 0."""
        if self.features is not None and self.features.train is not None:
            return self.features.train.epoch(self.config.seed, epoch, None, step)
        return self.train.epoch(self.config.seed, epoch, self.augmentation, step)


def make_job(config: TrainConfig, runtime: Runtime) -> Job:
    """Makes the parts, after torch has been set to repeat what it computes.

    Raises:
        UserError: parameters do not go with the data, the device or each other.
    """
    options = config.train
    set_determinism(config.seed, config.num_threads, options.deterministic, options.tf32)
    device = select_device(runtime.device)
    info = load_info(DATASET)
    _check_sampling(options.sampling, info)
    check_padding(config.augment, info)
    environment = describe_environment(device)
    class_counts = [info.counts["train"][name] for name in info.class_names]
    num_images = info.num_images("train") if info.multi_label else None
    loss = make_loss(options, info.class_names, class_counts, device, num_images)
    start = start_from(
        config.model.weights,
        ModelSpec(
            **config.model.model_dump(exclude={"weights"}),
            class_names=tuple(info.class_names),
            input_size=info.input_size,
            channels=info.channels,
            resize=info.resize,
            mean=tuple(info.mean),
            std=tuple(info.std),
            training={},
            environment=environment,
            multi_label=info.multi_label,
        ),
    )
    model = start.classifier.to(device)
    batch_size = settle_batch_size(
        options.batch_size, model, (info.channels, *info.input_size), info.num_images("train")
    )
    augmentation = Augmentation(config.augment, config.seed)
    shards = {split: open_split(PREPARED / split, info) for split in ("train", "val")}
    return Job(
        config=config,
        device=device,
        environment=environment,
        info=info,
        spec=replace(start.spec, training={}),
        model=model,
        batch_size=batch_size,
        train=Batches(
            shards["train"],
            device,
            batch_size,
            runtime.workers,
            augmentation.needs_host,
            options.sampling,
        ),
        val=Batches(shards["val"], device, -(-batch_size // options.micro_batches), runtime.workers),
        augmentation=augmentation,
        loss=loss,
        weights_sha256=start.sha256,
        remark=start.remark,
        doubts=tuple(doubts(config, info, batch_size)),
    )


def _check_sampling(sampling: Sampling, info: DatasetInfo) -> None:
    if info.multi_label and sampling == "balanced":
        raise UserError(
            "train.sampling: balanced takes one label an image, and here an image may have several; "
            "take natural, with train.class_weights: balanced where labels are rare"
        )

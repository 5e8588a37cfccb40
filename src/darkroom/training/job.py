"""Everything that a training needs, built from the parameters and the prepared data."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from darkroom.augment.pipeline import Augmentation
from darkroom.compute.compiled import compiled
from darkroom.compute.determinism import is_pinned, set_determinism
from darkroom.compute.device import select_device
from darkroom.compute.environment import describe_environment
from darkroom.compute.precision import check_precision, cpu_flags
from darkroom.config.train import SettledTrain, TrainConfig, images_differ, resizes_each_epoch
from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.prepared import PreparedData, TrainingData
from darkroom.dataset.views import EvaluationView
from darkroom.features.extractor import Extractor, View
from darkroom.features.store import Store, open_store
from darkroom.inputs import INPUT_WORDS, InputWords
from darkroom.loading.batches import Batches, TrainBatch
from darkroom.loading.threads import threads
from darkroom.models.classifier import Classifier
from darkroom.models.factory import check_stages
from darkroom.models.network import Network, backbone_layers
from darkroom.models.spec import ModelSpec
from darkroom.models.weights import start_from
from darkroom.own_names import OwnName
from darkroom.runtime import Runtime
from darkroom.training.batch_size import settle_batch_size
from darkroom.training.checkpoint import Checkpoints
from darkroom.training.course import EpochResult
from darkroom.training.doubts import check_data, doubts
from darkroom.training.engine import fit
from darkroom.training.features import (
    FeatureBatches,
    OnFeatures,
    head_alone,
    load_features,
    useful_threads,
)
from darkroom.training.half_precision import compare_with_float32
from darkroom.training.losses import Loss, make_loss
from darkroom.training.state import TrainingState
from darkroom.training.targets.interface import training_target
from darkroom.training.teacher import Teacher, load_teacher


@dataclass(frozen=True)
class Job:
    """The model, the data and the options of a training, all on ``device``."""

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
    store: Store
    """Features that were computed before."""
    weights_sha256: str
    """SHA-256 of the file of initial weights; empty if they are random."""
    remark: str
    """A remark on those weights, or an empty string."""
    doubts: tuple[str, ...] = ()
    """A sentence for each parameter value that makes little sense for the data."""
    teacher: Teacher | None = None
    """The model that this one learns from."""
    features: FeatureBatches | None = None
    """Features to use instead of images in the first epochs, if the whole backbone is frozen in them."""

    @property
    def origins(self) -> str:
        """The digests of the files of weights that the result depends on."""
        return self.weights_sha256 + (f" {self.teacher.sha256}" if self.teacher else "")

    @property
    def words(self) -> InputWords:
        """The words for what is trained on."""
        return INPUT_WORDS[self.spec.input]

    def with_features(self) -> "Job":
        """Return the job with features instead of images in the epochs before any is unfrozen.

        Raises:
            UserError, OSError: see ``Extractor.features``.
        """
        if self.config.train.num_frozen_epochs == 0:
            return self
        extractor = Extractor(self.model, self.spec, self.environment, self.store)
        return replace(self, features=load_features(extractor, self.train, self.val, self._views()))

    def _views(self) -> list[View]:
        """Return the views of the training images; none if images differ in each epoch."""
        train = self.config.train
        if not images_differ(train, self.config.augment, self.info.input_size):
            return [View()]
        sizes = f"{train.sizes} {train.evaluate_crop}"
        options = self.config.augment
        files = [OwnName.parse(name).sha256() for name in options.own_files]
        description = " ".join([f"{self.config.seed}", options.model_dump_json(), sizes, *files])
        views = range(train.feature_views or 0)
        return [View(self.augmentation, number, description) for number in views]

    def uses_features(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, uses features instead of images."""
        return self.features is not None and epoch < self.config.train.num_frozen_epochs

    @cached_property
    def plain_train(self) -> Batches:
        """The training images as the model is evaluated on them."""
        view = EvaluationView.of(self.spec.input_size, self.spec.evaluate_crop)
        return self.train.viewed(view)

    @property
    def trains_head_alone(self) -> bool:
        """Whether all epochs train on features, so that the backbone is not needed."""
        has_features = self.features is not None and bool(self.features.train)
        return has_features and self.config.train.freezes_backbone

    @property
    def trained(self) -> Classifier:
        """The model that is trained; without the backbone if only features are needed."""
        return head_alone(self.model) if self.trains_head_alone else self.model

    @property
    def num_threads(self) -> int:
        """The number of CPU threads of a training step."""
        configured = self.config.num_threads
        if not self.trains_head_alone:
            return configured
        return useful_threads(self.model.network.head, self.batch_size, configured)

    def compare_precisions(self) -> str:
        """Return a remark on the speed of half precision on a CPU; empty for others."""
        precision = self.config.train.precision
        if precision == "float32" or self.device.type != "cpu":
            return ""
        shape = (self.info.channels, *self.spec.input_size)
        return compare_with_float32(self.model, precision, shape, self.batch_size)

    def settled(self, lr: float, **changes: Any) -> SettledTrain:
        """Return the ``train`` section with numbers in place of ``auto``, and with ``changes``.

        If ``weight_decay`` is ``auto``, ``changes`` must have it.
        """
        # the values were validated when params.yaml was read
        values = {**dict(self.config.train), "batch_size": self.batch_size, "lr": lr, **changes}
        return SettledTrain.model_construct(**values)

    def new_state(self, options: SettledTrain, model: nn.Module | None = None) -> TrainingState:
        """Return the initial state of a training of ``model``, by default that of ``trained``."""
        assert isinstance(self.model.network, Network)
        layers = backbone_layers(self.model.network)
        return TrainingState(model or self.trained, options, self.train.num_steps, layers)

    def network(self, model: nn.Module | None = None) -> nn.Module:
        """Return the module that computes the logits in training, of images or of their features."""
        return compiled(self.validated(model or self.trained), self.config.train.compile)

    def validated(self, model: nn.Module) -> nn.Module:
        """Return the module that computes a model's logits of what ``validation`` returns."""
        return model if self.features is None else OnFeatures(model)

    def validation(self, epoch: int) -> Batches:
        """Return the validation images or their features, for an epoch that is counted from 0."""
        if self.features is not None and self.uses_features(epoch):
            return self.features.val
        return self.val

    def epoch(self, epoch: int, step: int) -> Iterable[TrainBatch]:
        """Return an epoch's batches from a step on; both are counted from 0."""
        seed = self.config.seed
        if self.features is not None and self.features.train and self.uses_features(epoch):
            views = self.features.train
            return views[epoch % len(views)].epoch(seed, epoch, None, step)
        batches = self.train.epoch(seed, epoch, self.augmentation, step)
        return batches if self.teacher is None else self.teacher.taught(batches)

    def fit(
        self,
        state: TrainingState,
        options: SettledTrain,
        watch: Callable[[Iterable[TrainBatch]], Iterable[TrainBatch]],
        checkpoints: Checkpoints | None = None,
    ) -> Iterator[EpochResult]:
        """Train from the position of ``state`` to the end, on this job's data; see ``engine.fit``.

        Args:
            watch: takes the training batches of an epoch; yields them unchanged.
        """
        with threads(self.num_threads):
            yield from fit(
                state,
                lambda epoch, step: watch(self.epoch(epoch, step)),
                self.validation,
                self.loss,
                options,
                self.config.seed,
                checkpoints,
                self.network(state.model),
                self.network,
            )


def make_job(config: TrainConfig, runtime: Runtime, data: TrainingData | None = None) -> Job:
    """Build a job; PyTorch is first set to repeat its results.

    Args:
        data: the images; None: the prepared splits.

    Raises:
        UserError: parameters do not fit the data, the device or each other.
    """
    options = config.train
    set_determinism(config.seed, config.num_threads, options.deterministic, options.tf32)
    device = select_device(runtime.device)
    check_precision(options.precision, device, is_pinned(options.deterministic), cpu_flags())
    data = data or PreparedData()
    info = data.info
    check_data(config, info)
    environment = describe_environment(device)
    counts = (info.pixels or info.counts)["train"]
    class_counts = [counts[name] for name in info.class_names]
    target, num_images = training_target(info.target), info.num_images("train")
    loss = make_loss(target, options, info.class_names, class_counts, num_images, device)
    start = start_from(
        config.model.weights,
        ModelSpec(
            **config.model.architecture(),
            class_names=tuple(info.class_names),
            input_size=options.sizes[-1][1] if options.sizes else info.input_size,
            prepared_size=info.input_size if options.sizes else None,
            evaluate_crop=options.evaluate_crop,
            channels=info.channels,
            resize=info.resize,
            mean=tuple(info.mean),
            std=tuple(info.std),
            training={},
            environment=environment,
            target=info.target,
            encoding=info.encoding,
        ),
        config.model.init,
    )
    check_stages(start.classifier, start.spec, options.sizes)
    teacher = None
    if options.teacher is not None:
        teacher = load_teacher(options.teacher, start.spec, info.digest, device)
    model = start.classifier.to(device)
    view = EvaluationView.of(start.spec.input_size, options.evaluate_crop)
    resizes = resizes_each_epoch(options, config.augment, info.input_size)
    augmentation = Augmentation(
        config.augment,
        config.seed,
        options.sizes if resizes else (),
        options.evaluate_crop or "centre",
    )
    # images may stay on the GPU, so they are placed before a batch size that fits is looked for
    train = Batches(
        data.open("train", None if resizes else view),
        device,
        1,
        runtime.workers,
        augmentation.needs_host,
        options.sampling,
    )
    val = Batches(data.open("val", view), device, 1, runtime.workers)
    largest = max((size for _, size in options.sizes), key=math.prod, default=info.input_size)
    batch_size = settle_batch_size(
        options.batch_size,
        model,
        (info.channels, *largest),
        info.num_images("train"),
        options.precision,
    )
    return Job(
        config=config,
        device=device,
        environment=environment,
        info=info,
        spec=start.spec,
        model=model,
        batch_size=batch_size,
        train=train.with_batch_size(batch_size),
        val=val.with_batch_size(-(-batch_size // options.micro_batches)),
        augmentation=augmentation,
        loss=loss,
        store=open_store(runtime),
        weights_sha256=start.sha256,
        remark=start.remark,
        doubts=(*doubts(config, info, batch_size), *(teacher.doubts if teacher else ())),
        teacher=teacher,
    )

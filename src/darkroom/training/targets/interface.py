"""What a kind of target says about training: losses, validation, calibration."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from darkroom.compute.inference import Outputs
from darkroom.models.spec import ModelSpec
from darkroom.targets import Target
from darkroom.training.scores import Scores
from darkroom.training.targets import mask, one_class, several_labels

if TYPE_CHECKING:
    from darkroom.config.augment import Augment
    from darkroom.config.train import Train
    from darkroom.training.losses import LossFunction


class TrainingTarget(Protocol):
    """A module for each kind. Targets are as the shards store them, one row per image."""

    measures_unfamiliarity: bool
    """Whether the features of an image say how unlike the training images it is."""

    def check(self, options: "Train", num_classes: int) -> None:
        """Check the options that the kind of target may rule out.

        Raises:
            UserError: ``train.loss`` or ``train.sampling`` does not fit.
        """
        ...

    def check_augment(self, augment: "Augment") -> None:
        """Check the random changes that the kind of target may rule out.

        Raises:
            UserError: a change does not fit.
        """
        ...

    def balanced_weights(self, counts: Sequence[int], num_images: int) -> list[float]:
        """Return the weight of each class for ``train.class_weights: balanced``.

        Args:
            counts: number of training images of each class.
        """
        ...

    def scaled_weights(self, weights: Tensor, counts: Sequence[int]) -> Tensor:
        """Return given weights, float32 ``(num_classes,)``, as the losses use them."""
        ...

    def losses(
        self, weight: Tensor | None, smoothing: float, gamma: float | None
    ) -> Mapping[str, "LossFunction"]:
        """Return the losses of this kind by name.

        Args:
            weight: of each class, float32 ``(num_classes,)``.
            smoothing: ``train.label_smoothing``.
            gamma: ``train.focal_gamma``.
        """
        ...

    def example(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """Return logits and targets of made-up images, for trying a loss. They are always the same."""
        ...

    def divergence(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of the predictions from a teacher's, in nats.

        Args:
            logits: float32, in the shape of the network's output.
            teacher_logits: of the same shape.

        Returns:
            float32 ``(n,)``: of each image, for several labels the mean over labels, for masks the mean
            over pixels.
        """
        ...

    def scores(self, outputs: Iterable[Outputs], seed: int) -> Scores:
        """Return the scores of a validation, without label smoothing or weights.

        Args:
            outputs: of the batches, one after the other, which need not fit into memory together.
            seed: of the bootstrap that estimates the standard error.
        """
        ...

    def calibrated(
        self, spec: ModelSpec, outputs: Iterable[Outputs]
    ) -> tuple[ModelSpec, dict[str, Any]]:
        """Return what is decided on validation images, and the columns of validation.parquet.

        Args:
            outputs: of the batches of validation images, on the CPU.

        Returns:
            The spec with temperatures and thresholds; truth, prediction and ``correct`` of each image,
            by calibrated probabilities.
        """
        ...


_TARGETS: dict[Target, TrainingTarget] = {
    "one_class": one_class,
    "several_labels": several_labels,
    "mask": mask,
}


def training_target(name: Target) -> TrainingTarget:
    """Return the module of a kind of target."""
    return _TARGETS[name]

"""Parameter values that do not fit the prepared data: rejected, or doubted in a sentence.

``darkroom.config`` checks what can be checked without the data.
"""

from collections.abc import Iterator

from darkroom.config.train import TrainConfig
from darkroom.dataset.info import DatasetInfo
from darkroom.errors import UserError
from darkroom.inputs import INPUT_WORDS
from darkroom.training.targets.interface import training_target

LARGE_SHIFT = 0.5
"""Shifts by more than this share of an image's side leave less than half of the image."""


def check_data(config: TrainConfig, info: DatasetInfo) -> None:
    """Check the parameters that the prepared data may rule out.

    Raises:
        UserError: ``train.image_size`` is larger than the images, ``augment.crop_padding`` would leave
            nothing of an image, or a change does not fit the kind of target.
    """
    if problem := config.train.size_problem(info.input_size):
        raise UserError(f"train.image_size: {problem}")
    training_target(info.target).check_augment(config.augment)
    if problem := config.augment.padding_problem(_shortest_side(config, info)):
        raise UserError(f"augment.crop_padding: {problem}")


def doubts(config: TrainConfig, info: DatasetInfo, batch_size: int) -> Iterator[str]:
    """Yield a sentence for each value that makes little sense but may be intended.

    Args:
        batch_size: in images; never ``auto``.
    """
    augment, model, train = config.augment, config.model, config.train
    num_images, side = info.num_images("train"), _shortest_side(config, info)
    if batch_size > num_images:
        yield (
            f"train.batch_size: {batch_size} is more than the {num_images} training"
            f" {INPUT_WORDS[info.input].several}, so that an epoch is a single step"
        )
    # the first epoch is always the best so far, and after the last one nothing is left to stop
    if train.patience is not None and train.patience > train.epochs - 2:
        yield (
            f"train.patience: {train.patience} never stops the training, since train.epochs is"
            f" {train.epochs}"
        )
    if train.patience is not None and len(train.sizes) > 1:
        epoch, (height, width) = train.sizes[-1]
        yield (
            f"train.patience: {train.patience} may stop the training before epoch {epoch}, where images"
            f" of {height} x {width} begin"
        )
    shifts = {"crop_padding": augment.crop_padding / side, "translate": augment.translate}
    for name, share in shifts.items():
        if share > LARGE_SHIFT:
            shift = getattr(augment, name)
            yield f"augment.{name}: {shift:g} leaves less than half of many images in sight"
    if model.weights == "random" and train.freeze != "none" and not train.freezes_backbone:
        yield "train.freeze: frozen layers keep their random weights, since model.weights is random"
    if augment.erase == 1:
        yield "augment.erase: 1 erases a part of every image, so that none is ever learnt whole"


def _shortest_side(config: TrainConfig, info: DatasetInfo) -> int:
    """Return the shortest side of a training image in pixels."""
    return min(min(size) for size in [size for _, size in config.train.sizes] or [info.input_size])

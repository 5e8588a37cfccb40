"""Values of parameters that make little sense for the prepared data: refused, or named in a sentence.

What parameters say without the data is checked in ``darkroom.config``.
"""

from collections.abc import Iterator

from darkroom.config.augment import Augment
from darkroom.config.train import TrainConfig
from darkroom.dataset.info import DatasetInfo
from darkroom.errors import UserError

LARGE_SHIFT = 0.5
"""Share of an image's side by which a shift leaves less than half of the image."""


def check_padding(augment: Augment, info: DatasetInfo) -> None:
    """Refuses shifts by which nothing of an image is left.

    Raises:
        UserError: ``augment.crop_padding`` is not below the shorter side of the images.
    """
    if problem := augment.padding_problem(min(info.input_size)):
        raise UserError(f"augment.crop_padding: {problem}")


def doubts(config: TrainConfig, info: DatasetInfo, batch_size: int) -> Iterator[str]:
    """Yields a sentence for each value that makes little sense, but may be wanted.

    Args:
        batch_size: in images, as it was settled.
    """
    augment, model, train = config.augment, config.model, config.train
    num_images, side = info.num_images("train"), min(info.input_size)
    if batch_size > num_images:
        yield (
            f"train.batch_size: {batch_size} is more than the {num_images} training images, so that an"
            " epoch is a single step"
        )
    # the first epoch is always the best so far, and after the last one nothing is left to stop
    if train.patience is not None and train.patience > train.epochs - 2:
        yield (
            f"train.patience: {train.patience} never stops the training, since train.epochs is"
            f" {train.epochs}"
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

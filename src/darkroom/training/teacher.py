"""A trained model that a network learns from: knowledge distillation."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from darkroom.digests import file_sha256
from darkroom.errors import UserError, listed
from darkroom.loading.batches import TrainBatch
from darkroom.models.classifier import Classifier
from darkroom.models.file import load_model
from darkroom.models.spec import ModelSpec
from darkroom.models.weights import check_place

if TYPE_CHECKING:
    from darkroom.config.train import Teacher as TeacherOptions

SAME = {
    "target": "kind of target",
    "input": "kind of input",
    "channels": "number of channels",
    "input_size": "image size",
    "encoding": "columns",
}
"""What the teacher must share with the network besides the classes, in words."""


class Teacher:
    """A teacher on the device of a training.

    It sees the images as the network does, with the same random changes (Beyer et al., "Knowledge
    distillation: A good teacher is patient and consistent", 2022). Without dropout and in float32, so
    its predictions are a function of the images.
    """

    def __init__(
        self, classifier: Classifier, order: list[int], sha256: str = "", doubts: tuple[str, ...] = ()
    ) -> None:
        self._classifier, self._order = classifier, order
        self.sha256 = sha256
        """Of the file."""
        self.doubts = doubts
        """What the user should know."""

    def taught(self, batches: Iterable[TrainBatch]) -> Iterator[TrainBatch]:
        """Yield the batches with the teacher's logits."""
        for batch in batches:
            with torch.no_grad():
                logits = self._classifier(batch.images)[:, self._order]
            yield batch._replace(teacher_logits=logits)


def load_teacher(
    options: "TeacherOptions", spec: ModelSpec, data_digest: str, device: torch.device
) -> Teacher:
    """Return the teacher of a network, on its device.

    Args:
        spec: of the network.
        data_digest: of the prepared data.

    Raises:
        UserError: there is no such file, it is damaged, or it is for other classes or images.
    """
    path = Path(options["file"])
    remark = check_place("train.teacher", path)
    if path.suffix != ".safetensors":
        raise UserError(f"train.teacher: {path} is not a model file that train has written")
    classifier, of_teacher = load_model(path)
    for name, words in SAME.items():
        if getattr(of_teacher, name) != getattr(spec, name):
            values = f" ({getattr(of_teacher, name)}, {getattr(spec, name)})"
            raise UserError(
                f"train.teacher: {path} and the network differ in their {words}"
                f"{values if name != 'encoding' else ''}; train the teacher on the same prepared data"
            )
    if sorted(of_teacher.class_names) != sorted(spec.class_names):
        differing = sorted(set(of_teacher.class_names) ^ set(spec.class_names))
        raise UserError(
            f"train.teacher: {path} has other classes than the data ({listed(differing)}); train the"
            " teacher on the same classes"
        )
    order = [of_teacher.class_names.index(name) for name in spec.class_names]
    classifier = classifier.to(device).to(memory_format=torch.channels_last)
    doubts = [f"train.teacher: {remark}"] if remark else []
    if of_teacher.training.get("data.digest") != data_digest:
        doubts.append(
            f"train.teacher: {path} was trained on other prepared data; if the test images were among"
            " its training images, the test scores are too high"
        )
    return Teacher(classifier, order, file_sha256(path), tuple(doubts))

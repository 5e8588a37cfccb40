"""Makes the classifier that a spec describes."""

import torch
from torch import nn

from darkroom.errors import UserError
from darkroom.models.classifier import Classifier
from darkroom.models.cnn import CNN
from darkroom.models.resnet import ResNet
from darkroom.models.spec import ModelSpec

OWN_MODELS: dict[str, type[nn.Module]] = {"cnn": CNN, "resnet": ResNet}


def make_classifier(spec: ModelSpec) -> Classifier:
    """Makes a classifier with random weights, drawn from torch's global generator.

    Raises:
        UserError: there is no such model, or it cannot take images of the spec's size.
    """
    classifier = Classifier(_make_network(spec), spec.mean, spec.std)
    _check_input_size(classifier, spec)
    return classifier


def _make_network(spec: ModelSpec) -> nn.Module:
    library, _, name = spec.name.rpartition(":")
    if library == "torchvision":
        # importing torchvision costs seconds, so only where it is asked for
        from darkroom.models.torchvision import make_torchvision

        return make_torchvision(name, spec.channels, len(spec.class_names))
    return OWN_MODELS[name](
        channels=spec.channels,
        num_classes=len(spec.class_names),
        width=spec.width,
        depth=spec.depth,
        dropout=spec.dropout,
    )


@torch.no_grad()
def _check_input_size(classifier: Classifier, spec: ModelSpec) -> None:
    """Runs the network on a blank image, so that an unfit size is refused before any work."""
    height, width = spec.input_size
    classifier.eval()
    try:
        classifier(torch.zeros(1, spec.channels, height, width, dtype=torch.uint8))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"model.name: {spec.name} cannot take images of {height} x {width} pixels ({error}); "
            "change prepare.image_size, or model.depth where the network has one"
        ) from None
    classifier.train()

"""Networks for masks of segmentation_models_pytorch, without their heads. An extra: darkroom[smp].

``smp:ARCHITECTURE.ENCODER``, for example ``smp:unetplusplus.resnet34``. Parameters have the names that
they have in the library.
"""

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from darkroom.errors import UserError, did_you_mean, listed
from darkroom.models.backbones.pixels import EncoderDecoder
from darkroom.models.backbones.shapes import ShapesOnly

_LAST_LAYERS = ("fc", "_fc", "last_linear", "classifier", "classifier.1", "head", "head.fc")
"""Names of the last layers of classifiers, by library."""

_SCALED_TO_ONE = ("inceptionresnetv2", "inceptionv4", "xception")
"""Encoders whose weights expect values of -1..1; the others expect ImageNet's mean and deviation."""


def load_smp() -> ModuleType:
    """Return the module segmentation_models_pytorch.

    Raises:
        UserError: it is not installed.
    """
    try:
        import segmentation_models_pytorch
    except ImportError:
        raise UserError(
            "model.name: smp: needs the package segmentation-models-pytorch; install it with"
            " `pip install 'darkroom[smp]'`"
        ) from None
    return segmentation_models_pytorch


def make_backbone(
    name: str, input_size: tuple[int, int], makes_map: bool, stochastic_depth: float
) -> nn.Module:
    """Return the encoder and the decoder of a network, with random weights.

    Args:
        name: ``ARCHITECTURE.ENCODER``.
        makes_map: has no effect: there are only maps.

    Raises:
        UserError: the library is not installed, has no such network, or the sides of the images are no
            multiples of what the encoder divides them by; or stochastic depth is asked for.
    """
    if stochastic_depth > 0:
        raise UserError(
            f"model.stochastic_depth: {stochastic_depth:g} is not possible for smp:{name}; it must be 0"
        )
    network = _make_whole(name)
    stride = network.encoder.output_stride
    if network.requires_divisible_input_shape and any(side % stride for side in input_size):
        height, width = input_size
        raise UserError(
            f"model.name: smp:{name} needs images whose sides are multiples of {stride} pixels, but they"
            f" have {height} x {width}; change prepare.image_size or train.image_size"
        )
    return _UntilTheHead(network)


class _UntilTheHead(EncoderDecoder):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, 3, height, width)`` -> a map of features ``(n, C, h, w)``."""
        return self.decoder(self.encoder(x))


def names_of_whole(name: str) -> set[str]:
    """Return the names in the state dict of the whole network, with its head.

    Those of the last layers of classifiers are added, whose files hold weights for the encoder.
    """
    with ShapesOnly():
        whole = set(_make_whole(name).state_dict())
    return whole | {f"{layer}.{kind}" for layer in _LAST_LAYERS for kind in ("weight", "bias")}


def default_weights(name: str, input_size: tuple[int, int]) -> dict[str, Tensor]:
    """Return the weights of the encoder that were trained on ImageNet, downloaded once.

    Raises:
        OSError, RuntimeError: there is no network.
        UserError: there are none.
    """
    try:
        return _make_whole(name, "imagenet").encoder.state_dict()
    except KeyError:
        raise UserError(
            f"model.weights: there are no weights of ImageNet for smp:{name}; set it to random or a file"
        ) from None


def weights_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of the images that most weights of the encoder expect.

    The library has no list of them: it downloads them for each encoder.
    """
    if name.partition(".")[2] in _SCALED_TO_ONE:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _make_whole(name: str, encoder_weights: str | None = None) -> Any:
    smp = load_smp()
    architecture, _, encoder = name.partition(".")
    known = smp.MODEL_ARCHITECTURES_MAPPING
    if architecture not in known:
        raise UserError(
            f"model.name: segmentation_models_pytorch has no architecture {architecture}; write"
            f" smp:ARCHITECTURE.ENCODER with one of {listed(known)}{did_you_mean(architecture, known)}"
        )
    encoders = smp.encoders.get_encoder_names()
    if encoder not in encoders and not encoder.startswith("tu-"):
        near = did_you_mean(encoder, encoders) or "."
        raise UserError(
            f"model.name: segmentation_models_pytorch has no encoder {encoder or 'without a name'}{near}"
            f" Some of them: resnet34, mobilenet_v2, efficientnet-b0, mit_b0, tu-NAME for timm's NAME;"
            f" write smp:{architecture}.ENCODER"
        )
    try:
        return smp.create_model(architecture, encoder, encoder_weights)
    except (ValueError, RuntimeError) as error:
        reason = f"{error}".strip().split("\n")[0]
        raise UserError(f"model.name: smp:{name} cannot be made: {reason}") from None

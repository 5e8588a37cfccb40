"""timm's models (PyTorch Image Models), without their last layer. An extra: darkroom[timm]."""

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from darkroom.errors import UserError, did_you_mean
from darkroom.models.backbones.shapes import ShapesOnly


def load_timm() -> ModuleType:
    """Return the module timm.

    Raises:
        UserError: timm is not installed.
    """
    try:
        import timm
    except ImportError:
        raise UserError(
            "model.name: models of timm need the package timm; install it with"
            " `pip install 'darkroom[timm]'`"
        ) from None
    return timm


def list_names() -> list[str]:
    """Return the names of all models."""
    return load_timm().list_models()


def list_mask_names() -> list[str]:
    """Return the names of networks for masks: none."""
    return []


def make_backbone(
    name: str,
    input_size: tuple[int, int],
    makes_map: bool,
    stochastic_depth: float,
    pretrained: bool = False,
) -> nn.Module:
    """Return timm's model called ``name`` without its last layer.

    Args:
        makes_map: stop before the pooling, so that the features are a map.
        pretrained: load the weights that timm recommends, which are downloaded once.

    Raises:
        UserError: timm is not installed, or has no such model, or this one has no stochastic depth.
    """
    timm = load_timm()
    if name.partition(".")[0] not in timm.list_models():
        near = did_you_mean(name, timm.list_models())
        raise UserError(
            f"model.name: timm has no model {name}{near or '.'} `darkroom models 'timm:*'` lists them"
        )
    options: dict[str, Any] = {"img_size": input_size}
    if makes_map:
        options["global_pool"] = ""
    if stochastic_depth > 0:
        options["drop_path_rate"] = stochastic_depth
    for _ in range(2):
        try:
            return timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        except TypeError as error:
            if "'img_size'" in str(error):
                del options["img_size"]  # the model accepts images of any size
            elif "'drop_path_rate'" in str(error):
                raise UserError(
                    f"model.stochastic_depth: {stochastic_depth:g} is not possible, because "
                    f"timm:{name} does not offer it; it must be 0"
                ) from None
            else:
                raise
    raise AssertionError


def names_of_whole(name: str) -> set[str]:
    """Return the names in the state dict of the whole model, with its last layer."""
    with ShapesOnly():
        return set(load_timm().create_model(name, pretrained=False).state_dict())


def default_weights(name: str, input_size: tuple[int, int]) -> dict[str, Tensor]:
    """Return the weights that timm recommends, downloaded once, for the given image size."""
    return make_backbone(name, input_size, False, 0, pretrained=True).state_dict()


def weights_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of the images that timm's weights were trained on."""
    config = load_timm().get_pretrained_cfg(name)
    return tuple(config.mean), tuple(config.std)


def default_side(name: str) -> int:
    """Return the side, in pixels, of the images that the model was designed for."""
    return load_timm().get_pretrained_cfg(name).input_size[1]

"""The description in a model file: everything that is needed to use the model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open

from darkroom.errors import UserError, brief
from darkroom.inputs import Encoding, Input, input_of
from darkroom.models.own_digest import KEY as DIGEST_KEY
from darkroom.targets import Target, from_file, to_file

FORMAT_VERSION = 2
"""Version 2 added the file's own digest."""

READ_VERSIONS = (1, FORMAT_VERSION)
"""Formats whose description can be read, for example to restore runs of older models."""

LIBRARIES = ("torchvision:", "timm:", "smp:")
"""How the names of a library's networks begin."""

METADATA_KEY = "darkroom"
"""Key of the description, which is JSON, in the header of a model file."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Architecture and preprocessing of a classifier.

    ``training`` and ``environment`` record how the model was trained; nothing depends on them.
    ``mean`` and ``std`` have one value per channel, of pixels scaled to 0..1; ``input_size`` is
    ``(height, width)`` in pixels; ``resize`` says how other images are brought to that size, or to
    ``prepared_size``.
    """

    name: str
    width: int | None
    depth: int | None
    patch_size: int | None
    dropout: float
    stochastic_depth: float
    head: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    channels: int
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: dict[str, Any]
    environment: dict[str, str]
    # with defaults, because older files lack these fields
    target: Target = "one_class"
    """What is predicted for an image; ``multi_label`` in files."""
    thresholds: tuple[float, ...] | None = None
    """Minimum probability at which each label is predicted; None for one class per image."""
    prepared_size: tuple[int, int] | None = None
    """Height and width of the images from which ``input_size`` is cut; None: ``input_size``."""
    evaluate_crop: str | None = None
    """How ``input_size`` is cut from ``prepared_size``: ``centre`` or ``whole``; None: not at all."""
    activation: str | None = None
    """Activation of one of darkroom's own networks; None: the usual one."""
    pooling: str | None = None
    """How one of darkroom's own networks halves maps; None: the usual way."""
    temperature: tuple[float, ...] = (1.0,)
    """Divides the logits before they become probabilities: one value, or one per label."""
    unfamiliarity: dict[str, float] | None = None
    """Of ``Unfamiliarity``: the share of ``false_alarms`` that its threshold was chosen for, the numbers
    of ``components``, ``centres``, ``train_images`` and ``val_images``; None: it is not measured."""
    encoding: Encoding | None = None
    """How the rows of a table become numbers; None: the inputs are images. ``channels`` is then the
    number of values of a row, and ``input_size`` 1 x 1."""
    file_sha256: str | None = None
    """SHA-256 of the user's file that ``name`` names; None: it names no file, or any bytes will do."""
    format_version: int = FORMAT_VERSION

    @property
    def expects_rgb(self) -> bool:
        """Whether the backbone takes RGB images only, as those of libraries do."""
        return self.name.startswith(LIBRARIES)

    @property
    def input(self) -> Input:
        """What is predicted from."""
        return input_of(self.encoding)

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can represent, without optional parts that the model lacks."""
        optional = "activation", "pooling", "unfamiliarity", "encoding", "file_sha256"
        omitted = {name for name in optional if getattr(self, name) is None}
        return to_file({name: value for name, value in asdict(self).items() if name not in omitted})

    def preprocessing(self) -> dict[str, Any]:
        """Return what is needed to use the model without darkroom."""
        # it imports numpy, which a stage must not load before the instruction set is pinned
        from darkroom.models.targets.interface import model_target

        cut = {"prepared_size": self.prepared_size, "evaluate_crop": self.evaluate_crop}
        of_images = {
            "input_size": self.input_size,
            "channels": self.channels,
            "resize": self.resize,
            **(cut if self.evaluate_crop else {}),
            "dtype": "uint8",
            "range": [0, 255],
        }
        return {
            "class_names": self.class_names,
            **({"encoding": asdict(self.encoding)} if self.encoding else of_images),
            "normalisation": "inside the model",
            "temperature": self.temperature,
            **({"unfamiliarity": self.unfamiliarity} if self.unfamiliarity else {}),
            **model_target(self.target).description(self.thresholds),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the spec from what ``to_dict`` returned, before or after JSON."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v
            for k, v in from_file(values).items()
            if k != DIGEST_KEY
        }
        if plain.get("encoding"):
            plain["encoding"] = Encoding.from_dict(plain["encoding"])
        return cls(**plain)


def load_spec(path: Path) -> ModelSpec:
    """Load the description of the model file at ``path`` without checking the digest.

    Raises:
        UserError: the file is missing, not a model file of darkroom, damaged, or of another version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; run `dvc repro train`") from None
    except SafetensorError as error:
        raise UserError(f"{path}: damaged, or not a safetensors file ({brief(error)})") from None
    if METADATA_KEY not in metadata:
        raise UserError(f"{path}: not a model file of darkroom (it contains no description)")
    try:
        values = json.loads(metadata[METADATA_KEY])
        version = values["format_version"]
        if version in READ_VERSIONS:
            return ModelSpec.from_dict(values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: the description is damaged ({error!r})") from None
    raise UserError(f"{path}: format {version}, but this version of darkroom reads {FORMAT_VERSION}")

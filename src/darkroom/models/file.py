"""Model files: safetensors that describe themselves, with the same bytes for the same model."""

import hashlib
import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from darkroom.errors import UserError, brief
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.models.spec import METADATA_KEY, ModelSpec, load_spec


def save_model(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
    """Writes weights and spec."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in classifier.state_dict().items()}
    # with more than one metadata key safetensors writes them in random order
    metadata = {METADATA_KEY: json.dumps(spec.to_dict(), sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, metadata))


def load_model(path: Path) -> tuple[Classifier, ModelSpec]:
    """Reads the model at ``path``, on the CPU and in evaluation mode.

    Raises:
        UserError: as ``load_spec``.
    """
    spec = load_spec(path)
    classifier = make_classifier(spec)
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit {spec.name}: {brief(error)}") from None
    return classifier.eval(), spec


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

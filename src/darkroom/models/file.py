"""Model files: safetensors with a description inside; the same model gives the same bytes."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from darkroom.errors import UserError, brief
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.models.own_digest import BLANK, KEY, check_digest, fill_digest
from darkroom.models.spec import METADATA_KEY, ModelSpec, load_spec


def save_model(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
    """Write the weights, the spec, and a digest of both."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in classifier.state_dict().items()}
    # safetensors writes several metadata keys in random order, so there is only one
    metadata = {METADATA_KEY: json.dumps({**spec.to_dict(), KEY: BLANK}, sort_keys=True)}
    content = bytearray(save(tensors, metadata))
    fill_digest(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def load_model(path: Path) -> tuple[Classifier, ModelSpec]:
    """Load the model at ``path`` on the CPU, in evaluation mode.

    Raises:
        UserError: see ``load_spec`` and ``check_digest``.
    """
    spec = load_spec(path)
    check_digest(path)
    classifier = make_classifier(spec)
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit {spec.name}: {brief(error)}") from None
    return classifier.eval(), spec

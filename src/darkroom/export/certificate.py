"""What the certificate of an export says: its data, code, parameters, environment and scores."""

import hashlib
from collections.abc import Mapping
from typing import Any

from darkroom.compute.environment import fingerprint
from darkroom.digests import file_sha256
from darkroom.export.model_card import trained_params
from darkroom.installed import code_digests
from darkroom.models.spec import ModelSpec
from darkroom.paths import DATASET, MANIFEST, METRICS, MODEL

STAGE = "export"

_NOT_PARAMS = ("data.digest", "model.weights.sha256", "overfits_since_epoch")


def provenance(spec: ModelSpec, params: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the predicate of the certificate. It is a function of what the stage depends on.

    Args:
        params: of the stage, by full name; those of the training are in ``spec``.
        metrics: the scores on the test split, as in metrics.json.
    """
    trained = {name: value for name, value in trained_params(spec).items() if name not in _NOT_PARAMS}
    return {
        "data": {"sha256": spec.training.get("data.digest")},
        "inputs": {path.as_posix(): file_sha256(path) for path in (MODEL, DATASET, MANIFEST, METRICS)},
        "code": {STAGE: hashlib.sha256(code_digests(STAGE).encode()).hexdigest()},
        "params": {**trained, **params},
        "environment": {"fingerprint": fingerprint(spec.environment), **spec.environment},
        "weights": {
            "from": trained.get("model.weights"),
            "sha256": spec.training.get("model.weights.sha256") or None,
        },
        "metrics": {
            name: value
            for name, value in metrics.items()
            if name == "intervals" or isinstance(value, int | float)
        },
    }

"""Answers as values for JSON, the same from every server: what a model decides for an image or a row."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.decoding.bad_image import BadImage
from darkroom.prediction.decisions import Decisions, Prediction
from darkroom.prediction.masks import class_shares, mask_image

_FORMATS = "send an undamaged file in JPEG, PNG, WebP, GIF, BMP, PPM or AVIF"


def answer_of(decided: Prediction, decisions: Decisions) -> dict[str, Any]:
    """Return what a model decides for an image or a row."""
    answer: dict[str, Any] = {
        "classes": list(decided.classes),
        "probabilities": list(decided.probabilities),
    }
    if decisions.leaves_open:
        answer["unsure"] = list(decided.unsure)
    if decisions.has_sets:
        answer["set"] = list(decided.possible)
    if (score := decided.unfamiliarity) is not None:
        answer |= {"unfamiliarity": score, "unfamiliar": score > 1}
    return answer


def most_probable(
    decisions: Decisions, probabilities: NDArray[np.float32], top_k: int
) -> dict[str, Any]:
    """Return the most probable classes of an answer.

    Args:
        probabilities: float32 ``(num_classes,)``.
    """
    order = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    names = decisions.class_names
    return top_of([names[k] for k in order], [float(probabilities[k]) for k in order])


def top_of(names: Iterable[str], probabilities: Iterable[float]) -> dict[str, Any]:
    """Return the most probable classes of an answer, given in order."""
    pairs = zip(names, probabilities, strict=True)
    return {"top": [{"class": name, "probability": number} for name, number in pairs]}


def mask_answer(mask: NDArray[np.uint8], class_names: Sequence[str], top_k: int) -> dict[str, Any]:
    """Return the answer to an image whose mask was predicted.

    Args:
        mask: uint8 ``(height, width)``, classes by their position in ``class_names``.
        top_k: number of the largest shares.
    """
    shares = class_shares(mask, len(class_names))
    order = np.argsort(-shares, kind="stable")[:top_k].tolist()
    encoded = io.BytesIO()
    mask_image(mask).save(encoded, "PNG")
    return {
        "width": mask.shape[1],
        "height": mask.shape[0],
        "shares": [{"class": class_names[k], "share": float(shares[k])} for k in order],
        "mask_png": base64.b64encode(encoded.getvalue()).decode(),
    }


def advice_on(error: BadImage) -> str:
    """Return what to do about an image that cannot be used."""
    return "send a smaller image" if error.outcome == "too large" else _FORMATS


def from_base64(text: str) -> bytes:
    """Return the bytes in base64, or in a ``data:`` URL of base64.

    Raises:
        ValueError: it is not base64.
    """
    data = text.partition(",")[2] if text.startswith("data:") else text
    return base64.b64decode(data, validate=True)

"""Serves a model that predicts the classes of images."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.watch import name_if_slow
from darkroom.prediction.answers import answer_of, most_probable
from darkroom.prediction.decisions import Decisions, Prediction
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.tiles import NOT_FINITE
from darkroom.serving.batching import Batcher
from darkroom.serving.engine import Engine
from darkroom.serving.models.interface import Info, Options, gathered
from darkroom.serving.models.pictures import RAW_TYPES, check_pixels, refusal_of
from darkroom.serving.refusal import Refusal
from darkroom.serving.uploads import Upload

Output = tuple[NDArray[np.float32], float | None]


class ClassModel:
    """An exported model of images, behind a queue of decoded images."""

    raw_types: tuple[str, ...] = RAW_TYPES
    shown: str = "classes"
    names_classes: bool = True

    def __init__(self, predictor: Predictor, info: Info, options: Options, engine: Engine) -> None:
        self.info = info
        self._predictor, self._tiff, self._engine = predictor, options.tiff, engine
        self._batcher: Batcher[NDArray[np.uint8], Output] = Batcher(
            lambda images: predictor.outputs(list(images)),
            engine.inference,
            engine.batching.max_batch,
            engine.batching.max_wait_seconds,
            engine.monitoring.batch,
        )

    def warm_up(self) -> None:
        blank = np.zeros(self._predictor.input_shape, np.uint8)
        for size in (1, self._engine.batching.max_batch):
            self._predictor.outputs([blank] * size)

    async def answers(self, uploads: Sequence[Upload], top_k: int) -> list[dict[str, Any]]:
        with self._engine.images.take(len(uploads)):
            return await gathered([self._answer(upload, top_k) for upload in uploads])

    async def _answer(self, upload: Upload, top_k: int) -> dict[str, Any] | Refusal:
        loop = asyncio.get_running_loop()
        try:
            image = await loop.run_in_executor(self._engine.decoding, self._decode, upload)
        except BadImage as error:
            self._engine.monitoring.failure()
            return refusal_of(upload.name, error)
        probabilities, unfamiliarity = await self._batcher.submit(image)
        if not np.isfinite(probabilities).all():
            self._engine.monitoring.failure()
            return Refusal(422, f"{upload.name}: {NOT_FINITE}", "send another image")
        # the path is not used
        decided = self._predictor.prediction(Path(), probabilities, unfamiliarity, None)
        best = most_probable(self._predictor, probabilities, top_k)
        return {
            "file": upload.name,
            **counted_answer(decided, self._predictor, self._engine, self.info),
            **best,
        }

    def _decode(self, upload: Upload) -> NDArray[np.uint8]:
        with name_if_slow(upload.name):
            check_pixels(upload.content, self._engine.limits.max_pixels, self._tiff)
            return self._predictor.input_of(upload.content)


def counted_answer(
    decided: Prediction, decisions: Decisions, engine: Engine, model: Info
) -> dict[str, Any]:
    """Return and count what a model decides for an image or a row."""
    answer = answer_of(decided, decisions)
    if engine.log is not None:
        # the cells of a table of predictions, whose second column is a number for one class only
        columns = decisions.target.columns
        cells = decisions.target.cells(decided.classes, [f"{p:.6f}" for p in decided.probabilities])
        confidence = float(cells[1]) if columns[1].kind == "number" else None
        unfamiliarity = decided.unfamiliarity
        engine.log.add(model.sha256, cells[0], confidence=confidence, unfamiliarity=unfamiliarity)
    engine.monitoring.prediction(decided.classes, answer.get("unfamiliar", False))
    return answer

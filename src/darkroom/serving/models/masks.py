"""Serves a model that predicts the mask of an image: the shares of the classes, and a PNG."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from darkroom.decoding.bad_image import BadImage
from darkroom.prediction.answers import mask_answer
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.tiles import NotFiniteError
from darkroom.serving.engine import Engine
from darkroom.serving.models.interface import Info, Options, gathered
from darkroom.serving.models.pictures import RAW_TYPES, check_pixels, refusal_of
from darkroom.serving.refusal import Refusal
from darkroom.serving.uploads import Upload


class MaskModel:
    """An exported model of masks; one image at a time, since each has batches of tiles of its own."""

    raw_types: tuple[str, ...] = RAW_TYPES
    shown: str = "mask"
    names_classes: bool = False

    def __init__(self, predictor: Predictor, info: Info, options: Options, engine: Engine) -> None:
        self.info = info
        self._predictor, self._options, self._engine = predictor, options, engine

    def warm_up(self) -> None:
        self._predictor.probabilities(np.zeros((1, *self._predictor.input_shape), np.uint8))

    async def answers(self, uploads: Sequence[Upload], top_k: int) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        with self._engine.images.take(len(uploads)):
            return await gathered(
                [
                    loop.run_in_executor(self._engine.inference, self._answer, upload, top_k)
                    for upload in uploads
                ]
            )

    def _answer(self, upload: Upload, top_k: int) -> dict[str, Any] | Refusal:
        try:
            check_pixels(upload.content, self._engine.limits.max_pixels, self._options.tiff)
            mask = self._predictor.mask_of(upload.content, self._options.tile)
        except BadImage as error:
            self._engine.monitoring.failure()
            return refusal_of(upload.name, error)
        except NotFiniteError as error:
            self._engine.monitoring.failure()
            return Refusal(422, f"{upload.name}: {error}", "send another image")
        answer = mask_answer(mask, self._predictor.class_names, top_k)
        self._engine.monitoring.batch(1)
        self._engine.monitoring.prediction([answer["shares"][0]["class"]], False)
        return {"file": upload.name, **answer}

"""The model in Ray Serve, with its batches; the process that answers decodes in threads.

python with_ray.py EXPORT PORT
"""

import asyncio
import sys
import threading
from pathlib import Path

from fastapi import FastAPI, UploadFile
from numpy.typing import NDArray
from ray import serve

from darkroom.prediction.predictor import Predictor

app = FastAPI()


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
@serve.ingress(app)
class Classifier:
    """Decodes one image per request, and classifies a batch at a time."""

    def __init__(self, export: Path) -> None:
        self.predictor = Predictor(export)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def classify(self, images: list[NDArray]) -> list[list[float]]:
        outputs = await asyncio.to_thread(self.predictor.outputs, images)
        return [probabilities.tolist() for probabilities, _ in outputs]

    @app.post("/predict")
    async def predict(self, file: UploadFile) -> list[float]:
        """Returns the probabilities of an image."""
        content = await file.read()
        return await self.classify(await asyncio.to_thread(self.predictor.input_of, content))


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Classifier.bind(Path(sys.argv[1]).resolve()))  # type: ignore[attr-defined]
    threading.Event().wait()

"""The model in BentoML, with its adaptive batches: `bentoml serve with_bentoml:Classifier`.

The folder of the export is in the variable EXPORT.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bentoml
import numpy as np
from numpy.typing import NDArray

from darkroom.prediction.predictor import Predictor


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 256})
class Classifier:
    """Decodes and classifies a batch at a time."""

    def __init__(self) -> None:
        self.predictor = Predictor(Path(os.environ["EXPORT"]))
        self.pool = ThreadPoolExecutor()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=60_000)
    def predict(self, file: list[Path]) -> list[list[float]]:
        """Returns the probabilities of each image."""
        decoded = list(self.pool.map(self._input_of, file))
        return [probabilities.tolist() for probabilities, _ in self.predictor.outputs(decoded)]

    def _input_of(self, path: Path) -> NDArray[np.uint8]:
        return self.predictor.input_of(path.read_bytes())

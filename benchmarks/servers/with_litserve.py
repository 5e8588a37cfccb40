"""The model in LitServe: its own process for inference, which decodes in threads.

python with_litserve.py EXPORT PORT
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import litserve
from fastapi import Request

from darkroom.prediction.predictor import Predictor


class Classifier(litserve.LitAPI):
    """Decodes and classifies a batch at a time."""

    def setup(self, device: str) -> None:
        self.predictor = Predictor(Path(sys.argv[1]))
        self.pool = ThreadPoolExecutor()

    def decode_request(self, request: Request) -> bytes:
        return request["file"].file.read()

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, images: list[bytes]) -> list[list[float]]:
        decoded = list(self.pool.map(self.predictor.input_of, images))
        return [probabilities.tolist() for probabilities, _ in self.predictor.outputs(decoded)]

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> list[float]:
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=64, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")

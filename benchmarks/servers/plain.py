"""FastAPI and uvicorn without batches: each request runs the model in a thread of its own.

python plain.py EXPORT PORT
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, UploadFile

from darkroom.prediction.predictor import Predictor

app = FastAPI()
predictor = Predictor(Path(sys.argv[1]))


@app.post("/predict")
def predict(file: UploadFile) -> list[float]:
    """Returns the probabilities of an image."""
    [(probabilities, _)] = predictor.outputs([predictor.input_of(file.file.read())])
    return probabilities.tolist()


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")

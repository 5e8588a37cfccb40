"""The file from which MLflow loads a model of darkroom: its code and files are in the same folder."""

import sys
from pathlib import Path

from mlflow.models import set_model

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER / "darkroom.zip"))

from darkroom.prediction.pyfunc.model import ExportedModel  # noqa: E402

set_model(ExportedModel(FOLDER))

"""The exported model as MLflow knows models: tables in, a list of answers out."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from darkroom.errors import UserError
from darkroom.prediction.pyfunc.cells import Unusable
from darkroom.prediction.pyfunc.models import load_answering
from darkroom.prediction.pyfunc.options import TOP_K, Options


class ExportedModel(PythonModel):
    """The model in a folder with ``model.json`` and ``model.onnx``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model.

        Raises:
            UserError: a file is missing or damaged, or the model does not fit ``model_config``.
        """
        self._model = load_answering(self._folder, Options.of(context.model_config or {}))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return an answer for each image or row.

        Args:
            model_input: images in the columns ``image`` (base64, bytes or pixels) or ``path``; or rows
                with the columns of the model.
            params: ``top_k``, the number of the most probable classes to name.

        Raises:
            MlflowException: nothing can be answered; servers answer 400.
        """
        top_k = (params or {}).get("top_k", TOP_K)
        try:
            if top_k < 1:
                raise Unusable(f"top_k is {top_k}", "give an integer from 1")
            answers = self._model.answers(model_input, top_k)
            refused = [answer for answer in answers if isinstance(answer, Unusable)]
            if len(refused) == len(answers):
                raise refused[0]
        except Unusable as error:
            raise _refused(f"{error.error}; {error.what_to_do}") from None
        except UserError as error:
            raise _refused(f"{error}") from None
        return [one.answer() if isinstance(one, Unusable) else one for one in answers]


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)

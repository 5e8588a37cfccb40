"""No library may report on the people who use darkroom."""

import os


def switch_off_telemetry() -> None:
    """Switch it off in this process and its children, before a library that has it is imported.

    MLflow's is switched off where MLflow is used.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # of ONNX Runtime
